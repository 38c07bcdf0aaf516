"""Pauses: what has not started waits, what runs may end, and the resumption sets everything free."""

from typing import Final

from stageflow.contracts.lease import ClaimOutcome, CompletionOutcome
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import JobStatus, TaskStatus
from stageflow.testing.conformance.builders import (
    BAD,
    Again,
    MovableStore,
    all_types,
    ask,
    chunk,
    claim_advance,
    claim_all,
    claim_one,
    claim_plan,
    complete_ok,
    complete_one,
    create,
    give_back,
    job_id_of,
    let_leases_expire,
    new_job,
    new_stage,
    pause,
    recover,
    report,
    resume,
    set_status,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import (
    get_stage,
    get_status,
    get_statuses,
)
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()


class PauseConformance(StoreScenarios):
    """Pausing holds what has not started; resuming opens it again."""

    def test_the_tasks_of_a_paused_job_are_not_claimed(self, store: MovableStore) -> None:
        """A pause takes effect with the next claim, and others' work is not held up by it."""
        start(store, _JOB, 4, range_count=2)
        start(store, new_job("other"), 1)
        pause(store, _JOB)
        leases = claim_all(store, *all_types(_JOB))
        assert {lease.job_id for lease in leases} == {job_id_of("other")}
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY
        assert get_statuses(store, _JOB) == [TaskStatus.QUEUED] * 4
        resume(store, _JOB)
        assert sum(lease.last - lease.first for lease in claim_all(store, tasks_type(_JOB))) == 4

    def test_the_advancement_of_a_paused_job_is_announced_when_it_is_resumed(self, store: MovableStore) -> None:
        """The last report opens it on hold, so that no queue is told of work that nobody may do."""
        start(store, _JOB, 2)
        lease = claim_one(store, tasks_type(_JOB))
        pause(store, _JOB)
        assert complete_one(store, complete_ok(lease)).is_last_task_in_stage
        assert store.list_unannounced(older_than_seconds=None, limit=10) == []
        resume(store, _JOB)
        assert len(store.list_unannounced(older_than_seconds=None, limit=10)) == 1

    def test_a_job_paused_while_queued_returns_to_queued(self, store: MovableStore) -> None:
        """A job that had not started is paused and resumed without having started."""
        create(store, _JOB)
        pause(store, _JOB)
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY
        set_status(store, _JOB, JobStatus.QUEUED)
        claim_plan(store, _JOB)
        assert get_status(store, _JOB) is JobStatus.PROCESSING

    def test_what_runs_while_a_job_is_paused_is_recorded(self, store: MovableStore) -> None:
        """A pause loses no work: who holds a lease completes it, and only the advancement waits."""
        start(store, _JOB, 2, range_count=2)
        first, second = claim_all(store, tasks_type(_JOB))
        pause(store, _JOB)
        assert complete_one(store, complete_ok(first)).outcome is CompletionOutcome.RECORDED
        last = complete_one(store, complete_ok(second))
        assert (last.outcome, last.is_last_task_in_stage, last.advance) == (CompletionOutcome.RECORDED, True, None)
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY
        resume(store, _JOB)
        claim_advance(store, _JOB)

    def test_a_retry_that_comes_due_during_a_pause_waits_for_the_resumption(self, store: MovableStore) -> None:
        """Time does not lift a pause."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, tasks_type(_JOB)), Again(10.0)))
        pause(store, _JOB)
        store.move_clock(11)
        recover(store)
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY
        resume(store, _JOB)
        recover(store)
        assert claim_one(store, tasks_type(_JOB)).attempt == 2

    def test_what_is_given_back_or_recovered_during_a_pause_is_not_claimed(self, store: MovableStore) -> None:
        """No way of a range back to ready leads around the pause."""
        start(store, _JOB, 6, range_count=2)
        first, _ = claim_all(store, tasks_type(_JOB))
        pause(store, _JOB)
        assert store.return_ranges([give_back(first)]) == [True]
        assert let_leases_expire(store).returned == 1
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY
        resume(store, _JOB)
        assert len(claim_all(store, tasks_type(_JOB))) >= 2

    def test_planning_stops_at_a_pause_and_goes_on_after_it(self, store: MovableStore) -> None:
        """A planner of a paused job writes nothing more, loses its lease, and another goes on where it stopped."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        assert store.add_tasks(chunk(plan, 2, final=False)) is PlanOutcome.RECORDED
        pause(store, _JOB)
        assert store.add_tasks(chunk(plan, 2, first_index=2)) is PlanOutcome.PAUSED
        assert get_stage(store, _JOB).task_count == 2
        assert store.add_tasks(chunk(plan, 2, first_index=2)) is PlanOutcome.STALE
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY
        resume(store, _JOB)
        again = claim_plan(store, _JOB)
        assert again.token > plan.token
        assert store.add_tasks(chunk(again, 2, first_index=2)) is PlanOutcome.RECORDED
        assert get_statuses(store, _JOB) == [TaskStatus.QUEUED] * 4
        assert sum(lease.last - lease.first for lease in claim_all(store, tasks_type(_JOB))) == 4

    def test_resuming_does_not_open_tasks_that_are_held_for_planning(self, store: MovableStore) -> None:
        """Tasks of an atomic plan stay closed until the plan is whole, whatever happens to the job meanwhile."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        assert store.add_tasks(chunk(plan, 3, final=False, claimable=False)) is PlanOutcome.RECORDED
        pause(store, _JOB)
        resume(store, _JOB)
        assert ask(store, tasks_type(_JOB)).outcome is ClaimOutcome.EMPTY
        assert store.add_tasks(chunk(plan, 1, first_index=3, claimable=False)) is PlanOutcome.RECORDED
        assert sum(lease.last - lease.first for lease in claim_all(store, tasks_type(_JOB))) == 4

    def test_a_halt_during_a_pause_still_closes_the_stage(self, store: MovableStore) -> None:
        """A failure that trips the policy of a paused job skips the rest, and the job goes on after the resumption."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 4, range_count=4)
        lease = claim_one(store, tasks_type(job))
        pause(store, job)
        answer = complete_one(store, report(lease, BAD))
        assert (answer.stage_halted, answer.advance) == (True, None)
        resume(store, job)
        claim_all(store, tasks_type(job))
        assert get_statuses(store, job) == [BAD, *[TaskStatus.SKIPPED] * 3]
        claim_advance(store, job)
