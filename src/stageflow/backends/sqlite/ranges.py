"""Rows of the ranges table: read, leased, split, opened, closed. Everything here runs in a caller's transaction."""

import json
from typing import NamedTuple

from stageflow.backends.sqlite.clock import span_micros
from stageflow.backends.sqlite.connection import Transaction
from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.lease import Lease, WorkKind
from stageflow.contracts.status import TERMINAL_JOB_STATUSES, JobStatus
from stageflow.errors import StoreStateError


class Work(NamedTuple):
    """A row of the view ``stageflow_work``: a range with what a claim must know of its stage and job."""

    range_id: int
    stage_id: int
    kind: str
    work_type: str
    generation: int
    first: int
    last: int
    attempt: int
    state: str
    priority: int
    turn: int
    stride: int
    suspect: int
    deaths: int
    not_before: int | None
    token: int | None
    worker_id: str | None
    beat: int
    error_details: str | None
    checkpointed: int
    stage_number: int
    task_type: str
    stage_status: str
    halted: int
    planned: int
    job_id: str
    job_type: str
    workflow_version: int
    run: int
    job_status: str

    @property
    def width(self) -> int:
        """How many tasks the range holds; 1 for control work."""
        return self.last - self.first

    @property
    def is_task(self) -> bool:
        """Whether the range holds tasks."""
        return self.kind == WorkKind.TASK

    @property
    def job_ended(self) -> bool:
        """Whether the job is terminal."""
        return self.job_status in TERMINAL_JOB_STATUSES

    @property
    def job_paused(self) -> bool:
        """Whether the job is paused."""
        return self.job_status == JobStatus.PAUSED


class Holder(NamedTuple):
    """Who gets a lease, and until when."""

    worker_id: str
    expires_at: int


def get_work(tx: Transaction, range_id: int) -> Work | None:
    """Return one range."""
    row = tx.row("select * from stageflow_work where range_id = ?", (range_id,))
    return None if row is None else Work._make(row)


def get_leased(tx: Transaction, range_id: int | None, token: int | None) -> Work | None:
    """Return a range if it is leased under this token."""
    row = tx.row("select * from stageflow_work where range_id = ? and token = ? and state = 'leased'", (range_id, token))
    return None if row is None else Work._make(row)


def list_work_of(tx: Transaction, stage_id: int) -> list[Work]:
    """Return the open ranges of a stage, by first index."""
    rows = tx.rows(
        "select * from stageflow_work where stage_id = ? and state in ('ready', 'leased', 'waiting', 'held')"
        " order by first, range_id",
        (stage_id,),
    )
    return [Work._make(row) for row in rows]


def next_token(tx: Transaction) -> int:
    """Return a fencing token larger than every one before."""
    row = tx.row("update stageflow_counters set lease_token = lease_token + 1 returning lease_token")
    if row is None:
        msg = "the counters row is gone; run `stageflow verify` and restore it"
        raise StoreStateError(msg)
    token: int = row[0]
    return token


def insert_range(
    tx: Transaction,
    *,
    stage_id: int,
    kind: str,
    work_type: str,
    first: int,
    last: int,
    state: str,
    priority: int,
    generation: int = 1,
    turn: int = 0,
    stride: int = 1,
    attempt: int = 1,
    suspect: int = 0,
    deaths: int = 0,
    not_before: int | None = None,
    error_details: str | None = None,
    checkpointed: int = 0,
) -> int:
    """Insert a range that nobody holds and return its id; a ready one wakes waiters."""
    if state == "ready":
        tx.work_ready = True
    return tx.insert(
        "insert into stageflow_ranges (stage_id, kind, work_type, generation, first, last, attempt, state, priority, turn,"
        " stride, suspect, deaths, not_before, error_details, checkpointed, created_at)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            stage_id,
            kind,
            work_type,
            generation,
            first,
            last,
            attempt,
            state,
            priority,
            turn,
            stride,
            suspect,
            deaths,
            not_before,
            error_details,
            checkpointed,
            tx.now,
        ),
    )


def insert_part(tx: Transaction, work: Work, first: int, last: int, *, turn: int | None = None, state: str = "ready") -> int:
    """Insert a part of a range as a row of its own, alike in all else, and return its id."""
    return insert_range(
        tx,
        stage_id=work.stage_id,
        kind=work.kind,
        work_type=work.work_type,
        generation=work.generation,
        first=first,
        last=last,
        attempt=work.attempt,
        state=state,
        priority=work.priority,
        turn=work.turn if turn is None else turn,
        stride=work.stride,
        suspect=work.suspect,
        deaths=work.deaths if last - first == work.width else 0,
        not_before=work.not_before if state == "waiting" else None,
        error_details=work.error_details,
        checkpointed=work.checkpointed,
    )


def lease_range(tx: Transaction, work: Work, holder: Holder) -> Lease:
    """Lease a whole range to a holder; a queued job begins processing, a pending stage its planning."""
    token = next_token(tx)
    tx.run(
        "update stageflow_ranges set state = 'leased', token = ?, worker_id = ?, lease_expires_at = ?, renewed_at = ?,"
        " beat = 0, current_index = first, current_since = ?, not_before = null where range_id = ?",
        (token, holder.worker_id, holder.expires_at, tx.now, tx.now, work.range_id),
    )
    if work.job_status == JobStatus.QUEUED:
        tx.run(
            "update stageflow_jobs set status = 'processing', updated_at = ?1, deadline = case when timeout_seconds is null"
            " then deadline else min(coalesce(deadline, 9223372036854775807), ?1 + cast(timeout_seconds * 1e6 as integer)) end"
            " where job_id = ?2 and status = 'queued'",
            (tx.now, work.job_id),
        )
    if work.kind == WorkKind.PLAN:
        tx.run(
            "update stageflow_stages set status = 'planning', updated_at = ? where stage_id = ? and status = 'pending'",
            (tx.now, work.stage_id),
        )
    return make_lease(work, token, read_parameters(tx, work) if work.is_task else [])


