"""Advancing: a finished stage becomes the next one exactly once, alone or in a parallel group."""

from typing import Final

import pytest

from stageflow.contracts.advancement import AdvanceOutcome, StageAdvance
from stageflow.contracts.job import NewJob
from stageflow.contracts.lease import Lease, WorkKind
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.errors import StoreStateError
from stageflow.testing.conformance.builders import (
    MovableStore,
    advance,
    all_types,
    ask,
    cancel,
    chunk,
    claim_advance,
    claim_one,
    finish,
    let_leases_expire,
    new_job,
    new_stage,
    pause,
    resume,
    run_all,
    start,
    stored_result,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import (
    fail_with,
    get_job,
    get_leases,
    get_stage,
    get_status,
    snapshot,
)
from stageflow.testing.conformance.scenario import StoreScenarios

_TWO: Final = new_job(stages=2)
_FOUR: Final = new_job(stages=4)
_TASKS: Final = tasks_type(_TWO)


def _first_stage_done(store: MovableStore, job: NewJob) -> Lease:
    start(store, job, 2)
    return run_all(store, job)


class AdvanceConformance(StoreScenarios):
    """From one stage to the next."""

    def test_a_stage_is_closed_and_the_next_one_opened(self, store: MovableStore) -> None:
        """Result, status, current stage and the next planning's lease come in one transaction."""
        lease = _first_stage_done(store, _TWO)
        _, text = stored_result(store, lease)
        answer = advance(store, lease, new_stage(2, task_type="sum"))
        assert (answer.outcome, answer.job_updated, answer.new_stage, answer.is_final_stage) == (
            AdvanceOutcome.ADVANCED,
            True,
            2,
            True,
        )
        first, second = get_stage(store, _TWO, 1), get_stage(store, _TWO, 2)
        assert (first.status, first.remaining) == (StageStatus.COMPLETED, 0)
        assert first.stored_result is not None
        assert first.stored_result[:20] == text[:20]
        assert (second.name, second.task_type, second.task_count, second.stored_result) == ("stage 2", "sum", 0, None)
        assert second.status in {StageStatus.PENDING, StageStatus.PLANNING}
        job = get_job(store, _TWO)
        assert (job.status, job.stage) == (JobStatus.PROCESSING, 2)
        assert job.stage_results["1"].successful_tasks == 2

    def test_the_caller_holds_the_planning_of_the_next_stage(self, store: MovableStore) -> None:
        """Whoever advances goes on at once; nobody else can claim the planning meanwhile."""
        plan = advance(store, _first_stage_done(store, _TWO), new_stage(2, task_type="sum")).plan
        assert plan is not None
        assert (plan.kind, plan.job_id, plan.stage_number, plan.task_type) == (WorkKind.PLAN, _TWO.job_id, 2, "sum")
        assert (plan.stage_id, plan.run, plan.tasks) == (get_stage(store, _TWO, 2).stage_id, 1, [])
        assert ask(store, *all_types(_TWO)).leases == []
        assert [lease.token for lease in get_leases(store)] == [plan.token]
        assert store.add_tasks(chunk(plan, 2)) is PlanOutcome.RECORDED
        lease = claim_one(store, tasks_type(_TWO, "sum"))
        assert (lease.stage_number, lease.task_type) == (2, "sum")

    def test_the_second_of_three_stages_is_not_the_final_one(self, store: MovableStore) -> None:
        """The answer says whether the job's last stage has begun."""
        job = new_job(stages=3)
        answer = advance(store, _first_stage_done(store, job), new_stage(2))
        assert (answer.new_stage, answer.is_final_stage) == (2, False)

    def test_a_repeated_advancement_changes_nothing(self, store: MovableStore) -> None:
        """A worker that lost the reply is told that it was done; no second stage is opened."""
        lease = _first_stage_done(store, _TWO)
        _, text = stored_result(store, lease)
        advance(store, lease, new_stage(2))
        before = snapshot(store, _TWO)
        late = StageAdvance(
            range_id=lease.range_id,
            token=lease.token,
            stage_id=lease.stage_id,
            stage_status="failed",
            stage_result=text,
            next_stages=[new_stage(2)],
        )
        (again,) = store.advance_job_stages([late], worker_id="ada", lease_seconds=30.0)
        assert (again.outcome, again.job_updated, again.plan) == (AdvanceOutcome.ALREADY_ADVANCED, False, None)
        assert (again.new_stage, again.is_final_stage) == (2, True)
        assert snapshot(store, _TWO) == before

    def test_of_many_advancers_exactly_one_advances(self, store: MovableStore) -> None:
        """The same advancement at the same moment opens one stage and hands out one planning."""
        lease = _first_stage_done(store, _TWO)
        answers = crowd(6, lambda number: advance(store, lease, new_stage(2), worker=f"worker {number}"))
        outcomes = [answer.outcome for answer in answers]
        assert outcomes.count(AdvanceOutcome.ADVANCED) == 1
        assert outcomes.count(AdvanceOutcome.ALREADY_ADVANCED) == 5
        assert sum(answer.plan is not None for answer in answers) == 1
        assert [stage.stage_number for stage in store.list_stages(_TWO.job_id, 1)] == [1, 2]

    def test_an_advancement_that_went_to_another_is_stale(self, store: MovableStore) -> None:
        """Its stage is closed, but the rest of it is another's to do, who has not done it yet."""
        job = new_job()
        start(store, job, 1)
        lease = run_all(store, job)
        assert advance(store, lease).outcome is AdvanceOutcome.GROUP_CLOSED
        let_leases_expire(store)
        assert advance(store, lease).outcome is AdvanceOutcome.STALE

    def test_a_job_does_not_advance_over_skipped_stages_alone(self, store: MovableStore) -> None:
        """Where nothing is left to run the job is to be ended; the caller is told by which call, and nothing is written."""
        job = new_job(stages=2)
        start(store, job, 1)
        lease = run_all(store, job)
        before = snapshot(store, job)
        with pytest.raises(StoreStateError, match="every stage after"):
            advance(store, lease, new_stage(2, skipped=True))
        assert snapshot(store, job) == before

    def test_an_advancement_that_was_dropped_is_not_repeated_as_done(self, store: MovableStore) -> None:
        """The stage was closed with its job, and nothing was advanced."""
        job = new_job(stages=2)
        start(store, job, 1)
        lease = run_all(store, job)
        cancel(store, job)
        assert advance(store, lease, new_stage(2)).outcome is AdvanceOutcome.JOB_ENDED
        assert advance(store, lease, new_stage(2)).outcome is AdvanceOutcome.STALE

    def test_an_ended_job_is_not_revived(self, store: MovableStore) -> None:
        """An advancement that comes after the end opens nothing and keeps the job ended."""
        lease = _first_stage_done(store, _TWO)
        cancel(store, _TWO)
        answer = advance(store, lease, new_stage(2))
        assert (answer.outcome, answer.job_updated, answer.plan) == (AdvanceOutcome.JOB_ENDED, False, None)
        assert get_status(store, _TWO) is JobStatus.CANCELLED
        assert len(store.list_stages(_TWO.job_id, 1)) == 1
        assert get_leases(store) == []
        assert ask(store, *all_types(_TWO)).leases == []

    def test_a_paused_job_advances_after_it_is_resumed(self, store: MovableStore) -> None:
        """An advancement that meets a pause writes nothing and waits for the resumption."""
        lease = _first_stage_done(store, _TWO)
        pause(store, _TWO)
        answer = advance(store, lease, new_stage(2))
        assert (answer.outcome, answer.job_updated, answer.plan) == (AdvanceOutcome.PAUSED, False, None)
        assert get_stage(store, _TWO).stored_result is None
        assert len(store.list_stages(_TWO.job_id, 1)) == 1
        assert ask(store, *all_types(_TWO)).leases == []
        assert advance(store, lease, new_stage(2)).outcome is AdvanceOutcome.STALE
        resume(store, _TWO)
        again = claim_advance(store, _TWO)
        assert advance(store, again, new_stage(2)).outcome is AdvanceOutcome.ADVANCED

    def test_a_recovered_advancement_is_carried_out_by_another(self, store: MovableStore) -> None:
        """A worker that dies between the last result and the advancement loses nothing."""
        lease = _first_stage_done(store, _TWO)
        let_leases_expire(store)
        other = claim_advance(store, _TWO, worker="bob")
        assert advance(store, lease, new_stage(2)).outcome is AdvanceOutcome.STALE
        assert advance(store, other, new_stage(2)).outcome is AdvanceOutcome.ADVANCED
        assert advance(store, lease, new_stage(2)).outcome is AdvanceOutcome.ALREADY_ADVANCED

    def test_the_last_stage_keeps_the_lease_for_the_end_of_the_job(self, store: MovableStore) -> None:
        """With nothing to follow, the result is stored and the caller still holds what it needs to end the job."""
        job = new_job()
        lease = _first_stage_done(store, job)
        answer = advance(store, lease)
        assert (answer.outcome, answer.job_updated, answer.new_stage, answer.is_final_stage) == (
            AdvanceOutcome.GROUP_CLOSED,
            False,
            1,
            True,
        )
        assert get_stage(store, job).status is StageStatus.COMPLETED
        assert [seen.token for seen in get_leases(store)] == [lease.token]
        assert finish(store, lease).job_updated

    def test_a_crash_before_the_end_of_the_job_is_made_good(self, store: MovableStore) -> None:
        """A stage that was closed by a worker that died is advanced again, and keeps its result."""
        job = new_job()
        lease = _first_stage_done(store, job)
        advance(store, lease)
        text = get_stage(store, job).stored_result
        let_leases_expire(store)
        again = claim_advance(store, job, worker="bob")
        assert advance(store, again).outcome is AdvanceOutcome.GROUP_CLOSED
        assert get_stage(store, job).stored_result == text
        assert finish(store, again).job_updated

    def test_a_failed_verdict_keeps_the_lease(self, store: MovableStore) -> None:
        """The verdict stands in the stage's row, and its holder fails the job with it."""
        lease = _first_stage_done(store, _TWO)
        answer = advance(store, lease, new_stage(2), status=StageStatus.FAILED)
        assert (answer.outcome, answer.plan) == (AdvanceOutcome.GROUP_FAILED, None)
        assert get_stage(store, _TWO).status is StageStatus.FAILED
        assert len(store.list_stages(_TWO.job_id, 1)) == 1
        assert fail_with(store, lease, "the verdict")
        assert get_status(store, _TWO) is JobStatus.FAILED

    def test_a_skipped_stage_is_stored_with_its_result(self, store: MovableStore) -> None:
        """A stage that is skipped has no tasks and a result that says so; the one after it is planned."""
        job = new_job(stages=3)
        answer = advance(store, _first_stage_done(store, job), new_stage(2, skipped=True), new_stage(3))
        assert (answer.outcome, answer.new_stage, answer.is_final_stage) == (AdvanceOutcome.ADVANCED, 3, True)
        assert answer.plan is not None
        assert answer.plan.stage_number == 3
        skipped = get_stage(store, job, 2)
        assert (skipped.status, skipped.task_count, skipped.remaining) == (StageStatus.SKIPPED, 0, 0)
        record = get_job(store, job)
        assert (record.stage, record.stage_results["2"].status) == (3, StageStatus.SKIPPED)
        assert (record.stage_results["2"].task_count, record.stage_results["2"].success_rate) == (0, 100.0)
        store.add_tasks(chunk(answer.plan, 0))
        end = finish(store, claim_advance(store, job))
        assert (end.job_updated, end.status, end.final_stage) == (True, JobStatus.COMPLETED, 3)

    def test_stages_of_many_jobs_advance_side_by_side(self, store: MovableStore) -> None:
        """An advancement moves its own job and no other."""
        jobs = [new_job(name, stages=2) for name in ("a", "b")]
        lease_of_a, lease_of_b = (_first_stage_done(store, job) for job in jobs)
        advance(store, lease_of_b, new_stage(2))
        assert [get_job(store, job).stage for job in jobs] == [1, 2]
        advance(store, lease_of_a, new_stage(2))
        assert [get_job(store, job).stage for job in jobs] == [2, 2]

    def test_a_job_passes_through_all_its_stages(self, store: MovableStore) -> None:
        """From the first stage to the end, each result is there under its own number."""
        lease = _first_stage_done(store, _FOUR)
        for number in (2, 3, 4):
            plan = advance(store, lease, new_stage(number)).plan
            assert plan is not None
            store.add_tasks(chunk(plan, number))
            lease = run_all(store, _FOUR)
        assert finish(store, lease, result_data='{"sum":11}').job_updated
        job = get_job(store, _FOUR)
        assert (job.status, job.stage, job.result_data) == (JobStatus.COMPLETED, 4, {"sum": 11})
        assert [job.stage_results[key].task_count for key in ("1", "2", "3", "4")] == [2, 2, 3, 4]
        assert [job.stage_results["4"].task_results[index].task_index for index in range(4)] == [0, 1, 2, 3]
