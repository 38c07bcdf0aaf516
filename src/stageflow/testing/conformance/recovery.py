"""Recovery: the work of dead workers comes back, killers are found, and what is due or over is put in order."""

from typing import Final

import pytest

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.lease import CompletionOutcome, HeldLease, Recovery, SeenLease, WorkKind
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    Again,
    MovableStore,
    advance,
    all_types,
    ask,
    cancel,
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
    let_leases_expire,
    new_job,
    new_stage,
    recover,
    report,
    run_all,
    start,
    take_advance,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import get_job, get_leases, get_stage, get_status, get_statuses, get_tasks, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


def _kill_holders(store: MovableStore, *work_types: str, times: int, budget: int = 3) -> list[Recovery]:
    """Claim something and let its holder die, so many times."""
    rounds = []
    for _ in range(times):
        claim_one(store, *work_types)
        rounds.append(let_leases_expire(store, death_budget=budget))
    return rounds


class RecoveryConformance(StoreScenarios):
    """Leases whose holders died."""

    def test_live_leases_are_left_alone(self, store: MovableStore) -> None:
        """Recovery takes nothing from those who live."""
        start(store, _JOB, 3, range_count=3)
        claim_all(store, _TASKS, max_leases=2)
        before = snapshot(store, _JOB)
        store.move_clock(LEASE_SECONDS - 5)
        assert recover(store) == Recovery()
        assert snapshot(store, _JOB) == before

    def test_an_expired_lease_comes_back(self, store: MovableStore) -> None:
        """The unreported rest of a dead worker's range is ready again, for the same attempt."""
        start(store, _JOB, 4)
        lease = claim_one(store, _TASKS)
        complete_one(store, complete_ok(lease, 1))
        assert let_leases_expire(store) == Recovery(returned=1)
        assert get_leases(store) == []
        assert get_statuses(store, _JOB) == [OK] + [TaskStatus.QUEUED] * 3
        again = claim_one(store, _TASKS, worker="bob")
        assert (again.first, again.last, again.attempt, again.suspect, again.deaths) == (1, 2, 1, True, 0)

    def test_only_a_single_task_is_charged_with_a_death(self, store: MovableStore) -> None:
        """As long as a range is wide nobody knows which task killed the worker; alone, it is charged."""
        start(store, _JOB, 2)
        claim_one(store, _TASKS)
        assert let_leases_expire(store, death_budget=1) == Recovery(returned=1)
        culprit = claim_one(store, _TASKS)
        assert (culprit.first, culprit.last, culprit.deaths) == (0, 1, 0)
        let_leases_expire(store)
        deaths = {lease.first: (lease.deaths, lease.suspect, lease.attempt) for lease in claim_all(store, _TASKS)}
        assert deaths == {0: (1, True, 1), 1: (0, True, 1)}

    def test_a_task_that_an_operator_left_alone_is_not_charged_for_its_neighbours(self, store: MovableStore) -> None:
        """What a worker died on was a range of two; that one of them was ended by hand since proves nothing of the other."""
        start(store, _JOB, 2)
        claim_one(store, _TASKS)
        let_leases_expire(store)
        assert store.close_task(_JOB.job_id, 1, 1, TaskStatus.SKIPPED, "not wanted")
        lease = claim_one(store, _TASKS)
        assert (lease.first, lease.last, lease.deaths, lease.suspect) == (0, 1, 0, True)

    def test_a_task_that_kills_its_workers_is_quarantined(self, store: MovableStore) -> None:
        """After the last permitted death the task is failed with that reason; its neighbours go on."""
        start(store, _JOB, 2, range_count=2)
        complete_one(store, complete_ok(claim_all(store, _TASKS)[1]))
        let_leases_expire(store)
        rounds = _kill_holders(store, _TASKS, times=2)
        assert rounds == [Recovery(returned=1), Recovery(quarantined=1)]
        task = get_tasks(store, _JOB)[0]
        assert task.status is BAD
        assert task.error_details is not None
        assert "3" in task.error_details
        assert "died" in task.error_details
        assert claim_all(store, _TASKS) == []

    def test_the_last_task_of_a_stage_may_be_the_quarantined_one(self, store: MovableStore) -> None:
        """A quarantine goes through the barrier like any other end: the stage can be advanced."""
        start(store, _JOB, 1)
        assert _kill_holders(store, _TASKS, times=1, budget=1) == [Recovery(quarantined=1)]
        stage = get_stage(store, _JOB)
        assert (stage.remaining, stage.failed_tasks) == (0, 1)
        claim_advance(store, _JOB)

    def test_a_quarantine_counts_for_the_policy(self, store: MovableStore) -> None:
        """A killer halts a fail-fast stage as any failed task does."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 4, range_count=4)
        assert _kill_holders(store, _TASKS, times=1, budget=1) == [Recovery(quarantined=1)]
        assert get_statuses(store, job) == [BAD, *[TaskStatus.SKIPPED] * 3]
        claim_advance(store, job)

    def test_a_dead_holders_report_is_refused_after_quarantine(self, store: MovableStore) -> None:
        """A worker that was only slow finds its task ended by another hand."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        let_leases_expire(store, death_budget=1)
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.STALE
        assert get_statuses(store, _JOB) == [BAD]

    def test_a_task_keeps_its_deaths_over_a_retry(self, store: MovableStore) -> None:
        """Failing in between does not wash a killer clean."""
        start(store, _JOB, 1)
        _kill_holders(store, _TASKS, times=1)
        complete_one(store, report(claim_one(store, _TASKS), Again()))
        lease = claim_one(store, _TASKS)
        assert (lease.attempt, lease.deaths, lease.suspect) == (2, 1, False)

    def test_deaths_and_errors_have_budgets_of_their_own(self, store: MovableStore) -> None:
        """A killed attempt is not the handler's, and an error is no death: each count rises by its own kind alone."""
        start(store, _JOB, 1)
        counts: list[tuple[int, int]] = []
        for dies in (True, False, True, False, False, False):
            lease = claim_one(store, _TASKS)
            counts.append((lease.attempt, lease.deaths))
            if dies:
                assert let_leases_expire(store, death_budget=3) == Recovery(returned=1)
            else:
                complete_one(store, report(lease, Again()))
        assert counts == [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (4, 2)]
        claim_one(store, _TASKS)
        assert let_leases_expire(store, death_budget=3) == Recovery(quarantined=1)
        assert get_statuses(store, _JOB) == [BAD]

    def test_a_planner_that_dies_is_followed_by_another(self, store: MovableStore) -> None:
        """Control work comes back like tasks, and its deaths are counted."""
        create(store, _JOB)
        assert _kill_holders(store, control_type(_JOB), times=1) == [Recovery(returned=1)]
        plan = claim_plan(store, _JOB)
        assert plan.deaths == 1
        assert store.add_tasks(chunk(plan, 1)) is PlanOutcome.RECORDED

    def test_planning_that_kills_its_workers_fails_the_job(self, store: MovableStore) -> None:
        """No job stays processing for ever because nobody survives its planner."""
        create(store, _JOB)
        rounds = _kill_holders(store, control_type(_JOB), times=3)
        assert rounds == [Recovery(returned=1), Recovery(returned=1), Recovery(jobs_failed=1)]
        job = get_job(store, _JOB)
        assert job.status is JobStatus.FAILED
        assert job.error_details is not None
        assert "planning" in job.error_details
        assert get_stage(store, _JOB).status is not StageStatus.PENDING
        assert ask(store, *all_types(_JOB)).leases == []

    def test_advancing_that_kills_its_workers_fails_the_job(self, store: MovableStore) -> None:
        """The same for the hooks that close a stage."""
        start(store, _JOB, 2)
        run_all(store, _JOB)
        assert let_leases_expire(store, death_budget=2) == Recovery(returned=1)
        assert _kill_holders(store, control_type(_JOB), times=1, budget=2) == [Recovery(jobs_failed=1)]
        job = get_job(store, _JOB)
        assert job.status is JobStatus.FAILED
        assert job.error_details is not None
        assert "advancing" in job.error_details
        assert get_statuses(store, _JOB) == [OK] * 2

    def test_a_recovered_advancement_goes_on(self, store: MovableStore) -> None:
        """A crash between the last result and the next stage loses neither."""
        job = new_job(stages=2)
        start(store, job, 2)
        run_all(store, job)
        let_leases_expire(store)
        lease = claim_advance(store, job, worker="bob")
        assert (lease.kind, lease.deaths) == (WorkKind.ADVANCE, 1)
        assert advance(store, lease, new_stage(2)).outcome is AdvanceOutcome.ADVANCED

    def test_recovery_is_done_in_portions(self, store: MovableStore) -> None:
        """A round touches at most so many rows of a kind, and the next one goes on."""
        start(store, _JOB, 5, range_count=5)
        claim_all(store, _TASKS)
        store.move_clock(LEASE_SECONDS + 1)
        returned = [recover(store, limit=2).returned for _ in range(4)]
        assert returned == [2, 2, 1, 0]

    def test_many_recoverers_return_each_lease_once(self, store: MovableStore) -> None:
        """Recovery needs no leader: rounds at the same moment charge nothing twice."""
        start(store, _JOB, 24, range_count=24)
        claim_all(store, _TASKS)
        store.move_clock(LEASE_SECONDS + 1)
        assert sum(recovery.returned for recovery in crowd(5, lambda _: recover(store))) == 24
        assert {lease.deaths for lease in claim_all(store, _TASKS)} == {1}


