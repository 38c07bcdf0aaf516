"""Fan-in: results are recorded, and the one who empties a stage learns of it."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from stageflow.backends.sqlite.barrier import Settlement, Tally, close_waiting, count_off
from stageflow.backends.sqlite.checkpoints import forget_checkpoints, may_have_checkpoints
from stageflow.backends.sqlite.clock import span_micros, unix_micros
from stageflow.backends.sqlite.connection import Transaction, Value
from stageflow.backends.sqlite.decisions import group_retries
from stageflow.backends.sqlite.events import note_indexes, note_stage_event
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Holder, Work, delete_range, get_work, insert_range, was_cut
from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.event import EventKind
from stageflow.contracts.lease import CompletionOutcome, RangeCompletion, TaskCompletionResult, WorkKind
from stageflow.contracts.status import TaskStatus
from stageflow.errors import StoreStateError

INSERT_RESULT: Final = (
    "insert into stageflow_results (stage_id, task_index, generation, attempt, status, result, error_details, seconds, token,"
    " completed_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

INSERT_PARTIAL: Final = (
    "insert into stageflow_partials (stage_id, generation, first, last, successful_tasks, value) values (?, ?, ?, ?, ?, ?)"
)

NO_TOKEN: Final = 0
"""The token of results that no lease holder reported: an operator's, and those of tasks that killed their workers."""


class SqliteCompletion(StorePart):
    """Records what became of leased tasks."""

    def complete_tasks(
        self,
        completions: Sequence[RangeCompletion],
        *,
        worker_id: str,
        lease_seconds: float,
        connection: object | None = None,
    ) -> list[TaskCompletionResult]:
        """Record the results of range prefixes and take them off the stages' counters.

        The one completion that empties a stage's counter also receives the lease on its advancement. Of a report that reaches
        beyond a task which an operator took out of the range, what is before that task is recorded, and the lease ends with it.
        With a ``connection`` all this is part of its open transaction, and its owner commits.

        Raises:
            StoreStateError: A report is longer than its range, or a result is there already; nothing was written.
        """
        begun: AbstractContextManager[Transaction]
        begun = self._database.transaction() if connection is None else self._database.inside(connection)
        with begun as tx:
            holder = Holder(worker_id, tx.now + span_micros(lease_seconds)) if worker_id else None
            order = sorted(
                range(len(completions)), key=lambda place: (completions[place].stage_id, completions[place].range_id)
            )
            answers = {place: _complete(tx, completions[place], holder, worker_id) for place in order}
        return [answers[place] for place in range(len(completions))]


def _complete(tx: Transaction, completion: RangeCompletion, holder: Holder | None, worker_id: str) -> TaskCompletionResult:
    work = get_work(tx, completion.range_id)
    if work is None or work.token != completion.token or work.first > completion.first:
        return _refuse(tx, completion, worker_id)
    if work.stage_id != completion.stage_id or work.kind != WorkKind.TASK or work.first < completion.first:
        raise _not_a_prefix(work, completion)
    completion = _cut_short(tx, work, completion)
    count = len(completion.statuses)
    try:
        tx.run_many(INSERT_RESULT, _result_rows(work, completion))
        tx.run_many(INSERT_PARTIAL, _partial_rows(work, completion))
    except sqlite3.IntegrityError as error:
        msg = (
            f"one of the tasks from {work.first} on of stage {work.stage_number} of job {work.job_id} has a result "
            f"already, though range {work.range_id} says that it is open; {MEND_ROW}"
        )
        raise StoreStateError(msg) from error
    if may_have_checkpoints(work):
        forget_checkpoints(tx, work.stage_id, _ended(completion))
    _return_retries(tx, work, completion)
    if count == work.width:
        delete_range(tx, work.range_id)
    else:
        tx.run(
            "update stageflow_ranges set first = first + ?, current_index = first + ?, current_since = ?, deaths = 0"
            " where range_id = ?",
            (count, count, tx.now, work.range_id),
        )
    settled = _settle(tx, work, completion, holder)
    return TaskCompletionResult(
        outcome=CompletionOutcome.RECORDED,
        task_updated=True,
        is_last_task_in_stage=settled.is_last,
        job_id=work.job_id,
        stage_number=work.stage_number,
        remaining_tasks=settled.remaining,
        stage_halted=settled.halted,
        advance=settled.advance,
    )


def _settle(tx: Transaction, work: Work, completion: RangeCompletion, holder: Holder | None) -> Settlement:
    counted = Counter(completion.statuses)
    tally = Tally(
        counted[TaskStatus.COMPLETED],
        counted[TaskStatus.FAILED],
        counted[TaskStatus.SKIPPED],
        counted[TaskStatus.CANCELLED],
    )
    if tally.failed:
        _note_failures(tx, work, completion)
    if completion.retries and work.job_ended:
        # What came back for another attempt must not outlive a job that has ended.
        close_waiting(tx, work.stage_id, TaskStatus.CANCELLED)
    return count_off(tx, work.stage_id, tally, holder)


