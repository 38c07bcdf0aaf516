"""The one way by which tasks leave a stage's counters, and what happens when none remains.

Everything here runs in a caller's transaction, which holds the database's write lock: no two finishers are ever here at once.
"""

from typing import NamedTuple

from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.decisions import should_halt
from stageflow.backends.sqlite.events import note_stage_event
from stageflow.backends.sqlite.ranges import Holder, Work, delete_range, get_work, insert_range, lease_range
from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.event import CLOSED_TASKS, EventKind
from stageflow.contracts.ids import control_work_type
from stageflow.contracts.lease import Lease, WorkKind
from stageflow.contracts.status import TERMINAL_JOB_STATUSES, TERMINAL_STAGE_STATUSES, JobStatus, TaskStatus
from stageflow.errors import StoreStateError


class Tally(NamedTuple):
    """How many tasks ended in which way."""

    successful: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0


class Settlement(NamedTuple):
    """How a stage stands after tasks left its counters.

    Attributes:
        is_last: These were the stage's last tasks, and its job is open.
        advance: Lease on the advancement, where it was handed to a holder.
    """

    remaining: int
    halted: bool
    is_last: bool
    advance: Lease | None


class _Counters(NamedTuple):
    job_id: str
    run: int
    status: str
    generation: int
    task_count: int
    remaining: int
    failed: int
    skipped: int
    cancelled: int
    planned: int
    halted: int
    fail_fast: int
    minimum_success_rate: float | None

    @property
    def gives_up(self) -> bool:
        return should_halt(
            fail_fast=bool(self.fail_fast),
            minimum_success_rate=self.minimum_success_rate,
            planned=bool(self.planned),
            task_count=self.task_count,
            failed=self.failed,
            unsuccessful=self.failed + self.skipped + self.cancelled,
        )


def tally_of(status: TaskStatus, count: int) -> Tally:
    """Return the tally of ``count`` tasks that all ended in one way."""
    match status:
        case TaskStatus.COMPLETED:
            return Tally(successful=count)
        case TaskStatus.FAILED:
            return Tally(failed=count)
        case TaskStatus.SKIPPED:
            return Tally(skipped=count)
        case TaskStatus.CANCELLED:
            return Tally(cancelled=count)
        case _:
            msg = f"a task that is {status} has not ended and cannot leave its stage's counters; report it as queued instead"
            raise StoreStateError(msg)


def count_off(tx: Transaction, stage_id: int, tally: Tally, holder: Holder | None = None) -> Settlement:
    """Take ended tasks off a stage's counters, halt it if its policy gives up, and open its advancement if none remains.

    Args:
        holder: Who gets the lease on the advancement at once; otherwise it becomes ready.
    """
    counters = _subtract(tx, stage_id, tally)
    if counters.halted or counters.gives_up:
        if not counters.halted:
            note_stage_event(tx, stage_id, EventKind.STAGE_HALTED)
        # What came into a halted stage since (a retry, a chunk of its plan) goes with it.
        tx.run("update stageflow_stages set halted = 1 where stage_id = ?", (stage_id,))
        counters = _close_tasks(tx, stage_id, TaskStatus.SKIPPED)
    return _reach_barrier(tx, stage_id, counters, holder)


def close_waiting(tx: Transaction, stage_id: int, status: TaskStatus, holder: Holder | None = None) -> Settlement:
    """Close all task ranges of a stage that nobody holds, as skipped or cancelled: O(ranges)."""
    return _reach_barrier(tx, stage_id, _close_tasks(tx, stage_id, status), holder)


def drop_control(tx: Transaction, work: Work) -> None:
    """Delete the control range of an ended job; its stage is cancelled once nothing of it remains."""
    delete_range(tx, work.range_id)
    open_barrier(tx, work.stage_id)


def open_barrier(tx: Transaction, stage_id: int) -> None:
    """Let a stage go on if nothing remains of it: for what changes no counter."""
    _reach_barrier(tx, stage_id, _subtract(tx, stage_id, Tally()), None)


