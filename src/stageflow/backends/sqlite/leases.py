"""Claims: the best ready ranges become leases."""

import heapq
from typing import Final

from stageflow.backends.sqlite.allowances import (
    LOOK_AGAIN_SECONDS,
    allowance_of_type,
    full_jobs,
    has_limits,
    use_starts,
)
from stageflow.backends.sqlite.barrier import close_work
from stageflow.backends.sqlite.clock import span_micros
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Holder, Work, hold_range, json_list, lease_head
from stageflow.contracts.lease import ClaimAnswer, ClaimOutcome, ClaimRequest, Lease
from stageflow.contracts.status import TaskStatus

_HEADS = (
    "select w.* from json_each(?1) asked cross join stageflow_work w on w.range_id in"
    " (select c.range_id from stageflow_ranges c"
    " where c.work_type = asked.value and c.state = 'ready' order by c.priority desc, c.turn, c.range_id limit ?2)"
)
_HEADS_WITHIN_LIMITS = (
    "select w.* from json_each(?1) asked cross join stageflow_work w on w.range_id ="
    " (select c.range_id from stageflow_ranges c"
    " where c.work_type = asked.value and c.state = 'ready' and (c.kind <> 'task' or c.stage_id not in"
    " (select s.stage_id from json_each(?2) whole cross join stageflow_stages s on s.job_id = whole.value))"
    " order by c.priority desc, c.turn, c.range_id limit 1)"
)
_IS_READY = "select 1 from stageflow_ranges where work_type = ? and state = 'ready' limit 1"
_NEXT_DUE = (
    "select asked.value, (select min(w.not_before) from stageflow_ranges w"
    " where w.work_type = asked.value and w.state = 'waiting') from json_each(?) asked"
)
_OPEN_DUE = (
    "update stageflow_ranges set state = 'ready', not_before = null, announced_at = null where range_id in (select range_id"
    " from stageflow_ranges where work_type = ? and state = 'waiting' and not_before <= ? order by not_before limit 100)"
)


class SqliteClaims(StorePart):
    """Gives out leases to workers that ask by work type."""

    def claim(self, request: ClaimRequest) -> ClaimAnswer:
        """Lease the best ready ranges of the asked work types, splitting off what one lease may hold."""
        limits = dict(zip(request.work_types, request.max_tasks, strict=True))
        types = json_list(list(limits))
        with self._database.transaction() as tx:
            next_due = _open_due(tx, types)
            holder = Holder(request.worker_id, tx.now + span_micros(request.lease_seconds))
            room = _Room(request)
            if has_limits(tx):
                again = _lease_within_limits(tx, limits, holder, room)
                next_due = min((due for due in (next_due, again) if due is not None), default=None)
            else:
                _lease_all(tx, limits, holder, room)
        if room.leases:
            return ClaimAnswer(outcome=ClaimOutcome.WORK, leases=room.leases, next_due_seconds=next_due)
        return ClaimAnswer(outcome=ClaimOutcome.EMPTY, next_due_seconds=next_due)


def is_claimable(tx: Transaction, work: Work) -> bool:
    """Return whether a ready range may be leased; what may not is closed, or put on hold, as its job and stage demand."""
    if work.job_ended:
        close_work(tx, work, TaskStatus.CANCELLED)
        return False
    if work.job_paused:
        hold_range(tx, work.range_id)
        return False
    if work.halted and work.is_task:
        close_work(tx, work, TaskStatus.SKIPPED)
        return False
    return True


class _Room:
    """What a claim may lease beside what it has leased."""

    def __init__(self, request: ClaimRequest) -> None:
        self.leases: Final[list[Lease]] = []
        self.bundled: Final = request.bundled
        self._most = request.max_leases

    @property
    def left(self) -> int:
        """How many more leases there may be."""
        return self._most - len(self.leases)

    def has(self, work: Work) -> bool:
        """Return whether a range may be leased too."""
        return self.left > 0 and not (self.bundled and self.leases and _is_alone(work))

    def take(self, lease: Lease, work: Work, most: int) -> None:
        """Add a lease, on work of whose type a claim may lease so much."""
        self.leases.append(lease)
        if self.bundled and not _is_alone(work):
            self._most = most


def _is_alone(work: Work) -> bool:
    return work.is_task or work.deaths > 0


def _ranked(work: Work) -> tuple[int, int, int, Work]:
    return (-work.priority, work.turn, work.range_id, work)


def _lease_all(tx: Transaction, limits: dict[str, int], holder: Holder, room: _Room) -> None:
    types = json_list(list(limits))
    while room.left > 0:
        heads = [_ranked(Work._make(row)) for row in tx.rows(_HEADS, (types, 1 if room.bundled else room.left))]
        if not heads or not _lease_best(tx, heads, limits, holder, room):
            break


def _lease_within_limits(tx: Transaction, limits: dict[str, int], holder: Holder, room: _Room) -> float | None:
    """Lease one range at a time, the best of what may be leased then; and say when to look again for the rest."""
    again: list[float] = []
    while room.left > 0:
        again.clear()
        full = full_jobs(tx)
        allowed: dict[str, int] = {}
        for work_type, most_tasks in limits.items():
            allowance = allowance_of_type(tx, work_type, most_tasks)
            if allowance.tasks:
                allowed[work_type] = allowance.tasks
            elif allowance.again_seconds is not None and tx.row(_IS_READY, (work_type,)) is not None:
                again.append(allowance.again_seconds)
        rows = tx.rows(_HEADS_WITHIN_LIMITS, (json_list(list(allowed)), json_list(full)))
        if not rows:
            again += [LOOK_AGAIN_SECONDS] * bool(full)
            break
        work = min(_ranked(Work._make(row)) for row in rows)[-1]
        if not room.has(work):
            break
        if is_claimable(tx, work):
            lease, _ = lease_head(tx, work, allowed[work.work_type], holder)
            use_starts(tx, work.work_type, lease)
            room.take(lease, work, allowed[work.work_type])
    return min(again, default=None)


def _lease_best(
    tx: Transaction,
    heads: list[tuple[int, int, int, Work]],
    limits: dict[str, int],
    holder: Holder,
    room: _Room,
) -> bool:
    """Lease the best of what was seen, and return whether there may be more."""
    heapq.heapify(heads)
    while heads:
        work = heapq.heappop(heads)[-1]
        if not room.has(work):
            return False
        if is_claimable(tx, work):
            lease, rest = lease_head(tx, work, limits[work.work_type], holder)
            room.take(lease, work, limits[work.work_type])
            if rest is not None:
                heapq.heappush(heads, _ranked(rest))
        if room.bundled:
            break  # the next best may be one that was not looked at
    return True


def _open_due(tx: Transaction, types: str) -> float | None:
    """Make due ranges ready, and return the seconds until the next one."""
    soonest: int | None = None
    for work_type, due in tx.rows(_NEXT_DUE, (types,)):
        if due is not None and due <= tx.now:
            tx.run(_OPEN_DUE, (work_type, tx.now))
            tx.work_ready = True
        elif due is not None and (soonest is None or due < soonest):
            soonest = due
    return None if soonest is None else (soonest - tx.now) / 1_000_000
