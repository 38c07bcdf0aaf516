"""Schedules: stored and fired."""

from collections.abc import Sequence
from datetime import datetime

from stageflow.contracts.base import inline_json
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.schedule import Firing, NewSchedule, ScheduleRecord, ScheduleState
from stageflow.ports import Store


class ScheduleRepository:
    """What creates jobs by a cron expression."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @enforce_contract
    def put_schedule(self, schedule: NewSchedule) -> ScheduleRecord:
        """Store a schedule, or change the one with its name."""
        inline_json(schedule.parameters, f"the parameters of the schedule {schedule.name!r}")
        return self._store.put_schedule(schedule)

    @enforce_contract
    def list_schedules(self, name: str | None = None) -> list[ScheduleRecord]:
        """Return all schedules by name, or the one with this name."""
        return self._store.list_schedules(name)

    @enforce_contract
    def remove_schedule(self, name: str) -> bool:
        """Delete a schedule; ``False`` where there is none."""
        return self._store.remove_schedule(name)

    @enforce_contract
    def change_schedule_state(self, name: str, state: ScheduleState, next_fire_at: datetime | None) -> ScheduleRecord | None:
        """Let a schedule be active, from a fire time on, or paused; ``None`` where there is none."""
        return self._store.change_schedule_state(name, state, next_fire_at)

    @enforce_contract
    def list_due_schedules(self, job_types: Sequence[str], limit: int) -> list[ScheduleRecord]:
        """Return active schedules of these job types whose fire time has come, oldest first."""
        return self._store.list_due_schedules(job_types, limit)

    @enforce_contract
    def fire_schedule(self, firing: Firing) -> bool:
        """Move a schedule on and create its jobs; ``False`` where somebody else did, or it is not due."""
        return self._store.fire_schedule(firing)

    @enforce_contract
    def fail_schedule(self, name: str, expected: datetime | None, error: str) -> bool:
        """Stop a schedule that cannot fire; ``False`` where it moved on meanwhile."""
        return self._store.fail_schedule(name, expected, error)