class WatchedRecoveryConformance(StoreScenarios):
    """Recovery by a resident that watched the beats itself."""

    def test_a_beat_that_stood_still_is_recovered(self, store: MovableStore) -> None:
        """Who saw the same beat for a full lease may take it, whatever the clocks say."""
        start(store, _JOB, 2, range_count=2)
        first, second = claim_all(store, _TASKS)
        seen = {lease.range_id: lease for lease in store.list_leases(10)}
        recovery = store.recover(expired=[seen[first.range_id]], death_budget=3, limit=10)
        assert recovery == Recovery(returned=1)
        assert [lease.token for lease in get_leases(store)] == [second.token]

    def test_a_watcher_recovers_in_portions(self, store: MovableStore) -> None:
        """However much it saw, a round of it is no longer than asked."""
        start(store, _JOB, 3, range_count=3)
        claim_all(store, _TASKS)
        seen = store.list_leases(10)
        assert store.recover(expired=seen, death_budget=3, limit=2).returned == 2
        assert store.recover(expired=store.list_leases(10), death_budget=3, limit=2).returned == 1

    def test_a_lease_that_was_seen_twice_is_recovered_once(self, store: MovableStore) -> None:
        """A list that names it two times charges no second death."""
        start(store, _JOB, 1)
        claim_one(store, _TASKS)
        assert store.recover(expired=store.list_leases(10) * 2, death_budget=3, limit=10) == Recovery(returned=1)
        assert claim_one(store, _TASKS).deaths == 1

    def test_a_beat_that_moved_is_left_alone(self, store: MovableStore) -> None:
        """A holder that was heard of meanwhile lives."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        seen = store.list_leases(10)
        held = HeldLease(range_id=lease.range_id, token=lease.token, current_index=0)
        store.extend_leases("ada", [held], LEASE_SECONDS)
        assert store.recover(expired=seen, death_budget=3, limit=10) == Recovery()
        assert complete_one(store, complete_ok(lease)).is_last_task_in_stage

    def test_another_lease_on_the_same_range_is_left_alone(self, store: MovableStore) -> None:
        """A token that was seen long ago is nobody's now; its range's new holder keeps it."""
        start(store, _JOB, 1)
        claim_one(store, _TASKS)
        seen = store.list_leases(10)
        let_leases_expire(store)
        lease = claim_one(store, _TASKS)
        assert store.recover(expired=seen, death_budget=3, limit=10) == Recovery()
        assert [held.token for held in get_leases(store)] == [lease.token]

    def test_a_watcher_goes_by_what_it_saw_alone(self, store: MovableStore) -> None:
        """A clock that jumps expires nothing for a recoverer that watches the beats."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        store.move_clock(1_000_000)
        assert store.recover(expired=[], death_budget=3, limit=10) == Recovery()
        strangers = [SeenLease(range_id=987_654, token=1, beat=0)]
        assert store.recover(expired=strangers, death_budget=3, limit=10) == Recovery()
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.RECORDED

    def test_leases_are_listed_up_to_a_limit(self, store: MovableStore) -> None:
        """Every lease is seen with its token and beat, and nothing that is not leased."""
        start(store, _JOB, 5, range_count=5)
        leases = claim_all(store, _TASKS, max_leases=4)
        seen = store.list_leases(100)
        assert {(lease.range_id, lease.token, lease.beat) for lease in seen} == {
            (lease.range_id, lease.token, 0) for lease in leases
        }
        assert len(store.list_leases(3)) == 3


