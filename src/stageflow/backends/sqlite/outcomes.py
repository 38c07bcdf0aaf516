"""The results of a stage, merged from result rows and ranges that were closed over unfinished tasks."""

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice

from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.rows import Outcome
from stageflow.contracts.status import TaskStatus

_REASONS = {
    TaskStatus.SKIPPED.value: "skipped: the stage was halted",
    TaskStatus.CANCELLED.value: "cancelled: the job had ended",
}


def list_outcomes(tx: Transaction, stage_id: int, first_index: int, limit: int) -> list[Outcome]:
    """Return the newest outcome of each ended index, in index order, from an index on."""
    recorded = tx.rows(
        "select task_index, generation, attempt, status, result, error_details, seconds, completed_at from stageflow_results r"
        " where stage_id = ? and task_index >= ? and not exists (select 1 from stageflow_results n"
        " where n.stage_id = r.stage_id and n.task_index = r.task_index and n.generation > r.generation)"
        " order by task_index limit ?",
        (stage_id, first_index, limit),
    )
    closed = tx.rows(
        "select first, last, generation, attempt, state, closed_at from stageflow_ranges"
        " where stage_id = ? and kind = 'task' and last > ? and state in ('skipped', 'cancelled') order by first limit ?",
        (stage_id, first_index, limit),
    )
    results = (Outcome._make(row) for row in recorded)
    if not closed:
        return list(results)
    return list(islice(_newest(results, _spread(closed, first_index)), limit))


def list_failed(tx: Transaction, stage_id: int, first_index: int, limit: int) -> list[Outcome]:
    """Return the failed indexes whose newest result it is, in index order, from an index on."""
    rows = tx.rows(
        "select task_index, generation, attempt, status, result, error_details, seconds, completed_at from stageflow_results r"
        " where stage_id = ? and task_index >= ? and status = 'failed' and not exists (select 1 from stageflow_results n"
        " where n.stage_id = r.stage_id and n.task_index = r.task_index and n.generation > r.generation)"
        " order by task_index limit ?",
        (stage_id, first_index, limit),
    )
    return [Outcome._make(row) for row in rows]


def _spread(closed: Iterable[tuple[int, int, int, int, str, int]], first_index: int) -> Iterator[Outcome]:
    for first, last, generation, attempt, state, closed_at in closed:
        for index in range(max(first, first_index), last):
            yield Outcome(index, generation, attempt, state, None, _REASONS[state], 0.0, closed_at)


def _newest(results: Iterable[Outcome], closed: Iterable[Outcome]) -> Iterator[Outcome]:
    previous = -1
    for outcome in heapq.merge(results, closed, key=lambda one: (one.task_index, -one.generation)):
        if outcome.task_index != previous:
            previous = outcome.task_index
            yield outcome
