"""Leases while they are held: heartbeats, returns, and who holds what."""

import json
from collections.abc import Sequence

from pydantic import TypeAdapter

from stageflow.backends.sqlite.barrier import close_work, count_off, tally_of
from stageflow.backends.sqlite.clock import span_micros, stored_time, to_micros
from stageflow.backends.sqlite.connection import Row, Transaction
from stageflow.backends.sqlite.events import note_stage_event
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Work, get_leased, insert_part, json_list, make_next_attempt, make_ready
from stageflow.contracts.damage import ROW_FAULTS, malformed
from stageflow.contracts.event import CLOSED_TASKS, CONTROL_RETRIED, EventKind
from stageflow.contracts.lease import HeldLease, LeaseExtension, RangeReturn, SeenLease, WorkKind
from stageflow.contracts.status import TERMINAL_JOB_STATUSES, TaskStatus
from stageflow.contracts.worker import WorkerRecord

_texts = TypeAdapter(list[str])


class SqliteHolding(StorePart):
    """Extends, returns and lists leases; knows the workers."""

    def extend_leases(
        self,
        worker_id: str,  # noqa: ARG002  the port names it for those who read logs; tokens are unique, so they decide
        leases: Sequence[HeldLease],
        lease_seconds: float,
    ) -> LeaseExtension:
        """Raise the beat and the expiry of leases still held; the tokens alone decide who holds them."""
        held: list[int] = []
        stages: list[tuple[int, bool]] = []
        with self._database.transaction() as tx:
            expires_at = tx.now + span_micros(lease_seconds)
            for lease in leases:
                index = lease.current_index
                row = tx.row(
                    "update stageflow_ranges set beat = beat + 1, lease_expires_at = ?, renewed_at = ?, current_index = ?,"
                    " current_since = case when current_index = ? then current_since else ? end"
                    " where range_id = ? and token = ? and state = 'leased' returning stage_id, kind = 'task'",
                    (expires_at, tx.now, index, index, tx.now, lease.range_id, lease.token),
                )
                if row is not None:
                    held.append(lease.token)
                    stages.append((row[0], bool(row[1])))
            stopping = _list_stopping(tx, stages)
        return LeaseExtension(
            held=held, stopping=[token for token, stage in zip(held, stages, strict=True) if stage in stopping]
        )

    def return_ranges(self, returns: Sequence[RangeReturn]) -> list[bool]:
        """Give unstarted tails back; ``False`` where the lease was lost, ``True`` also for an empty tail."""
        with self._database.transaction() as tx:
            return [_return(tx, given) for given in returns]

    def list_leases(self, limit: int) -> list[SeenLease]:
        """Return leases and their beats, those that expire first at the head."""
        with self._database.reading() as tx:
            rows = tx.rows(
                "select range_id, token, beat from stageflow_ranges where state = 'leased' order by lease_expires_at limit ?",
                (limit,),
            )
        return [SeenLease(range_id=row[0], token=row[1], beat=row[2]) for row in rows]

    def register_worker(self, worker: WorkerRecord) -> None:
        """Write or refresh a worker's row; its ``seen_at`` becomes the store's time."""
        with self._database.transaction() as tx:
            tx.run(
                "insert into stageflow_workers (worker_id, host, pid, slots, work_types, started_at, seen_at)"
                " values (?, ?, ?, ?, ?, ?, ?) on conflict (worker_id) do update set host = excluded.host, pid = excluded.pid,"
                " slots = excluded.slots, work_types = excluded.work_types, started_at = excluded.started_at,"
                " seen_at = excluded.seen_at",
                (
                    worker.worker_id,
                    worker.host,
                    worker.pid,
                    worker.slots,
                    json_list(worker.work_types),
                    to_micros(worker.started_at),
                    tx.now,
                ),
            )

    def remove_worker(self, worker_id: str) -> None:
        """Delete the row of a worker that has stopped."""
        with self._database.transaction() as tx:
            tx.run("delete from stageflow_workers where worker_id = ?", (worker_id,))

    def list_workers(self, seen_within_seconds: float) -> list[WorkerRecord]:
        """Return the workers that were seen lately, by id."""
        with self._database.reading() as tx:
            rows = tx.rows(
                "select worker_id, host, pid, slots, work_types, started_at, seen_at from stageflow_workers"
                " where seen_at >= ? order by worker_id",
                (tx.now - span_micros(seen_within_seconds),),
            )
        return [_to_worker(row) for row in rows]


