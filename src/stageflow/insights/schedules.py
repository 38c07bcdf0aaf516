"""Schedules that do not fire, for the doctor."""

from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Final

from stageflow.contracts.schedule import ScheduleState
from stageflow.insights.diagnosis import Ailment, AilmentKind
from stageflow.insights.words import clock_time, duration, last_line
from stageflow.ports import Store

_LATE: Final = timedelta(seconds=60)


def examine_schedules(store: Store, job_types: Collection[str]) -> Iterator[Ailment]:
    """Yield the schedules that failed, those whose rows are damaged, and those that are due and that nobody fires.

    Args:
        store: Where they are.
        job_types: The workflows that are registered here.
    """
    now = store.now()
    for schedule in store.list_schedules():
        if schedule.state is ScheduleState.FAILED:
            yield Ailment(
                kind=AilmentKind.SCHEDULE_FAILED,
                text=f"schedule {schedule.name} of {schedule.job_type} failed: {last_line(schedule.error_details)}",
                since=schedule.updated_at,
                advice="schedule it again with parameters that its workflow takes; or mend the workflow, and "
                f"`stageflow schedules resume {schedule.name}`",
            )
        elif schedule.damage is not None:
            yield Ailment(
                kind=AilmentKind.ROW_DAMAGED,
                text=f"the row of schedule {schedule.name} is damaged: {schedule.damage}",
                advice=f"schedule it again under its name, or `stageflow schedules remove {schedule.name}`",
            )
        elif (
            schedule.state is ScheduleState.ACTIVE and schedule.next_fire_at is not None and now - schedule.next_fire_at > _LATE
        ):
            due = f"{clock_time(schedule.next_fire_at, now)} ({duration(now - schedule.next_fire_at)} ago)"
            known = "" if schedule.job_type in job_types else f"; workflow {schedule.job_type} is not registered here"
            yield Ailment(
                kind=AilmentKind.SCHEDULE_LATE,
                text=f"schedule {schedule.name} should have fired at {due}, and nobody did{known}",
                since=schedule.next_fire_at,
                advice=f"start a worker whose app registers {schedule.job_type}, or call app.maintain() from a timer there",
            )
