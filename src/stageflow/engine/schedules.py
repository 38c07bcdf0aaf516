"""Schedules: made, fired once however many processes look, and stopped loudly where they cannot fire."""

from datetime import UTC, datetime, timedelta
from typing import Final

from stageflow.contracts.base import Contract, inline_json
from stageflow.contracts.job import NewJob
from stageflow.contracts.schedule import MOST_CAUGHT_UP, CatchUp, Firing, NewSchedule, ScheduleRecord, ScheduleState
from stageflow.contracts.submission import SubmitOptions
from stageflow.engine.cron import Cron
from stageflow.engine.hooks import error_text, let_interrupt_pass
from stageflow.engine.submit import new_job, validated
from stageflow.errors import InvalidValueError, ScheduleNotFoundError, StoreError
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.workflow.registry import JobRegistry, Workflow

SKIP_GRACE: Final = timedelta(minutes=5)
"""A fire time that passed no longer ago than this is not missed, only late: ``catch_up="skip"`` fires it."""

_DUE_BATCH: Final = 100


def put_schedule(
    workflow: Workflow,
    parameters: Contract,
    repositories: Repositories,
    telemetry: Telemetry,
    *,
    name: str,
    cron: str,
    time_zone: str,
    catch_up: str,
    priority: int,
    timeout_seconds: float | None,
) -> ScheduleRecord:
    """Store a schedule, or change the one with its name; one that says the same stays as it is.

    Raises:
        ContractViolationError: The parameters are not the workflow's model.
        InvalidValueError: Another argument cannot be; nothing is stored.
    """
    text = inline_json(validated(workflow, parameters, "schedule").to_json(), f"the parameters of the schedule {name!r}")
    now = repositories.store.now()
    wanted = NewSchedule.checked(
        name=name,
        job_type=workflow.job_type,
        parameters=text,
        cron=cron,
        time_zone=time_zone,
        catch_up=catch_up,
        priority=priority,
        timeout_seconds=timeout_seconds,
        next_fire_at=now,
    )
    first = Cron(wanted.cron, wanted.time_zone).next_after(now)
    stored = repositories.schedules.put_schedule(wanted.model_copy(update={"next_fire_at": first}))
    telemetry.emit("schedule_stored", schedule=name, next_fire_at=str(stored.next_fire_at))
    return stored


def require_schedule(name: str, repositories: Repositories) -> ScheduleRecord:
    """Return a schedule.

    Raises:
        ScheduleNotFoundError: There is none with this name.
    """
    found = repositories.schedules.list_schedules(name)
    if not found:
        msg = f"there is no schedule {name!r}; `stageflow schedules list` shows those there are"
        raise ScheduleNotFoundError(msg)
    return found[0]


def remove_schedule(name: str, repositories: Repositories, telemetry: Telemetry) -> None:
    """Delete a schedule; the jobs that it made stay.

    Raises:
        ScheduleNotFoundError: There is none with this name.
    """
    require_schedule(name, repositories)
    if repositories.schedules.remove_schedule(name):
        telemetry.emit("schedule_removed", schedule=name)


def pause_schedule(name: str, repositories: Repositories) -> ScheduleRecord:
    """Let a schedule fire no more until it is resumed.

    Raises:
        ScheduleNotFoundError: There is none with this name.
    """
    repositories.schedules.change_schedule_state(name, ScheduleState.PAUSED, None)
    return require_schedule(name, repositories)


def resume_schedule(name: str, repositories: Repositories) -> ScheduleRecord:
    """Let a paused or failed schedule fire again, from its next fire time on; what passed meanwhile is not made good.

    Raises:
        ScheduleNotFoundError: There is none with this name.
    """
    schedule = require_schedule(name, repositories)
    if schedule.state is not ScheduleState.ACTIVE:
        following = Cron(schedule.cron, schedule.time_zone).next_after(repositories.store.now())
        repositories.schedules.change_schedule_state(name, ScheduleState.ACTIVE, following)
    return require_schedule(name, repositories)


def fire_due(registry: JobRegistry, repositories: Repositories, telemetry: Telemetry) -> int:
    """Fire the schedules that are due by the store's clock, and return how many jobs that made.

    Safe from any number of processes. Only those whose workflow is registered here: workers that know the
    others fire them.
    """
    job_types = sorted({workflow.job_type for workflow in registry.workflows()})
    created = 0
    for schedule in repositories.schedules.list_due_schedules(job_types, _DUE_BATCH):
        expected = schedule.next_fire_at
        try:
            firing = _firing_of(schedule, registry, repositories.store.now())
            fired = repositories.schedules.fire_schedule(firing)
        except StoreError:
            raise
        except BaseException as error:  # noqa: BLE001  the author's validation is called, which may raise anything
            let_interrupt_pass(error)
            _fail(schedule, expected, error, repositories, telemetry)
            continue
        if fired:
            created += len(firing.jobs)
            telemetry.emit("schedule_fired", schedule=schedule.name, jobs=len(firing.jobs), fire_time=str(expected))
    return created


def _firing_of(schedule: ScheduleRecord, registry: JobRegistry, now: datetime) -> Firing:
    """Return what a due schedule is to do, whose model checks the parameters again.

    Raises:
        InvalidValueError: Its row is damaged.
    """
    expected = schedule.next_fire_at
    if schedule.damage is not None or expected is None:
        msg = f"its row is damaged: {schedule.damage}; schedule it again, or remove it"
        raise InvalidValueError(msg)
    cron = Cron(schedule.cron, schedule.time_zone)
    workflow = registry.find(schedule.job_type)
    parameters = workflow.parameters_model.from_json(schedule.parameters_text)
    times = _chosen(schedule.catch_up, cron.missed(expected, now, MOST_CAUGHT_UP), now)
    return Firing(
        name=schedule.name,
        expected=expected,
        next_fire_at=cron.next_after(now),
        jobs=tuple(_job_of(schedule, workflow, parameters, fire_time) for fire_time in times),
        last_fire_at=times[-1] if times else None,
    )


def _chosen(catch_up: CatchUp, due: list[datetime], now: datetime) -> list[datetime]:
    match catch_up:
        case CatchUp.ALL:
            return due
        case CatchUp.ONE:
            return due[-1:]
        case CatchUp.SKIP:
            return [fire_time for fire_time in due[-1:] if now - fire_time <= SKIP_GRACE]


def _job_of(schedule: ScheduleRecord, workflow: Workflow, parameters: Contract, fire_time: datetime) -> NewJob:
    moment = fire_time.astimezone(UTC).isoformat()
    options = SubmitOptions(
        # The same fire time is the same job, whatever else may go wrong.
        idempotency_key=f"schedule:{schedule.name}@{moment}",
        priority=schedule.priority,
        timeout_seconds=schedule.timeout_seconds,
    )
    job = new_job(workflow, parameters, options, workflow.definition.new_stage(1))
    return job.model_copy(update={"metadata": {"schedule": schedule.name, "scheduled_for": moment}})


def _fail(
    schedule: ScheduleRecord,
    expected: datetime | None,
    error: BaseException,
    repositories: Repositories,
    telemetry: Telemetry,
) -> None:
    reason = f"the schedule cannot fire: {error_text(error)}"
    if repositories.schedules.fail_schedule(schedule.name, expected, reason):
        telemetry.emit("schedule_failed", schedule=schedule.name, error=reason)