def _to_worker(row: Row) -> WorkerRecord:
    try:
        return WorkerRecord(
            worker_id=row[0],
            host=row[1],
            pid=row[2],
            slots=row[3],
            work_types=_texts.validate_json(row[4]),
            started_at=stored_time(row[5]),
            seen_at=stored_time(row[6]),
        )
    except ROW_FAULTS as error:
        what = f"worker {row[0]}"
        raise malformed(what, error) from error


def _list_stopping(tx: Transaction, stages: Sequence[tuple[int, bool]]) -> set[tuple[int, bool]]:
    """Return of the stages, each with whether its tasks are meant, those in which there is no use in going on.

    A stage that has halted is still to be planned to its end, and left.
    """
    rows = tx.rows(
        "select s.stage_id, s.halted, s.run <> j.run, j.status from json_each(?) asked cross join stageflow_stages s"
        " on s.stage_id = asked.value"
        " join stageflow_jobs j on j.job_id = s.job_id",
        (json.dumps(sorted({stage_id for stage_id, _ in stages})),),
    )
    return {
        (stage_id, of_task)
        for stage_id, halted, is_former, status in rows
        for of_task in (False, True)
        if (halted and of_task) or is_former or status in TERMINAL_JOB_STATUSES
    }


def _return(tx: Transaction, given: RangeReturn) -> bool:
    work = get_leased(tx, given.range_id, given.token)
    if work is None:
        return False
    if given.first >= work.last and work.is_task:
        return True
    ended = _end_of(work)
    if not work.is_task or given.first <= work.first:
        if ended is not None:
            close_work(tx, work, ended)
        elif given.retry_delay_seconds is not None:
            make_next_attempt(tx, work.range_id, delay_seconds=given.retry_delay_seconds, error_details=given.error_details)
            _note_retry(tx, work, given.error_details)
        else:
            make_ready(tx, work.range_id, suspect=work.suspect, deaths=work.deaths, attempt=work.attempt)
        return True
    tx.run("update stageflow_ranges set last = ? where range_id = ?", (given.first, work.range_id))
    if ended is None:
        insert_part(tx, work, given.first, work.last)
    else:
        close_part(tx, work, given.first, work.last, ended)
    return True


def _note_retry(tx: Transaction, work: Work, error_details: str | None) -> None:
    note_stage_event(
        tx,
        work.stage_id,
        EventKind.TASKS_RETRIED if work.is_task else CONTROL_RETRIED[WorkKind(work.kind)],
        tasks=(work.first, work.last) if work.is_task else None,
        attempt=work.attempt,
        worker_id=work.worker_id,
        detail=error_details,
    )


def close_part(tx: Transaction, work: Work, first: int, last: int, status: TaskStatus) -> None:
    """Insert a part of a range as a closed row and take it off the counters."""
    range_id = insert_part(tx, work, first, last, state=status.value)
    tx.run("update stageflow_ranges set closed_at = ? where range_id = ?", (tx.now, range_id))
    note_stage_event(tx, work.stage_id, CLOSED_TASKS[status], tasks=(first, last))
    count_off(tx, work.stage_id, tally_of(status, last - first))


def _end_of(work: Work) -> TaskStatus | None:
    """Return as what a range must be closed instead of being opened; ``None`` where it may be opened."""
    if work.job_ended:
        return TaskStatus.CANCELLED
    if work.halted and work.is_task:
        return TaskStatus.SKIPPED
    return None
