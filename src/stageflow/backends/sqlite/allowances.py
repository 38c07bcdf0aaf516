"""How much of a limited task type or job may be leased now. Everything here runs in a caller's transaction."""

from math import floor
from typing import Final, NamedTuple

from stageflow.backends.sqlite.clock import span_micros
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.ranges import Work
from stageflow.contracts.lease import Lease
from stageflow.contracts.limits import scope_of

_RUNNING: Final = "select work_type, count(*) from stageflow_ranges where state = 'leased' and kind = 'task' group by work_type"
_RUNNING_OF_JOB: Final = (
    "select count(*) from stageflow_ranges r cross join stageflow_stages s on s.stage_id = r.stage_id"
    " where r.state = 'leased' and r.kind = 'task' and s.job_id = ?"
)
_FULL_JOBS: Final = (
    "select l.scope from stageflow_ranges r cross join stageflow_stages s on s.stage_id = r.stage_id"
    " cross join stageflow_limits l on l.scope = s.job_id"
    " where r.state = 'leased' and r.kind = 'task' group by l.scope having count(*) >= l.max_running"
)
LOOK_AGAIN_SECONDS: Final = 0.1
"""Whoever frees a slot claims again at once; this is for slots whose worker turns to other work, or dies."""
_SHORTEST_WAIT: Final = 0.01


class Limit(NamedTuple):
    """The row of a scope, as far as it decides."""

    scope: str
    max_running: int | None
    max_per_second: float | None
    paused_at: int | None
    spent_at: int


class Allowance(NamedTuple):
    """How many tasks one lease may hold now; where none, after how many seconds to look again.

    Attributes:
        again_seconds: ``None`` where somebody tells: a pause ends with a signal.
    """

    tasks: int
    again_seconds: float | None = None


def has_limits(tx: Transaction) -> bool:
    """Return whether anything at all is limited or paused; if not, claims look no further."""
    return tx.row("select 1 from stageflow_limits limit 1") is not None


def allowance_of_type(tx: Transaction, work_type: str, most: int) -> Allowance:
    """Return how many tasks of a kind of work a lease may hold now, at most so many."""
    scope = scope_of(work_type)
    limit = None if scope is None else _get(tx, scope)
    if limit is None:
        return Allowance(most)
    if limit.paused_at is not None:
        return Allowance(0)
    if limit.max_per_second is not None:
        granted = granted_starts(tx.now, limit.spent_at, limit.max_per_second)
        # A hundredth of a second's worth at a time, so that what was granted starts at once.
        most = floor(min(most, granted, max(1.0, limit.max_per_second / 100)))
        if most < 1:
            return Allowance(0, max(_SHORTEST_WAIT, (1 - granted) / limit.max_per_second))
    if limit.max_running is not None:
        running = sum(count for leased, count in tx.rows(_RUNNING) if scope_of(leased) == scope)
        if running >= limit.max_running:
            return Allowance(0, LOOK_AGAIN_SECONDS)
    return Allowance(most)


def _is_job_full(tx: Transaction, job_id: str) -> bool:
    """Return whether as many tasks of a job run as may."""
    limit = _get(tx, job_id)
    if limit is None or limit.max_running is None:
        return False
    row = tx.row(_RUNNING_OF_JOB, (job_id,))
    return row is not None and row[0] >= limit.max_running


def full_jobs(tx: Transaction) -> list[str]:
    """Return the jobs that run as many tasks as they may: none of theirs is looked at."""
    return [job_id for (job_id,) in tx.rows(_FULL_JOBS)]


def allowance_of(tx: Transaction, work: Work, most: int) -> Allowance:
    """Return how many tasks of a ready range a lease may hold now, by its type and by its job."""
    if not work.is_task or not has_limits(tx):
        return Allowance(most)
    if _is_job_full(tx, work.job_id):
        return Allowance(0, LOOK_AGAIN_SECONDS)
    return allowance_of_type(tx, work.work_type, most)


def use_starts(tx: Transaction, work_type: str, lease: Lease) -> None:
    """Take the tasks of a new lease off what their type's rate has granted."""
    scope = scope_of(work_type)
    limit = None if scope is None else _get(tx, scope)
    if limit is None or limit.max_per_second is None:
        return
    left = granted_starts(tx.now, limit.spent_at, limit.max_per_second) - (lease.last - lease.first)
    spent_at = tx.now - span_micros(left / limit.max_per_second)
    tx.run("update stageflow_limits set spent_at = ? where scope = ?", (spent_at, limit.scope))


def granted_starts(now: int, spent_at: int, per_second: float) -> float:
    """Return how many starts a rate has granted and nobody has used: at most a tenth of a second's worth, at least one.

    A clock that was put back would grant nothing until it is where it was, so what was used later counts as used now.
    """
    return min(max(1.0, per_second / 10), (now - min(spent_at, now)) / 1_000_000 * per_second)


def _get(tx: Transaction, scope: str) -> Limit | None:
    row = tx.row(
        "select scope, max_running, max_per_second, paused_at, spent_at from stageflow_limits where scope = ?", (scope,)
    )
    return None if row is None else Limit._make(row)
