"""Leases: kept by heartbeats, given back in part or whole, and refused once they are stale."""

from typing import Final

import pytest

from stageflow.contracts.job import JobEnding
from stageflow.contracts.lease import (
    ClaimOutcome,
    CompletionOutcome,
    HeldLease,
    Lease,
    RangeReturn,
    Recovery,
    WorkKind,
)
from stageflow.contracts.outbox import Announcement
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.stage import AdvanceOutcome
from stageflow.contracts.status import JobStatus, TaskStatus
from stageflow.errors import StoreStateError
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    Again,
    MovableStore,
    advance,
    ask,
    cancel,
    chunk,
    claim_advance,
    claim_all,
    claim_one,
    claim_plan,
    complete_ok,
    complete_one,
    control_type,
    create,
    finish,
    give_back,
    let_leases_expire,
    name_claim,
    new_job,
    new_stage,
    pause,
    recover,
    report,
    resume,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_leases, get_stage, get_statuses, get_tasks, snapshot
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


class FencingConformance(StoreScenarios):
    """A stale holder changes nothing."""

    def test_a_lost_task_lease_can_do_nothing(self, store: MovableStore) -> None:
        """Reports, heartbeats and returns of a holder that was taken for dead are refused, while the new holder works."""
        start(store, _JOB, 1)
        old = claim_one(store, _TASKS)
        let_leases_expire(store)
        new = claim_one(store, _TASKS, worker="bob")
        before = snapshot(store, _JOB)
        answer = complete_one(store, complete_ok(old))
        assert (answer.outcome, answer.task_updated, answer.is_last_task_in_stage) == (CompletionOutcome.STALE, False, False)
        assert (answer.job_id, answer.stage_number, answer.advance) == (_JOB.job_id, 1, None)
        assert store.extend_leases("ada", [_held(old)], LEASE_SECONDS).held == []
        assert store.return_ranges([give_back(old)]) == [False]
        assert snapshot(store, _JOB) == before
        assert complete_one(store, complete_ok(new), worker="bob").is_last_task_in_stage

    def test_a_recovered_lease_is_stale_before_anybody_claims_it(self, store: MovableStore) -> None:
        """Recovery takes the token away; the work waits for a claim, not for its old holder."""
        start(store, _JOB, 2)
        old = claim_one(store, _TASKS)
        let_leases_expire(store)
        before = snapshot(store, _JOB)
        assert complete_one(store, complete_ok(old)).outcome is CompletionOutcome.STALE
        assert store.extend_leases("ada", [_held(old)], LEASE_SECONDS).held == []
        assert store.return_ranges([give_back(old)]) == [False]
        assert snapshot(store, _JOB) == before

    def test_an_expired_lease_holds_until_it_is_recovered(self, store: MovableStore) -> None:
        """The clock alone takes nothing from a holder: what it reports late and undisturbed is recorded."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        store.move_clock(LEASE_SECONDS * 5)
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.RECORDED

    def test_a_lost_plan_lease_can_do_nothing(self, store: MovableStore) -> None:
        """Two planners never write into one stage."""
        create(store, _JOB)
        old = claim_plan(store, _JOB)
        let_leases_expire(store)
        new = claim_plan(store, _JOB, worker="bob")
        before = snapshot(store, _JOB)
        assert store.add_tasks(chunk(old, 3)) is PlanOutcome.STALE
        assert snapshot(store, _JOB) == before
        assert store.add_tasks(chunk(new, 3)) is PlanOutcome.RECORDED

    def test_a_lost_advance_lease_can_do_nothing(self, store: MovableStore) -> None:
        """Two advancers never close one stage twice, whichever of the closing calls the stale one tries."""
        job = new_job(stages=2)
        start(store, job, 1)
        old = run_all(store, job)
        let_leases_expire(store)
        claim_advance(store, job, worker="bob")
        before = snapshot(store, job)
        answer = advance(store, old, new_stage(2))
        assert (answer.outcome, answer.job_updated, answer.plan) == (AdvanceOutcome.STALE, False, None)
        done = finish(store, old, new_stage(2, skipped=True))
        assert (done.job_updated, done.status) == (False, JobStatus.PROCESSING)
        ending = JobEnding(
            job_id=job.job_id, status=JobStatus.FAILED, error_details="late", range_id=old.range_id, token=old.token
        )
        assert not store.end_job(ending)
        assert snapshot(store, job) == before

    def test_a_wrong_token_is_as_stale_as_an_old_one(self, store: MovableStore) -> None:
        """A token is compared, not trusted."""
        start(store, _JOB, 2)
        lease = claim_one(store, _TASKS)
        forged = lease.model_copy(update={"token": lease.token + 1})
        before = snapshot(store, _JOB)
        assert complete_one(store, complete_ok(forged)).outcome is CompletionOutcome.STALE
        assert store.return_ranges([give_back(forged)]) == [False]
        assert store.extend_leases("ada", [_held(forged)], LEASE_SECONDS).held == []
        assert snapshot(store, _JOB) == before


class NamedClaimConformance(StoreScenarios):
    """Claiming what a message names."""

    def test_a_message_claims_its_planning(self, store: MovableStore) -> None:
        """A job message leads to the control work of its stage."""
        create(store, _JOB, new_job("other"))
        answer = store.claim_named(name_claim(_JOB, WorkKind.PLAN, WorkKind.ADVANCE))
        assert answer.outcome is ClaimOutcome.WORK
        assert [(lease.kind, lease.job_id) for lease in answer.leases] == [(WorkKind.PLAN, _JOB.job_id)]
        assert store.add_tasks(chunk(answer.leases[0], 1)) is PlanOutcome.RECORDED

    def test_a_message_claims_what_it_names_and_no_more(self, store: MovableStore) -> None:
        """The rest of a range stays ready, on both sides, and is announced again."""
        start(store, _JOB, 10)
        store.mark_announced([item.range_id for item in store.list_unannounced(older_than_seconds=None, limit=10)])
        answer = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=3, last=6))
        (lease,) = answer.leases
        assert (lease.first, lease.last, len(lease.tasks)) == (3, 6, 3)
        spans = [item.message.model_dump(include={"first", "last"}) for item in _unannounced(store)]
        assert sorted(span["first"] for span in spans) == [0, 6]
        assert sorted(span["last"] for span in spans) == [3, 10]
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.RECORDED
        assert sorted((lease.first, lease.last) for lease in claim_all(store, _TASKS)) == [(0, 3), (6, 10)]

    def test_a_named_claim_keeps_to_its_limit(self, store: MovableStore) -> None:
        """A host that runs few tasks at a time gets few, from the lowest index on."""
        start(store, _JOB, 10)
        (lease,) = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=2, last=9, max_tasks=3)).leases
        assert (lease.first, lease.last) == (2, 5)

    def test_a_message_about_leased_work_is_told_so(self, store: MovableStore) -> None:
        """A doubled message finds the work in other hands."""
        start(store, _JOB, 4)
        claim_one(store, _TASKS)
        answer = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=4))
        assert (answer.outcome, answer.leases) == (ClaimOutcome.LEASED, [])

    def test_a_message_about_paused_work_is_held(self, store: MovableStore) -> None:
        """Messages of a paused job are taken off the queue; the resumption announces their work again."""
        start(store, _JOB, 2)
        pause(store, _JOB)
        for _ in range(2):
            answer = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=2))
            assert (answer.outcome, answer.leases) == (ClaimOutcome.HELD, [])
        resume(store, _JOB)
        assert len(_unannounced(store)) == 1
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=2)).outcome is ClaimOutcome.WORK

    def test_a_message_about_work_that_is_due_later_is_held(self, store: MovableStore) -> None:
        """A retry keeps its time, whatever a late message says."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, _TASKS), Again(50.0)))
        named = name_claim(_JOB, WorkKind.TASK, first=0, last=1)
        assert store.claim_named(named).outcome is ClaimOutcome.HELD
        store.move_clock(51)
        recover(store)
        (lease,) = store.claim_named(named).leases
        assert lease.attempt == 2

    def test_a_message_about_what_is_done_is_told_so(self, store: MovableStore) -> None:
        """A late message about work that has ended is acknowledged and does nothing."""
        start(store, _JOB, 2)
        lease = run_all(store, _JOB)
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=2)).outcome is ClaimOutcome.DONE
        assert finish(store, lease).job_updated
        for kind in WorkKind:
            assert store.claim_named(name_claim(_JOB, kind, last=2)).outcome is ClaimOutcome.DONE

    def test_a_message_about_what_never_was_is_done(self, store: MovableStore) -> None:
        """Unknown jobs, stages, runs and generations have nothing left to do."""
        start(store, _JOB, 2)
        strangers = [
            name_claim(new_job("nobody"), WorkKind.TASK),
            name_claim(_JOB, WorkKind.TASK, stage_number=2),
            name_claim(_JOB, WorkKind.TASK, run=2),
            name_claim(_JOB, WorkKind.TASK, generation=2),
            name_claim(_JOB, WorkKind.TASK, first=2, last=9),
        ]
        assert [store.claim_named(claim).outcome for claim in strangers] == [ClaimOutcome.DONE] * len(strangers)
        assert get_statuses(store, _JOB) == [TaskStatus.QUEUED] * 2

    def test_a_message_of_an_ended_job_is_done(self, store: MovableStore) -> None:
        """Nothing of a cancelled job is claimed by name."""
        start(store, _JOB, 2)
        cancel(store, _JOB)
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=2)).outcome is ClaimOutcome.DONE

    def test_a_named_claim_starts_the_job(self, store: MovableStore) -> None:
        """A host that works by messages alone moves a job as a worker does."""
        create(store, _JOB)
        (plan,) = store.claim_named(name_claim(_JOB, WorkKind.PLAN)).leases
        store.add_tasks(chunk(plan, 1))
        (lease,) = store.claim_named(name_claim(_JOB, WorkKind.TASK)).leases
        answer = complete_one(store, complete_ok(lease), worker="host")
        assert answer.advance is not None
        assert finish(store, answer.advance).job_updated
        assert recover(store) == Recovery()
        assert ask(store, control_type(_JOB), _TASKS).outcome is ClaimOutcome.EMPTY
        assert get_stage(store, _JOB).remaining == 0
