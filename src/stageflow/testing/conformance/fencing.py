"""Fencing: a holder whose lease went to another changes nothing."""

from typing import Final

import pytest

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.job import JobEnding
from stageflow.contracts.lease import (
    CompletionOutcome,
    HeldLease,
    Lease,
)
from stageflow.contracts.outbox import Announcement
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.errors import StoreStateError
from stageflow.testing.conformance.builders import (
    LEASE_SECONDS,
    MovableStore,
    advance,
    chunk,
    claim_advance,
    claim_all,
    claim_one,
    claim_plan,
    complete,
    complete_ok,
    complete_one,
    control_type,
    create,
    finish,
    give_back,
    let_leases_expire,
    new_job,
    new_stage,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


def _held(lease: Lease, current_index: int | None = None) -> HeldLease:
    index = lease.first if current_index is None else current_index
    return HeldLease(range_id=lease.range_id, token=lease.token, current_index=index)


def _unannounced(store: MovableStore) -> list[Announcement]:
    return store.list_unannounced(older_than_seconds=None, limit=100)


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

    def test_a_lease_plans_its_own_stage_alone(self, store: MovableStore) -> None:
        """A planner writes into no stage but its own, and nobody writes into one by a lease of its tasks."""
        jobs = [_JOB, new_job("other")]
        create(store, *jobs)
        plans = {plan.job_id: plan for plan in claim_all(store, control_type(_JOB))}
        mine, theirs = (plans[job.job_id] for job in jobs)
        before = [snapshot(store, job) for job in jobs]
        assert store.add_tasks(chunk(mine.model_copy(update={"stage_id": theirs.stage_id}), 1)) is PlanOutcome.STALE
        assert [snapshot(store, job) for job in jobs] == before
        assert store.add_tasks(chunk(mine, 1, final=False)) is PlanOutcome.RECORDED
        assert store.add_tasks(chunk(claim_one(store, _TASKS), 1, first_index=1)) is PlanOutcome.STALE
        assert store.add_tasks(chunk(mine, 0, first_index=1)) is PlanOutcome.RECORDED

    def test_a_lease_advances_its_own_stage_alone(self, store: MovableStore) -> None:
        """Nobody closes another stage than the one whose advancement is leased, nor any by a lease of its tasks."""
        jobs = [new_job("one", stages=2), new_job("two", stages=2)]
        for job in jobs:
            start(store, job, 1)
        tasks = claim_all(store, _TASKS)
        early = advance(store, tasks[0], new_stage(2), status=StageStatus.COMPLETED)
        assert (early.outcome, early.plan) == (AdvanceOutcome.STALE, None)
        mine, theirs = (answer.advance for answer in complete(store, *map(complete_ok, tasks)))
        assert mine is not None
        assert theirs is not None
        before = [snapshot(store, job) for job in jobs]
        crossed = advance(store, mine.model_copy(update={"stage_id": theirs.stage_id}), new_stage(2))
        assert (crossed.outcome, crossed.plan) == (AdvanceOutcome.STALE, None)
        assert [snapshot(store, job) for job in jobs] == before
        assert advance(store, mine, new_stage(2)).outcome is AdvanceOutcome.ADVANCED

    def test_a_lease_ends_its_own_job_alone(self, store: MovableStore) -> None:
        """Neither as completed nor as failed is another job ended by it, nor its own by the result of another's stage."""
        jobs = [new_job("one"), new_job("two")]
        for job in jobs:
            start(store, job, 1)
        mine, theirs = (answer.advance for answer in complete(store, *map(complete_ok, claim_all(store, _TASKS))))
        assert mine is not None
        assert theirs is not None
        before = [snapshot(store, job) for job in jobs]
        crossed = finish(store, mine.model_copy(update={"job_id": theirs.job_id, "stage_id": theirs.stage_id}))
        assert not crossed.job_updated
        with pytest.raises(StoreStateError):
            finish(store, mine.model_copy(update={"stage_id": theirs.stage_id}))
        ending = JobEnding(
            job_id=theirs.job_id, status=JobStatus.FAILED, error_details="late", range_id=mine.range_id, token=mine.token
        )
        assert not store.end_job(ending)
        assert [snapshot(store, job) for job in jobs] == before

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