def _result_rows(work: Work, completion: RangeCompletion) -> Iterator[tuple[Value, ...]]:
    stage_id, generation, attempt, token = work.stage_id, work.generation, work.attempt, work.token
    columns = zip(
        completion.statuses,
        completion.results,
        completion.errors,
        completion.seconds,
        completion.completed_at,
        strict=True,
    )
    queued = TaskStatus.QUEUED
    text = {status: status.value for status in TaskStatus}
    for index, (status, result, error, seconds, completed_at) in enumerate(columns, work.first):
        if status is not queued:
            yield (
                stage_id,
                index,
                generation,
                attempt,
                text[status],
                result,
                error,
                seconds,
                token,
                unix_micros(completed_at),
            )


def _partial_rows(work: Work, completion: RangeCompletion) -> Iterator[tuple[Value, ...]]:
    for partial in completion.partials:
        yield work.stage_id, work.generation, partial.first, partial.last, partial.successful_tasks, partial.value


def _ended(completion: RangeCompletion) -> Iterator[int]:
    for index, status in enumerate(completion.statuses, completion.first):
        if status is not TaskStatus.QUEUED:
            yield index


def _return_retries(tx: Transaction, work: Work, completion: RangeCompletion) -> None:
    for first, last, retry in group_retries(completion.retries):
        delayed = retry.delay_seconds > 0
        insert_range(
            tx,
            stage_id=work.stage_id,
            kind=work.kind,
            work_type=work.work_type,
            first=first,
            last=last,
            state="waiting" if delayed else "ready",
            priority=work.priority,
            generation=work.generation,
            turn=work.turn,
            attempt=work.attempt + 1,
            deaths=work.deaths if work.width == 1 else 0,
            not_before=tx.now + span_micros(retry.delay_seconds) if delayed else None,
            error_details=retry.error_details,
        )
    if completion.retries:
        note_indexes(
            tx,
            work.stage_id,
            EventKind.TASKS_RETRIED,
            [retry.task_index for retry in completion.retries],
            attempt=work.attempt,
            worker_id=work.worker_id,
            detail=completion.retries[0].error_details,
        )


def _note_failures(tx: Transaction, work: Work, completion: RangeCompletion) -> None:
    failed = [index for index, status in enumerate(completion.statuses, work.first) if status is TaskStatus.FAILED]
    note_indexes(
        tx,
        work.stage_id,
        EventKind.TASKS_FAILED,
        failed,
        attempt=work.attempt,
        worker_id=work.worker_id,
        detail=completion.errors[failed[0] - work.first],
    )


def _refuse(tx: Transaction, completion: RangeCompletion, worker_id: str) -> TaskCompletionResult:
    """Answer a report that may not be written: a repeat if its own token is on a result of it, else stale."""
    last = completion.first + len(completion.statuses)
    repeated = tx.row(
        "select 1 from stageflow_results where stage_id = ? and task_index >= ? and task_index < ? and token = ? limit 1",
        (completion.stage_id, completion.first, last, completion.token),
    )
    outcome = CompletionOutcome.STALE if repeated is None else CompletionOutcome.ALREADY_RECORDED
    if repeated is None:
        reported = (completion.first, last)
        note_stage_event(tx, completion.stage_id, EventKind.STALE_REPORT, tasks=reported, worker_id=worker_id)
    return _unwritten(tx, completion, outcome)


def _cut_short(tx: Transaction, work: Work, completion: RangeCompletion) -> RangeCompletion:
    """Return what of a report its range still holds: less than all of it only if an operator took a task out.

    The holder's later reports find no range and are stale, so that it lets the rest go.
    """
    width = work.width
    if len(completion.statuses) <= width:
        return completion
    if not was_cut(tx, work):
        raise _not_a_prefix(work, completion)
    return RangeCompletion(
        range_id=completion.range_id,
        token=completion.token,
        stage_id=completion.stage_id,
        first=completion.first,
        statuses=completion.statuses[:width],
        results=completion.results[:width],
        errors=completion.errors[:width],
        seconds=completion.seconds[:width],
        completed_at=completion.completed_at[:width],
        retries=[retry for retry in completion.retries if retry.task_index < work.last],
        partials=[partial for partial in completion.partials if partial.last <= work.last],
    )


def _not_a_prefix(work: Work, completion: RangeCompletion) -> StoreStateError:
    msg = (
        f"{len(completion.statuses)} tasks from {completion.first} on of stage {completion.stage_id} were reported for range "
        f"{work.range_id}, which is {work.kind} work [{work.first}, {work.last}) of stage {work.stage_id}; "
        f"report a prefix of what was leased"
    )
    return StoreStateError(msg)


def _unwritten(tx: Transaction, completion: RangeCompletion, outcome: CompletionOutcome) -> TaskCompletionResult:
    stage = tx.row(
        "select job_id, stage_number, remaining, halted from stageflow_stages where stage_id = ?", (completion.stage_id,)
    )
    if stage is None:
        msg = (
            f"stage {completion.stage_id} is not stored, or its job was purged; report completions with the stage_id of their "
            "lease"
        )
        raise StoreStateError(msg)
    job_id, stage_number, remaining, halted = stage
    return TaskCompletionResult(
        outcome=outcome,
        task_updated=False,
        is_last_task_in_stage=False,
        job_id=job_id,
        stage_number=stage_number,
        remaining_tasks=remaining,
        stage_halted=bool(halted),
    )