def make_lease(work: Work, token: int, tasks: list[str]) -> Lease:
    """Return the contract of a lease."""
    return Lease(
        range_id=work.range_id,
        token=token,
        kind=WorkKind(work.kind),
        job_id=work.job_id,
        job_type=work.job_type,
        workflow_version=work.workflow_version,
        run=work.run,
        stage_id=work.stage_id,
        stage_number=work.stage_number,
        generation=work.generation,
        task_type=work.task_type,
        first=work.first,
        last=work.last,
        attempt=work.attempt,
        deaths=work.deaths,
        suspect=bool(work.suspect),
        tasks=tasks,
    )


def read_parameters(tx: Transaction, work: Work) -> list[str]:
    """Return the parameters of a range's tasks in index order, as stored text."""
    rows = tx.rows(
        "select parameters from stageflow_tasks where stage_id = ? and task_index >= ? and task_index < ? order by task_index",
        (work.stage_id, work.first, work.last),
    )
    if len(rows) != work.width:
        msg = (
            f"range {work.range_id} names the tasks {work.first} to {work.last - 1} of stage {work.stage_number} of job "
            f"{work.job_id}, but {len(rows)} of these {work.width} are stored; {MEND_ROW}"
        )
        raise StoreStateError(msg)
    return [row[0] for row in rows]


def lease_head(tx: Transaction, work: Work, max_tasks: int, holder: Holder) -> tuple[Lease, Work | None]:
    """Lease the first ``max_tasks`` of a ready range (one, if suspect); the remainder keeps its row, a stride later."""
    most = 1 if work.suspect else max_tasks
    if work.width <= most:
        return lease_range(tx, work, holder), None
    middle = work.first + most
    tx.run(
        "update stageflow_ranges set first = ?, turn = turn + stride, announced_at = null, deaths = 0 where range_id = ?",
        (middle, work.range_id),
    )
    head_id = insert_unleased_head(tx, work, middle)
    head = work._replace(range_id=head_id, last=middle)
    return lease_range(tx, head, holder), work._replace(first=middle, turn=work.turn + work.stride)


def insert_unleased_head(tx: Transaction, work: Work, last: int) -> int:
    """Insert the head of a range as a held row, which wakes nobody, to be leased in the same transaction."""
    return insert_part(tx, work, work.first, last, state="held")


def make_ready(tx: Transaction, range_id: int, *, suspect: int, deaths: int, attempt: int) -> None:
    """Take a range from its holder, or from hold, and let it be claimed; it is to be announced again."""
    tx.run(
        "update stageflow_ranges set state = 'ready', token = null, worker_id = null, lease_expires_at = null,"
        " current_index = null, current_since = null, not_before = null, announced_at = null,"
        " suspect = ?, deaths = ?, attempt = ?"
        " where range_id = ?",
        (suspect, deaths, attempt, range_id),
    )
    tx.work_ready = True


def make_next_attempt(tx: Transaction, range_id: int, *, delay_seconds: float, error_details: str | None) -> None:
    """Take a range that was tried and failed from its holder; its next attempt is due after the delay."""
    delayed = delay_seconds > 0
    tx.run(
        "update stageflow_ranges set state = ?, token = null, worker_id = null, lease_expires_at = null,"
        " current_index = null, current_since = null, not_before = ?, announced_at = null,"
        " attempt = attempt + 1, error_details = ? where range_id = ?",
        (
            "waiting" if delayed else "ready",
            tx.now + span_micros(delay_seconds) if delayed else None,
            error_details,
            range_id,
        ),
    )
    tx.work_ready = tx.work_ready or not delayed


def hold_range(tx: Transaction, range_id: int) -> None:
    """Put a range aside until its job is resumed; a holder loses its lease."""
    tx.run(
        "update stageflow_ranges set state = 'held', token = null, worker_id = null, lease_expires_at = null,"
        " current_index = null, current_since = null where range_id = ?",
        (range_id,),
    )


def delete_range(tx: Transaction, range_id: int) -> None:
    """Delete a range that is done."""
    tx.run("delete from stageflow_ranges where range_id = ?", (range_id,))


def was_cut(tx: Transaction, work: Work) -> bool:
    """Return whether the task right after a leased range was taken out of it by an operator.

    Such a task has a result that no lease reported, or went on as a later attempt than the range's own.
    """
    cut = tx.row(
        "select 1 from stageflow_results where stage_id = ?1 and task_index = ?2 and generation = ?3"
        " and (token = 0 or attempt > ?4)"
        " union all select 1 from stageflow_ranges where stage_id = ?1 and first = ?2 and generation = ?3 and attempt > ?4",
        (work.stage_id, work.last, work.generation, work.attempt),
    )
    return cut is not None


def json_list(values: list[int] | list[str]) -> str:
    """Return a list as the JSON text that ``json_each`` takes apart."""
    return json.dumps(values)
