"""Schedules: stored, and fired once however many look."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from stageflow.contracts.schedule import Firing, NewSchedule, ScheduleRecord, ScheduleState


class ScheduleStore(Protocol):
    """Schedules."""

    def put_schedule(self, schedule: NewSchedule) -> ScheduleRecord:
        """Store a schedule, or change the one with its name.

        One that is the same in all it says stays as it is, whatever its state. A changed one is active; it keeps its next fire
        time where cron and time zone are the same.
        """
        ...

    def list_schedules(self, name: str | None = None) -> list[ScheduleRecord]:
        """Return all schedules by name, or the one with this name; a damaged one says so, and hides no other."""
        ...

    def remove_schedule(self, name: str) -> bool:
        """Delete a schedule; its jobs stay. ``False``: there was none."""
        ...

    def change_schedule_state(self, name: str, state: ScheduleState, next_fire_at: datetime | None) -> ScheduleRecord | None:
        """Let a schedule be active, with this next fire time, or paused; ``None``: there is none."""
        ...

    def list_due_schedules(self, job_types: Sequence[str], limit: int) -> list[ScheduleRecord]:
        """Return active schedules of these job types whose fire time has come by the store's clock, oldest first."""
        ...

    def fire_schedule(self, firing: Firing) -> bool:
        """Move a schedule on and create its jobs, in one transaction.

        ``False``: it is not active, not due, or somebody else fired it; nothing changed.

        Raises:
            IdempotencyConflictError: A job of the same fire time has other parameters; nothing changed.
        """
        ...

    def fail_schedule(self, name: str, expected: datetime | None, error: str) -> bool:
        """Stop an active schedule that cannot fire, and keep the reason; ``False``: it moved on, or is not active.

        ``None`` for one whose fire time cannot be read: it cannot move on.
        """
        ...
