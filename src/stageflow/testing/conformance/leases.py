"""Leases: kept by heartbeats, and given back in part or whole."""

from typing import Final

import pytest

from stageflow.contracts.lease import (
    CompletionOutcome,
    HeldLease,
    Lease,
    RangeReturn,
)
from stageflow.contracts.outbox import Announcement
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import TaskStatus
from stageflow.errors import StoreStateError
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    MovableStore,
    cancel,
    chunk,
    claim_advance,
    claim_all,
    claim_one,
    claim_plan,
    complete_ok,
    complete_one,
    create,
    give_back,
    new_job,
    new_stage,
    pause,
    recover,
    report,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_leases, get_statuses, get_tasks, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


def _held(lease: Lease, current_index: int | None = None) -> HeldLease:
    index = lease.first if current_index is None else current_index
    return HeldLease(range_id=lease.range_id, token=lease.token, current_index=index)


def _unannounced(store: MovableStore) -> list[Announcement]:
    return store.list_unannounced(older_than_seconds=None, limit=100)


class HeartbeatConformance(StoreScenarios):
    """Heartbeats."""

    def test_a_heartbeat_keeps_a_lease(self, store: MovableStore) -> None:
        """A lease that is extended in time outlives its first term; one that is not does not."""
        start(store, _JOB, 2, range_count=2)
        kept, lost = claim_all(store, _TASKS)
        for _ in range(3):
            store.move_clock(LEASE_SECONDS * 0.6)
            assert store.extend_leases("ada", [_held(kept)], LEASE_SECONDS).held == [kept.token]
        assert recover(store).returned == 1
        assert [lease.token for lease in get_leases(store)] == [kept.token]
        store.move_clock(LEASE_SECONDS + 1)
        assert recover(store).returned == 1
        assert lost.token not in {lease.token for lease in get_leases(store)}

    def test_a_heartbeat_raises_the_beat(self, store: MovableStore) -> None:
        """A recoverer that watches from outside sees that the holder lives."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        (first,) = get_leases(store)
        store.extend_leases("ada", [_held(lease)], LEASE_SECONDS)
        (second,) = get_leases(store)
        assert (second.range_id, second.token) == (first.range_id, first.token) == (lease.range_id, lease.token)
        assert second.beat == first.beat + 1

    def test_a_heartbeat_holds_what_it_names_and_tells_what_is_lost(self, store: MovableStore) -> None:
        """One beat carries all leases of a process; a stale one is left out of the answer and costs the others nothing."""
        start(store, _JOB, 3, range_count=3)
        stale, *kept = claim_all(store, _TASKS)
        store.return_ranges([give_back(stale)])
        answer = store.extend_leases("ada", [_held(lease) for lease in (stale, *kept)], LEASE_SECONDS)
        assert (sorted(answer.held), answer.stopping) == (sorted(lease.token for lease in kept), [])
        assert store.extend_leases("ada", [], LEASE_SECONDS).held == []

    def test_a_heartbeat_tells_the_holder_to_stop(self, store: MovableStore) -> None:
        """Work of a cancelled job or a halted stage is still held, and no longer wanted."""
        halting = new_job("halting", first_stage=new_stage(1, fail_fast=True))
        start(store, halting, 2, range_count=2)
        failing, halted = claim_all(store, _TASKS)
        start(store, new_job("cancelled"), 1)
        cancelled = claim_one(store, _TASKS)
        start(store, new_job("wanted"), 1)
        wanted = claim_one(store, _TASKS)
        complete_one(store, report(failing, BAD))
        cancel(store, new_job("cancelled"))
        answer = store.extend_leases("ada", [_held(lease) for lease in (halted, cancelled, wanted)], LEASE_SECONDS)
        assert sorted(answer.held) == sorted([halted.token, cancelled.token, wanted.token])
        assert sorted(answer.stopping) == sorted([halted.token, cancelled.token])

    def test_a_paused_job_does_not_stop_its_running_tasks(self, store: MovableStore) -> None:
        """A pause lets running work finish."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        pause(store, _JOB)
        answer = store.extend_leases("ada", [_held(lease)], LEASE_SECONDS)
        assert (answer.held, answer.stopping) == ([lease.token], [])

    def test_only_running_tasks_have_a_heartbeat(self, store: MovableStore) -> None:
        """A task that runs shows when its holder was last heard of; one that waits or has ended shows none."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS, max_tasks=2)
        complete_one(store, complete_ok(lease, 1))
        ended, running, waiting = get_tasks(store, _JOB)
        assert (ended.heartbeat, waiting.heartbeat) == (None, None)
        assert running.heartbeat is not None
        assert abs((store.now() - running.heartbeat).total_seconds()) < LEASE_SECONDS


class ReturnConformance(StoreScenarios):
    """Giving work back."""

    def test_a_tail_that_is_given_back_is_claimed_by_others(self, store: MovableStore) -> None:
        """A worker that is slower than it thought keeps what it has begun and gives the rest back."""
        start(store, _JOB, 10)
        lease = claim_one(store, _TASKS)
        complete_one(store, complete_ok(lease, 2))
        assert store.return_ranges([give_back(lease, 5)]) == [True]
        assert get_statuses(store, _JOB) == [OK] * 2 + [TaskStatus.PROCESSING] * 3 + [TaskStatus.QUEUED] * 5
        tail = claim_one(store, _TASKS, worker="bob")
        assert (tail.first, tail.last, tail.attempt, tail.suspect) == (5, 10, 1, False)
        assert complete_one(store, complete_ok(lease, 3, first=2)).outcome is CompletionOutcome.RECORDED
        assert complete_one(store, complete_ok(tail), worker="bob").is_last_task_in_stage

    def test_the_holder_cannot_report_what_it_gave_back(self, store: MovableStore) -> None:
        """A report that is longer than the lease is a bug of its holder, and writes nothing."""
        start(store, _JOB, 10)
        lease = claim_one(store, _TASKS)
        store.return_ranges([give_back(lease, 5)])
        before = snapshot(store, _JOB)
        with pytest.raises(StoreStateError):
            complete_one(store, complete_ok(lease, 6))
        assert snapshot(store, _JOB) == before

    def test_a_lease_that_is_given_back_whole_is_gone(self, store: MovableStore) -> None:
        """After giving everything back the old token does nothing."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        assert store.return_ranges([give_back(lease)]) == [True]
        assert get_leases(store) == []
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.STALE
        again = claim_one(store, _TASKS, worker="bob")
        assert (again.first, again.last, again.attempt, again.deaths, again.suspect) == (0, 3, 1, 0, False)
        assert again.token > lease.token

    def test_a_rest_that_is_given_back_whole_starts_after_what_is_done(self, store: MovableStore) -> None:
        """What has been reported does not come back."""
        start(store, _JOB, 4)
        lease = claim_one(store, _TASKS)
        complete_one(store, complete_ok(lease, 3))
        assert store.return_ranges([give_back(lease, 3)]) == [True]
        assert (claim_one(store, _TASKS).first, get_leases(store)[0].beat) == (3, 0)

    def test_what_is_done_is_not_given_back(self, store: MovableStore) -> None:
        """Who gives the whole lease back, reported tasks and all, gives the rest of it."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        complete_one(store, complete_ok(lease, 1))
        assert store.return_ranges([give_back(lease)]) == [True]
        assert [(rest.first, rest.last) for rest in claim_all(store, _TASKS)] == [(1, 3)]

    def test_one_stale_return_does_not_strand_the_others(self, store: MovableStore) -> None:
        """The answers stand in the order asked, each for its own lease."""
        start(store, _JOB, 4, range_count=4)
        first, second, third, _ = claim_all(store, _TASKS)
        store.return_ranges([give_back(second)])
        unknown = RangeReturn(range_id=987_654, token=1, first=0)
        returns = [give_back(first), give_back(second), unknown, give_back(third)]
        assert store.return_ranges(returns) == [True, False, False, True]
        assert len(claim_all(store, _TASKS)) == 3

    def test_planning_and_advancing_are_given_back_too(self, store: MovableStore) -> None:
        """A worker that shuts down leaves its control work to the next."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        assert store.return_ranges([give_back(plan)]) == [True]
        assert store.add_tasks(chunk(plan, 1)) is PlanOutcome.STALE
        again = claim_plan(store, _JOB, worker="bob")
        assert store.add_tasks(chunk(again, 1)) is PlanOutcome.RECORDED
        lease = run_all(store, _JOB)
        assert store.return_ranges([give_back(lease)]) == [True]
        assert claim_advance(store, _JOB).token > lease.token

    def test_what_is_given_back_of_a_halted_stage_is_skipped(self, store: MovableStore) -> None:
        """The tail of a halted stage is closed at once, and may be what empties it."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 5)
        lease = claim_one(store, _TASKS)
        answer = complete_one(store, report(lease, OK, BAD))
        assert (answer.stage_halted, answer.remaining_tasks, answer.is_last_task_in_stage) == (True, 3, False)
        assert store.return_ranges([give_back(lease, 2)]) == [True]
        assert get_statuses(store, job) == [OK, BAD, *[TaskStatus.SKIPPED] * 3]
        claim_advance(store, job)

    def test_a_retry_that_is_given_back_keeps_its_attempt(self, store: MovableStore) -> None:
        """Giving back is not failing: no attempt is spent."""
        start(store, _JOB, 2)
        lease = claim_one(store, _TASKS)
        store.return_ranges([give_back(lease)])
        lease = claim_one(store, _TASKS)
        store.return_ranges([give_back(lease, 1)])
        assert [task.attempt for task in get_tasks(store, _JOB)] == [1, 1]
        store.move_clock(LEASE_SECONDS + 1)
        recover(store)
        assert [(lease.attempt, lease.last - lease.first) for lease in claim_all(store, _TASKS)] == [(1, 1), (1, 1)]
