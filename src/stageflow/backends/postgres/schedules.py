"""Schedules: stored, and fired once however many look."""

from collections.abc import Sequence
from datetime import datetime

from psycopg.rows import TupleRow

from stageflow.backends.postgres.jobs import creation
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.schedule import Firing, NewSchedule, ScheduleRecord, ScheduleState


class Schedules(Part):
    """Satisfies ``stageflow.ports.ScheduleStore``."""

    def put_schedule(self, schedule: NewSchedule) -> ScheduleRecord:
        """Store a schedule, or change the one with its name; one that says the same stays as it is."""
        self._database.write(
            query("put_schedule"),
            (
                schedule.name,
                schedule.job_type,
                schedule.parameters,
                schedule.cron,
                schedule.time_zone,
                schedule.catch_up.value,
                schedule.priority,
                schedule.timeout_seconds,
                schedule.next_fire_at,
            ),
        )
        return self.list_schedules(schedule.name)[0]

    def list_schedules(self, name: str | None = None) -> list[ScheduleRecord]:
        """Return all schedules by name, or the one with this name."""
        return [_schedule(row) for row in self._database.read(query("list_schedules"), (name,))]

    def remove_schedule(self, name: str) -> bool:
        """Delete a schedule; ``False``: there was none."""
        return bool(self._database.write(query("remove_schedule"), (name,)))

    def change_schedule_state(self, name: str, state: ScheduleState, next_fire_at: datetime | None) -> ScheduleRecord | None:
        """Let a schedule be active, with this next fire time, or paused; ``None``: there is none."""
        self._database.write(query("change_schedule_state"), (name, state.value, next_fire_at))
        found = self.list_schedules(name)
        return found[0] if found else None

    def list_due_schedules(self, job_types: Sequence[str], limit: int) -> list[ScheduleRecord]:
        """Return active schedules of these job types whose fire time has come by the store's clock, oldest first."""
        rows = self._database.read(query("list_due_schedules"), (list(job_types), limit))
        return [_schedule(row) for row in rows]

    def fire_schedule(self, firing: Firing) -> bool:
        """Move a schedule on and create its jobs, in one transaction; ``False``: somebody else did, or it is not due."""
        ((fired,),) = self._database.write(
            query("fire_schedule"),
            (firing.name, firing.expected, firing.next_fire_at, firing.last_fire_at, *creation(firing.jobs)),
        )
        return bool(fired)

    def fail_schedule(self, name: str, expected: datetime | None, error: str) -> bool:
        """Stop an active schedule that cannot fire, and keep the reason; ``False``: it moved on, or is not active."""
        return bool(self._database.write(query("fail_schedule"), (name, expected, error)))


def _schedule(row: TupleRow) -> ScheduleRecord:
    return ScheduleRecord.from_columns(
        name=row[0],
        job_type=row[1],
        parameters=row[2],
        cron=row[3],
        time_zone=row[4],
        catch_up=row[5],
        priority=row[6],
        timeout_seconds=row[7],
        state=row[8],
        next_fire_at=row[9],
        last_fire_at=row[10],
        last_job_id=row[11],
        error_details=row[12],
        created_at=row[13],
        updated_at=row[14],
    )
