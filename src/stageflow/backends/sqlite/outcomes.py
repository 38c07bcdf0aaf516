"""The results of a stage, merged from result rows and ranges that were closed over unfinished tasks."""

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.rows import Outcome
from stageflow.contracts.status import TaskStatus

_REASONS = {
    TaskStatus.SKIPPED.value: "skipped: the stage was halted",
    TaskStatus.CANCELLED.value: "cancelled: the job had ended",
}


class Closed(NamedTuple):
    """A range that was closed over unfinished tasks."""

    first: int
    last: int
    generation: int
    attempt: int
    state: str
    closed_at: int


def list_outcomes(tx: Transaction, stage_id: int, first_index: int, limit: int) -> list[Outcome]:
    """Return the newest outcome of each ended index, in index order, from an index on."""
    recorded = tx.rows(
        "select task_index, generation, attempt, status, result, error_details, seconds, completed_at from stageflow_results r"
        " where stage_id = ? and task_index >= ? and not exists (select 1 from stageflow_results n"
        " where n.stage_id = r.stage_id and n.task_index = r.task_index and n.generation > r.generation)"
        " order by task_index limit ?",
        (stage_id, first_index, limit),
    )
    closed = list_closed(tx, stage_id, first_index, limit)
    results = (Outcome._make(row) for row in recorded)
    if not closed:
        return list(results)
    return list(islice(_newest(results, spread_out(closed, first_index)), limit))


def list_closed(tx: Transaction, stage_id: int, first_index: int, limit: int) -> list[Closed]:
    """Return the ranges that were closed over unfinished tasks, by first index, from an index on."""
    rows = tx.rows(
        "select first, last, generation, attempt, state, closed_at from stageflow_ranges"
        " where stage_id = ? and kind = 'task' and last > ? and state in ('skipped', 'cancelled') order by first limit ?",
        (stage_id, first_index, limit),
    )
    return [Closed._make(row) for row in rows]


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


def spread_out(closed: Iterable[Closed], first_index: int) -> Iterator[Outcome]:
    """Yield an outcome for each index from an index on that closed ranges hold."""
    for first, last, generation, attempt, state, closed_at in closed:
        for index in range(max(first, first_index), last):
            yield Outcome(index, generation, attempt, state, None, _REASONS[state], 0.0, closed_at)


def _newest(results: Iterable[Outcome], closed: Iterable[Outcome]) -> Iterator[Outcome]:
    previous = -1
    for outcome in heapq.merge(results, closed, key=lambda one: (one.task_index, -one.generation)):
        if outcome.task_index != previous:
            previous = outcome.task_index
            yield outcome