def close_work(tx: Transaction, work: Work, status: TaskStatus) -> None:
    """Close one range whose job has ended (``CANCELLED``) or whose stage has halted (``SKIPPED``); a holder loses it."""
    if not work.is_task:
        drop_control(tx, work)
        return
    tx.run(
        "update stageflow_ranges set state = ?, closed_at = ?, token = null, lease_expires_at = null where range_id = ?",
        (status.value, tx.now, work.range_id),
    )
    note_stage_event(tx, work.stage_id, CLOSED_TASKS[status], tasks=(work.first, work.last))
    count_off(tx, work.stage_id, tally_of(status, work.width))


def _subtract(tx: Transaction, stage_id: int, tally: Tally) -> _Counters:
    row = tx.row(
        "update stageflow_stages set successful_tasks = successful_tasks + ?, failed_tasks = failed_tasks + ?,"
        " skipped_tasks = skipped_tasks + ?, cancelled_tasks = cancelled_tasks + ?, remaining = remaining - ?, updated_at = ?"
        " where stage_id = ?"
        " returning job_id, run, status, generation, task_count, remaining, failed_tasks, skipped_tasks, cancelled_tasks,"
        " planned, halted, fail_fast, minimum_success_rate",
        (*tally, sum(tally), tx.now, stage_id),
    )
    if row is None:
        msg = f"stage {stage_id} is not stored; name a stage_id that a lease of this store gave"
        raise StoreStateError(msg)
    return _Counters._make(row)


def _close_tasks(tx: Transaction, stage_id: int, status: TaskStatus) -> _Counters:
    closed = tx.rows(
        "update stageflow_ranges set state = ?, closed_at = ? where stage_id = ? and kind = 'task'"
        " and state in ('ready', 'waiting', 'held') returning first, last",
        (status.value, tx.now, stage_id),
    )
    width = sum(last - first for first, last in closed)
    if closed:
        hull = (min(first for first, _ in closed), max(last for _, last in closed))
        note_stage_event(tx, stage_id, CLOSED_TASKS[status], tasks=hull, count=width)
    return _subtract(tx, stage_id, tally_of(status, width))


def _reach_barrier(tx: Transaction, stage_id: int, counters: _Counters, holder: Holder | None) -> Settlement:
    halted = bool(counters.halted)
    if counters.remaining or counters.status in TERMINAL_STAGE_STATUSES:
        return Settlement(counters.remaining, halted, is_last=False, advance=None)
    has_control = tx.row("select 1 from stageflow_ranges where stage_id = ? and kind <> 'task'", (stage_id,)) is not None
    job = tx.row(
        "select case when run = ? then status else 'cancelled' end, job_type, workflow_version, priority"
        " from stageflow_jobs where job_id = ?",
        (counters.run, counters.job_id),
    )
    if job is None:
        msg = f"stage {stage_id} belongs to job {counters.job_id}, which is not stored; {MEND_ROW}"
        raise StoreStateError(msg)
    status, job_type, workflow_version, priority = job
    if status in TERMINAL_JOB_STATUSES:
        if not has_control:
            tx.run("update stageflow_stages set status = 'cancelled' where stage_id = ?", (stage_id,))
            note_stage_event(tx, stage_id, EventKind.STAGE_CLOSED, status="cancelled")
        return Settlement(0, halted, is_last=False, advance=None)
    if has_control or not counters.planned:
        return Settlement(0, halted, is_last=False, advance=None)
    leased = holder is not None and status != JobStatus.PAUSED
    range_id = insert_range(
        tx,
        stage_id=stage_id,
        kind=WorkKind.ADVANCE.value,
        work_type=control_work_type(job_type, workflow_version),
        first=0,
        last=1,
        state="held" if leased or status == JobStatus.PAUSED else "ready",
        priority=priority,
        generation=counters.generation,
    )
    if holder is None or not leased:
        return Settlement(0, halted, is_last=True, advance=None)
    return Settlement(0, halted, is_last=True, advance=_lease_control(tx, range_id, holder))


def _lease_control(tx: Transaction, range_id: int, holder: Holder) -> Lease:
    work = get_work(tx, range_id)
    if work is None:
        msg = f"range {range_id} vanished in the transaction that made it; {MEND_ROW}"
        raise StoreStateError(msg)
    return lease_range(tx, work, holder)
