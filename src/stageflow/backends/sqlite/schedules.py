"""Schedules: stored, and fired once however many look."""

import json
from collections.abc import Sequence
from datetime import datetime

from stageflow.backends.sqlite.clock import stored_time, to_micros
from stageflow.backends.sqlite.connection import Row, Transaction
from stageflow.backends.sqlite.jobs import create_jobs_in
from stageflow.backends.sqlite.part import StorePart
from stageflow.contracts.schedule import Firing, NewSchedule, ScheduleRecord, ScheduleState

_SCHEDULE = (
    "select name, job_type, parameters, cron, time_zone, catch_up, priority, timeout_seconds, state, next_fire_at,"
    " last_fire_at, last_job_id, error_details, created_at, updated_at from stageflow_schedules "
)
_DUE = (
    "where state = 'active' and next_fire_at is not null and next_fire_at <= ?"
    " and job_type in (select value from json_each(?)) order by next_fire_at, name limit ?"
)
_PUT = (
    "insert into stageflow_schedules (name, job_type, parameters, cron, time_zone, catch_up, priority, timeout_seconds,"
    " next_fire_at, created_at, updated_at) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)"
    " on conflict (name) do update set job_type = ?2, parameters = ?3, cron = ?4, time_zone = ?5, catch_up = ?6, priority = ?7,"
    " timeout_seconds = ?8, state = 'active', error_details = null, updated_at = ?10, next_fire_at = case"
    " when cron = ?4 and time_zone = ?5 and state = 'active' then next_fire_at else ?9 end"
    " where job_type <> ?2 or parameters <> ?3 or cron <> ?4 or time_zone <> ?5 or catch_up <> ?6 or priority <> ?7"
    " or timeout_seconds is not ?8"
)


class SqliteSchedules(StorePart):
    """Keeps schedules and fires them."""

    def put_schedule(self, schedule: NewSchedule) -> ScheduleRecord:
        """Store a schedule, or change the one with its name; one that says the same stays as it is."""
        with self._database.transaction() as tx:
            tx.run(
                _PUT,
                (
                    schedule.name,
                    schedule.job_type,
                    schedule.parameters,
                    schedule.cron,
                    schedule.time_zone,
                    schedule.catch_up.value,
                    schedule.priority,
                    schedule.timeout_seconds,
                    to_micros(schedule.next_fire_at),
                    tx.now,
                ),
            )
            return _read(tx, schedule.name)[0]

    def list_schedules(self, name: str | None = None) -> list[ScheduleRecord]:
        """Return all schedules by name, or the one with this name."""
        with self._database.reading() as tx:
            return _read(tx, name)

    def remove_schedule(self, name: str) -> bool:
        """Delete a schedule; ``False``: there was none."""
        with self._database.transaction() as tx:
            return tx.run("delete from stageflow_schedules where name = ?", (name,)) == 1

    def change_schedule_state(self, name: str, state: ScheduleState, next_fire_at: datetime | None) -> ScheduleRecord | None:
        """Let a schedule be active, with this next fire time, or paused; ``None``: there is none."""
        with self._database.transaction() as tx:
            tx.run(
                "update stageflow_schedules set state = ?1, next_fire_at = coalesce(?2, next_fire_at), updated_at = ?3,"
                " error_details = case when ?1 = 'active' then null else error_details end where name = ?4",
                (state.value, None if next_fire_at is None else to_micros(next_fire_at), tx.now, name),
            )
            found = _read(tx, name)
            return found[0] if found else None

    def list_due_schedules(self, job_types: Sequence[str], limit: int) -> list[ScheduleRecord]:
        """Return active schedules of these job types whose fire time has come by the store's clock, oldest first."""
        with self._database.reading() as tx:
            rows = tx.rows(
                _SCHEDULE + _DUE,
                (tx.now, json.dumps(list(job_types)), limit),
            )
        return [_schedule(row) for row in rows]

    def fire_schedule(self, firing: Firing) -> bool:
        """Move a schedule on and create its jobs, in one transaction; ``False``: somebody else did, or it is not due."""
        with self._database.transaction() as tx:
            moved = tx.run(
                "update stageflow_schedules set next_fire_at = ?1, last_fire_at = coalesce(?2, last_fire_at),"
                " last_job_id = coalesce(?3, last_job_id), updated_at = ?4"
                " where name = ?5 and state = 'active' and next_fire_at = ?6 and next_fire_at <= ?4",
                (
                    to_micros(firing.next_fire_at),
                    None if firing.last_fire_at is None else to_micros(firing.last_fire_at),
                    firing.jobs[-1].job_id if firing.jobs else None,
                    tx.now,
                    firing.name,
                    to_micros(firing.expected),
                ),
            )
            if moved:
                create_jobs_in(tx, firing.jobs)
            return moved == 1

    def fail_schedule(self, name: str, expected: datetime | None, error: str) -> bool:
        """Stop an active schedule that cannot fire, and keep the reason; ``False``: it moved on, or is not active."""
        with self._database.transaction() as tx:
            failed = tx.run(
                "update stageflow_schedules set state = 'failed', next_fire_at = null, error_details = ?1, updated_at = ?2"
                " where name = ?3 and state = 'active' and (?4 is null or next_fire_at = ?4)",
                (error, tx.now, name, None if expected is None else to_micros(expected)),
            )
            return failed == 1


def _read(tx: Transaction, name: str | None) -> list[ScheduleRecord]:
    return [_schedule(row) for row in tx.rows(_SCHEDULE + "where ?1 is null or name = ?1 order by name", (name,))]


def _schedule(row: Row) -> ScheduleRecord:
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
        next_fire_at=stored_time(row[9]),
        last_fire_at=stored_time(row[10]),
        last_job_id=row[11],
        error_details=row[12],
        created_at=stored_time(row[13]),
        updated_at=stored_time(row[14]),
    )
