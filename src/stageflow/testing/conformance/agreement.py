"""Where two stores once answered differently, found by a model that was held beside both."""

from typing import Final

from stageflow.contracts.lease import HeldLease
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import StageStatus, TaskStatus
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    MovableStore,
    cancel,
    chunk,
    claim_advance,
    claim_one,
    claim_plan,
    complete_one,
    create,
    let_leases_expire,
    new_job,
    new_stage,
    pause,
    report,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_stage, get_statuses, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job(first_stage=new_stage(1, fail_fast=True))
_TASKS: Final = tasks_type(_JOB)


class AgreementConformance(StoreScenarios):
    """Halts, ends and pauses that meet leases."""

    def test_the_stages_of_a_cancelled_job_are_cancelled_while_their_tasks_still_run(self, store: MovableStore) -> None:
        """Who looks at an ended job sees no stage that seems to go on; the running task may still report."""
        start(store, _JOB, 2, range_count=2)
        lease = claim_one(store, _TASKS)
        cancel(store, _JOB)
        assert get_stage(store, _JOB).status is StageStatus.CANCELLED
        assert complete_one(store, report(lease, OK)).task_updated
        stage = get_stage(store, _JOB)
        assert (stage.status, stage.remaining, stage.successful_tasks) == (StageStatus.CANCELLED, 0, 1)

    def test_the_planner_of_a_halted_stage_is_not_told_to_stop(self, store: MovableStore) -> None:
        """A stage that gave up is left only when it is planned, so its planner has to go on, and whoever leaves it."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        assert store.add_tasks(chunk(plan, 2, range_count=2, final=False)) is PlanOutcome.RECORDED
        failing, running = claim_one(store, _TASKS, max_tasks=1), claim_one(store, _TASKS, max_tasks=1)
        complete_one(store, report(failing, BAD))
        held = [HeldLease(range_id=each.range_id, token=each.token, current_index=each.first) for each in (plan, running)]
        answer = store.extend_leases("ada", held, LEASE_SECONDS)
        assert (sorted(answer.held), answer.stopping) == (sorted([plan.token, running.token]), [running.token])

    def test_the_last_death_on_a_task_of_a_halted_stage_skips_it(self, store: MovableStore) -> None:
        """The stage had given up on the task before it killed anybody once more: it is skipped, and not failed."""
        start(store, _JOB, 2, range_count=2)
        failing, running = claim_one(store, _TASKS), claim_one(store, _TASKS)
        complete_one(store, report(failing, BAD))
        recovery = let_leases_expire(store, death_budget=1)
        assert (recovery.returned, recovery.quarantined, recovery.closed) == (0, 0, 1)
        assert get_statuses(store, _JOB) == sorted([BAD, TaskStatus.SKIPPED], reverse=running.first < failing.first)
        claim_advance(store, _JOB)

    def test_a_dead_lease_of_a_halted_stage_is_skipped_in_a_pause_too(self, store: MovableStore) -> None:
        """A pause keeps work for later, and there is no later for a task of a stage that gave up."""
        start(store, _JOB, 2, range_count=2)
        failing, _ = claim_one(store, _TASKS), claim_one(store, _TASKS)
        complete_one(store, report(failing, BAD))
        pause(store, _JOB)
        let_leases_expire(store)
        stage = get_stage(store, _JOB)
        assert (stage.remaining, stage.failed_tasks, stage.skipped_tasks) == (0, 1, 1)

    def test_the_sweep_holds_what_a_paused_job_has_of_a_halted_stage(self, store: MovableStore) -> None:
        """A chunk that was planned after the halt waits for the end of the pause like all other work."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        store.add_tasks(chunk(plan, 1, final=False))
        complete_one(store, report(claim_one(store, _TASKS), BAD))
        stage = get_stage(store, _JOB)
        store.add_tasks(chunk(plan, 1, first_index=1, digest_before=stage.plan_digest))
        pause(store, _JOB)
        let_leases_expire(store)
        assert get_stage(store, _JOB).remaining == 1

    def test_whatever_counts_in_a_halted_stage_closes_what_came_into_it_since(self, store: MovableStore) -> None:
        """A chunk that was planned after the halt is skipped with the next task that ends, not only by the next recovery."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        store.add_tasks(chunk(plan, 1, final=False))
        complete_one(store, report(claim_one(store, _TASKS), BAD))
        stage = get_stage(store, _JOB)
        store.add_tasks(chunk(plan, 2, first_index=1, digest_before=stage.plan_digest, range_count=2))
        assert store.close_task(_JOB.job_id, 1, 1, TaskStatus.SKIPPED, "by hand")
        assert get_statuses(store, _JOB) == [BAD, TaskStatus.SKIPPED, TaskStatus.SKIPPED]
        claim_advance(store, _JOB)

    def test_no_task_of_an_ended_job_is_requeued(self, store: MovableStore) -> None:
        """An operator who is late makes no work for a job that nobody will work on: the holder keeps its lease."""
        start(store, _JOB, 2)
        lease = claim_one(store, _TASKS)
        cancel(store, _JOB)
        before = snapshot(store, _JOB)
        assert not store.close_task(_JOB.job_id, 1, lease.first, TaskStatus.QUEUED, "again")
        assert snapshot(store, _JOB) == before