class SweepConformance(StoreScenarios):
    """What recovery puts in order besides."""

    def test_retries_that_are_due_become_ready(self, store: MovableStore) -> None:
        """A sweep opens what is due, no earlier, in portions."""
        start(store, _JOB, 5, range_count=5)
        complete(store, *[report(lease, Again(10.0 * (lease.first + 1))) for lease in claim_all(store, _TASKS)])
        store.move_clock(5)
        assert recover(store) == Recovery()
        store.move_clock(30)
        assert recover(store, limit=2) == Recovery(due=2)
        assert recover(store) == Recovery(due=1)
        assert recover(store) == Recovery()
        store.move_clock(30)
        assert recover(store) == Recovery(due=2)
        assert sorted(lease.first for lease in claim_all(store, _TASKS)) == [0, 1, 2, 3, 4]

    def test_a_retry_whose_time_has_come_is_announced_by_the_sweep(self, store: MovableStore) -> None:
        """A delayed retry is opened for hosts that work by messages alone."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, _TASKS), Again(20.0)))
        assert store.list_unannounced(older_than_seconds=None, limit=10) == []
        store.move_clock(21)
        assert recover(store).due == 1
        (item,) = store.list_unannounced(older_than_seconds=None, limit=10)
        assert item.message.job_id == _JOB.job_id

    @pytest.mark.parametrize("kind", ["plan", "task", "advance"])
    def test_a_dead_workers_lease_of_an_ended_job_is_closed(self, store: MovableStore, kind: str) -> None:
        """What a dead worker held of a cancelled job does not come back."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        if kind != "plan":
            store.add_tasks(chunk(plan, 2))
            lease = claim_one(store, _TASKS)
            if kind == "advance":
                complete_one(store, complete_ok(lease))
        cancel(store, _JOB)
        recovery = let_leases_expire(store)
        assert (recovery.returned, recovery.quarantined, recovery.jobs_failed) == (0, 0, 0)
        assert get_leases(store) == []
        assert get_stage(store, _JOB).remaining == 0
        assert ask(store, *all_types(_JOB)).leases == []
        assert get_status(store, _JOB) is JobStatus.CANCELLED

    def test_a_dead_workers_lease_of_a_halted_stage_is_skipped(self, store: MovableStore) -> None:
        """What a dead worker held of a halted stage is not run again, and may be what empties the stage."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 4, range_count=2)
        first, _ = claim_all(store, _TASKS)
        complete_one(store, report(first, BAD, BAD))
        assert let_leases_expire(store) == Recovery(closed=1)
        recover(store)
        assert claim_all(store, _TASKS) == []
        assert get_statuses(store, job) == [BAD, BAD, TaskStatus.SKIPPED, TaskStatus.SKIPPED]
        claim_advance(store, job)

    def test_leftovers_of_a_halted_stage_are_closed_by_the_sweep(self, store: MovableStore) -> None:
        """A delayed retry that was reported after the halt does not keep the stage open, though no worker claims it."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 2, range_count=2)
        first, second = claim_all(store, _TASKS)
        complete_one(store, report(first, BAD))
        answer = complete_one(store, report(second, Again(5.0)))
        store.move_clock(6)
        recover(store)
        recover(store)
        assert get_statuses(store, job) == [BAD, TaskStatus.SKIPPED]
        assert advance(store, take_advance(store, job, answer)).outcome is AdvanceOutcome.GROUP_FAILED

    def test_tasks_that_were_planned_into_a_halted_stage_are_closed_by_the_sweep(self, store: MovableStore) -> None:
        """The stage can end, though no worker claims them."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        create(store, job)
        plan = claim_plan(store, job)
        store.add_tasks(chunk(plan, 1, final=False))
        complete_one(store, report(claim_one(store, _TASKS), BAD))
        store.add_tasks(chunk(plan, 2, first_index=1))
        assert recover(store) == Recovery(closed=1)
        assert get_statuses(store, job) == [BAD, TaskStatus.SKIPPED, TaskStatus.SKIPPED]
        claim_advance(store, job)

    def test_leftovers_of_an_ended_job_are_closed_by_the_sweep(self, store: MovableStore) -> None:
        """A retry that was reported after the end of its job is closed, though no worker claims it."""
        start(store, _JOB, 2)
        lease = claim_one(store, _TASKS)
        cancel(store, _JOB)
        complete_one(store, report(lease, Again(), Again(5.0)))
        store.move_clock(6)
        recover(store)
        recover(store)
        assert get_statuses(store, _JOB) == [TaskStatus.CANCELLED] * 2

    def test_recovery_of_an_idle_store_does_nothing(self, store: MovableStore) -> None:
        """A round over finished jobs changes nothing."""
        start(store, _JOB, 2)
        finish(store, run_all(store, _JOB))
        before = snapshot(store, _JOB)
        store.move_clock(10_000)
        assert recover(store) == Recovery()
        assert snapshot(store, _JOB) == before
