"""The end of a job: when every stage is closed, once, with the right status and counts."""

from typing import Final

import pytest

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.job import JobClosing
from stageflow.contracts.lease import Lease
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.errors import StoreStateError
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    MovableStore,
    advance,
    ask,
    cancel,
    chunk,
    claim_advance,
    claim_one,
    close_job,
    complete_one,
    control_type,
    create,
    finish,
    let_leases_expire,
    look_at_completion,
    new_job,
    new_stage,
    pause,
    report,
    resume,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import fail_with, get_job, get_leases, get_stage, get_status, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TWO: Final = new_job(stages=2)


def _done(store: MovableStore, count: int = 3) -> Lease:
    start(store, _JOB, count)
    return run_all(store, _JOB)


class JobCompletionConformance(StoreScenarios):
    """Ending a job whose stages are closed."""

    def test_the_last_stage_and_the_job_end_in_one_call(self, store: MovableStore) -> None:
        """The holder of the last advancement stores the stage's result and the job's, and the job is completed."""
        lease = _done(store)
        end = finish(store, lease, result_data='{"sum":3}')
        assert (end.job_id, end.job_complete, end.job_updated, end.status) == (_JOB.job_id, True, True, JobStatus.COMPLETED)
        assert (end.final_stage, end.total_tasks, end.successful_tasks, end.failed_tasks) == (1, 3, 3, 0)
        assert end.task_results == []
        assert [result.task_index for result in look_at_completion(store, _JOB).task_results] == [0, 1, 2]
        job = get_job(store, _JOB)
        assert (job.status, job.result_data, job.error_details) == (JobStatus.COMPLETED, {"sum": 3}, None)
        assert job.stage_results["1"].successful_tasks == 3
        assert get_leases(store) == []
        assert ask(store, control_type(_JOB)).leases == []

    def test_a_job_ends_after_its_stage_was_closed_before(self, store: MovableStore) -> None:
        """Closing the stage and ending the job may be two calls, under one lease."""
        lease = _done(store)
        advance(store, lease)
        end = close_job(store, JobClosing(job_id=lease.job_id, range_id=lease.range_id, token=lease.token))
        assert (end.job_complete, end.job_updated, end.status) == (True, True, JobStatus.COMPLETED)

    def test_the_lease_of_a_task_ends_no_job(self, store: MovableStore) -> None:
        """Only the holder of the advancement closes the last stage."""
        start(store, _JOB, 1)
        lease = claim_one(store, tasks_type(_JOB))
        before = snapshot(store, _JOB)
        closing = JobClosing(
            job_id=lease.job_id,
            range_id=lease.range_id,
            token=lease.token,
            stage_id=lease.stage_id,
            stage_status="completed",
            stage_result="{}",
        )
        end = close_job(store, closing)
        assert (end.job_complete, end.job_updated) == (False, False)
        assert snapshot(store, _JOB) == before

    def test_a_stage_with_errors_makes_a_job_with_errors(self, store: MovableStore) -> None:
        """A job whose policies let failures pass says so, also where only an early stage had them."""
        start(store, _TWO, 2)
        end = complete_one(store, report(claim_one(store, tasks_type(_TWO)), OK, BAD)).advance
        assert end is not None
        plan = advance(store, end, new_stage(2)).plan
        assert plan is not None
        store.add_tasks(chunk(plan, 3))
        answer = finish(store, run_all(store, _TWO))
        assert (answer.status, answer.final_stage) == (JobStatus.COMPLETED_WITH_ERRORS, 2)
        assert (answer.total_tasks, answer.successful_tasks, answer.failed_tasks) == (5, 4, 1)
        assert [(result.stage_number, result.task_index) for result in look_at_completion(store, _TWO).task_results] == [
            (2, 0),
            (2, 1),
            (2, 2),
        ]

    def test_a_job_with_open_stages_does_not_end(self, store: MovableStore) -> None:
        """Looking changes nothing, and says how far the job is."""
        create(store, _TWO)
        look = look_at_completion(store, _TWO)
        assert (look.job_complete, look.job_updated, look.status, look.final_stage) == (False, False, JobStatus.QUEUED, 0)
        assert (look.total_tasks, look.task_results) == (0, [])

    def test_a_job_with_stages_to_come_does_not_end(self, store: MovableStore) -> None:
        """One closed stage of two is not the end, and its results are not those of another."""
        start(store, _TWO, 2)
        advance(store, run_all(store, _TWO), new_stage(2))
        before = snapshot(store, _TWO)
        look = look_at_completion(store, _TWO)
        assert (look.job_complete, look.job_updated, look.status, look.final_stage) == (False, False, JobStatus.PROCESSING, 1)
        assert (look.total_tasks, look.successful_tasks, len(look.task_results)) == (2, 2, 2)
        assert snapshot(store, _TWO) == before

    def test_the_holder_of_a_stage_does_not_end_a_job_with_stages_to_come(self, store: MovableStore) -> None:
        """Whoever asks too early has its stage closed and keeps its lease."""
        start(store, _TWO, 2)
        lease = run_all(store, _TWO)
        answer = finish(store, lease)
        assert (answer.job_complete, answer.job_updated) == (False, False)
        assert get_status(store, _TWO) is JobStatus.PROCESSING
        assert advance(store, lease, new_stage(2)).outcome is AdvanceOutcome.ADVANCED

    def test_the_holder_of_a_stage_does_not_end_a_job_whose_others_are_open(self, store: MovableStore) -> None:
        """Of two last stages side by side, the one that is done leaves the end of the job to the other."""
        job = new_job(stages=3)
        start(store, job, 1)
        plan = advance(store, run_all(store, job), *(new_stage(number, group=(2, 3)) for number in (2, 3))).plan
        assert plan is not None
        store.add_tasks(chunk(plan, 1))
        answer = finish(store, run_all(store, job))
        assert (answer.job_complete, answer.job_updated) == (False, False)
        assert get_status(store, job) is JobStatus.PROCESSING

    def test_looking_does_not_end_a_job(self, store: MovableStore) -> None:
        """Without a lease the answer is an answer only, also where everything is closed."""
        advance(store, _done(store))
        look = look_at_completion(store, _JOB)
        assert (look.job_complete, look.job_updated, look.status) == (True, False, JobStatus.PROCESSING)
        assert get_status(store, _JOB) is JobStatus.PROCESSING

    def test_a_job_ends_once(self, store: MovableStore) -> None:
        """A repeated ending is told how it stands, and writes nothing."""
        lease = _done(store)
        finish(store, lease, result_data='{"first":true}')
        before = snapshot(store, _JOB)
        again = finish(store, lease, result_data='{"second":true}')
        assert (again.job_complete, again.job_updated, again.status) == (True, False, JobStatus.COMPLETED)
        assert snapshot(store, _JOB) == before

    def test_of_many_that_end_a_job_exactly_one_does(self, store: MovableStore) -> None:
        """The same ending at the same moment happens once."""
        lease = _done(store)
        answers = crowd(5, lambda _: finish(store, lease))
        assert sum(answer.job_updated for answer in answers) == 1
        assert get_status(store, _JOB) is JobStatus.COMPLETED

    def test_stages_that_never_ran_are_stored_as_skipped(self, store: MovableStore) -> None:
        """A job that is complete before its last stage has a result for every stage."""
        job = new_job(stages=3)
        start(store, job, 2)
        end = finish(store, run_all(store, job), new_stage(2, skipped=True), new_stage(3, skipped=True))
        assert (end.job_complete, end.job_updated, end.status) == (True, True, JobStatus.COMPLETED)
        record = get_job(store, job)
        assert [record.stage_results[key].status for key in ("1", "2", "3")] == [
            StageStatus.COMPLETED,
            StageStatus.SKIPPED,
            StageStatus.SKIPPED,
        ]
        assert (end.total_tasks, record.stage) == (2, 1)

    def test_a_job_with_a_failed_stage_does_not_complete(self, store: MovableStore) -> None:
        """A failed stage stops its job; to declare that job complete is a bug, and raised."""
        lease = _done(store)
        before = snapshot(store, _JOB)
        with pytest.raises(StoreStateError):
            finish(store, lease, status=StageStatus.FAILED)
        assert snapshot(store, _JOB) == before
        assert advance(store, lease, status=StageStatus.FAILED).outcome is AdvanceOutcome.GROUP_FAILED
        with pytest.raises(StoreStateError):
            finish(store, lease)
        assert fail_with(store, lease, "the verdict")

    def test_a_cancelled_task_does_not_keep_a_job_from_its_end(self, store: MovableStore) -> None:
        """A stage whose status is cancelled because an operator cancelled a task is closed like any other."""
        start(store, _JOB, 2)
        lease = complete_one(store, report(claim_one(store, tasks_type(_JOB)), OK, TaskStatus.CANCELLED)).advance
        assert lease is not None
        end = finish(store, lease)
        assert (end.job_updated, get_stage(store, _JOB).status) == (True, StageStatus.CANCELLED)

    def test_a_cancelled_job_does_not_complete(self, store: MovableStore) -> None:
        """The end that came first stands."""
        lease = _done(store)
        cancel(store, _JOB)
        answer = finish(store, lease)
        assert (answer.job_updated, answer.status) == (False, JobStatus.CANCELLED)
        assert get_status(store, _JOB) is JobStatus.CANCELLED

    def test_a_paused_job_ends_after_it_is_resumed(self, store: MovableStore) -> None:
        """A pause holds the end of a job like everything else."""
        lease = _done(store)
        pause(store, _JOB)
        answer = finish(store, lease)
        assert (answer.job_updated, answer.status) == (False, JobStatus.PAUSED)
        assert ask(store, control_type(_JOB)).leases == []
        resume(store, _JOB)
        assert finish(store, claim_advance(store, _JOB)).job_updated

    def test_a_paused_job_whose_stages_are_closed_waits_for_its_resumption(self, store: MovableStore) -> None:
        """Even where nothing is left to run, the end is held."""
        lease = _done(store)
        advance(store, lease)
        pause(store, _JOB)
        assert not finish(store, lease).job_updated
        assert get_status(store, _JOB) is JobStatus.PAUSED
        resume(store, _JOB)
        assert finish(store, claim_advance(store, _JOB)).job_updated

    def test_a_stale_holder_does_not_end_the_job(self, store: MovableStore) -> None:
        """Whoever lost the lease on the advancement decides nothing."""
        lease = _done(store)
        let_leases_expire(store)
        before = snapshot(store, _JOB)
        answer = finish(store, lease)
        assert (answer.job_updated, answer.status) == (False, JobStatus.PROCESSING)
        assert snapshot(store, _JOB) == before
        assert get_stage(store, _JOB).stored_result is None
        assert finish(store, claim_advance(store, _JOB)).job_updated

    def test_the_results_of_a_wide_last_stage_are_read_elsewhere(self, store: MovableStore) -> None:
        """A look carries the first thousand results and counts them all."""
        lease = _done(store, 1003)
        assert finish(store, lease).job_updated
        end = look_at_completion(store, _JOB)
        assert (end.total_tasks, end.successful_tasks, len(end.task_results)) == (1003, 1003, 1000)
