"""The status of a job: the transition table, failing and cancelling."""

from typing import Final

import pytest

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.job import JobEnding, JobUpdate, NewJob
from stageflow.contracts.lease import ClaimOutcome, CompletionOutcome, Lease, Recovery
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.status import (
    JOB_TRANSITIONS,
    TERMINAL_JOB_STATUSES,
    JobStatus,
    StageStatus,
    StatusValidator,
    TaskStatus,
)
from stageflow.errors import InvalidTransitionError, StoreStateError
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    Again,
    MovableStore,
    advance,
    all_types,
    ask,
    cancel,
    chunk,
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
    job_id_of,
    let_leases_expire,
    new_job,
    new_stage,
    pause,
    plan_all,
    recover,
    report,
    run_all,
    set_status,
    start,
    stored_result,
    tasks_type,
)
from stageflow.testing.conformance.looking import (
    check_partition,
    get_job,
    get_stage,
    get_status,
    get_statuses,
    get_tasks,
    snapshot,
)
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_ENDS: Final = [JobStatus.FAILED, JobStatus.CANCELLED]


def _close_all_stages(store: MovableStore, job: NewJob) -> Lease:
    """Bring a job of one stage as far as it gets without being ended."""
    start(store, job, 2, range_count=2)
    lease = run_all(store, job)
    assert advance(store, lease).outcome is AdvanceOutcome.GROUP_CLOSED
    return lease


def _bring_to(store: MovableStore, status: JobStatus) -> None:
    match status:
        case JobStatus.QUEUED:
            create(store, _JOB)
        case JobStatus.PROCESSING:
            _close_all_stages(store, _JOB)
        case JobStatus.PAUSED | JobStatus.FAILED | JobStatus.CANCELLED:
            create(store, _JOB)
            set_status(store, _JOB, status)
        case JobStatus.COMPLETED:
            start(store, _JOB, 1)
            assert finish(store, run_all(store, _JOB)).job_updated
        case JobStatus.COMPLETED_WITH_ERRORS:
            start(store, _JOB, 2)
            answer = complete_one(store, report(claim_one(store, tasks_type(_JOB)), OK, BAD))
            assert answer.advance is not None
            assert finish(store, answer.advance).job_updated


class JobStatusConformance(StoreScenarios):
    """Changing a job's status, by the one table of transitions."""

    @pytest.mark.parametrize("new_status", list(JobStatus))
    @pytest.mark.parametrize("current", list(JobStatus))
    def test_a_status_changes_as_the_transition_table_says(
        self, store: MovableStore, current: JobStatus, new_status: JobStatus
    ) -> None:
        """The store's guard and the table in Python allow and forbid the same."""
        _bring_to(store, current)
        before = snapshot(store, _JOB)
        assert before.job.status is current
        if current in TERMINAL_JOB_STATUSES and new_status is JobStatus.QUEUED:
            with pytest.raises(InvalidTransitionError, match=f"{current} becomes queued by resubmit or repair only"):
                store.change_job_status(_JOB.job_id, new_status, JobUpdate(error_details="never written"))
            assert snapshot(store, _JOB) == before
        elif StatusValidator.may_follow(current, new_status):
            record = store.change_job_status(_JOB.job_id, new_status, JobUpdate())
            assert record is not None
            assert record.status is new_status
            assert get_status(store, _JOB) is new_status
        else:
            with pytest.raises(InvalidTransitionError) as expected:
                StatusValidator.validate(current, new_status)
            with pytest.raises(InvalidTransitionError) as caught:
                store.change_job_status(_JOB.job_id, new_status, JobUpdate(error_details="never written"))
            assert str(caught.value) == str(expected.value)
            assert snapshot(store, _JOB) == before

    def test_the_table_names_every_status(self, store: MovableStore) -> None:
        """The table that the stores are compared with leaves nothing out."""
        assert set(JOB_TRANSITIONS) == set(JobStatus)
        assert store.change_job_status(job_id_of("nobody"), JobStatus.PAUSED, JobUpdate()) is None

    def test_fields_are_written_with_the_status(self, store: MovableStore) -> None:
        """Why a job failed is stored in the transaction that fails it."""
        create(store, _JOB)
        update = JobUpdate(metadata={"by": "hand"}, result_data={"partial": 1}, error_details="the disk is full")
        record = store.change_job_status(_JOB.job_id, JobStatus.FAILED, update)
        assert record is not None
        assert (record.metadata, record.result_data, record.error_details) == (
            {"by": "hand"},
            {"partial": 1},
            "the disk is full",
        )
        assert get_job(store, _JOB) == record

    @pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS])
    def test_a_job_with_open_stages_is_not_declared_complete(self, store: MovableStore, status: JobStatus) -> None:
        """A job completes when its stages are closed; nobody can say so before."""
        start(store, _JOB, 2)
        before = snapshot(store, _JOB)
        with pytest.raises(StoreStateError, match="check_job_completion"):
            store.change_job_status(_JOB.job_id, status, JobUpdate())
        assert snapshot(store, _JOB) == before

    def test_a_job_with_a_failed_stage_is_not_declared_complete(self, store: MovableStore) -> None:
        """All is closed, and not all is well: such a job fails."""
        start(store, _JOB, 1)
        lease = complete_one(store, report(claim_one(store, tasks_type(_JOB)), BAD)).advance
        assert lease is not None
        assert advance(store, lease, status=StageStatus.FAILED).outcome is AdvanceOutcome.GROUP_FAILED
        with pytest.raises(StoreStateError, match="open or failed stages"):
            set_status(store, _JOB, JobStatus.COMPLETED)
        assert get_status(store, _JOB) is JobStatus.PROCESSING

    def test_a_job_with_stages_to_come_is_not_declared_complete(self, store: MovableStore) -> None:
        """All that was opened is closed, and that is not all."""
        job = new_job("two", stages=2)
        start(store, job, 1)
        assert advance(store, run_all(store, job)).outcome is AdvanceOutcome.GROUP_CLOSED
        with pytest.raises(StoreStateError, match="check_job_completion"):
            set_status(store, job, JobStatus.COMPLETED)
        assert get_status(store, job) is JobStatus.PROCESSING

    def test_a_job_is_declared_complete_by_its_present_run(self, store: MovableStore) -> None:
        """What failed in a former run is done now."""
        start(store, _JOB, 1)
        lease = complete_one(store, report(claim_one(store, tasks_type(_JOB)), BAD)).advance
        assert lease is not None
        assert advance(store, lease, status=StageStatus.FAILED).outcome is AdvanceOutcome.GROUP_FAILED
        set_status(store, _JOB, JobStatus.FAILED)
        store.resubmit_job(NewRun(job_id=_JOB.job_id, former_run=1, stages=(_JOB.first_stage,)))
        plan_all(store, _JOB, 1)
        assert advance(store, run_all(store, _JOB)).outcome is AdvanceOutcome.GROUP_CLOSED
        assert set_status(store, _JOB, JobStatus.COMPLETED).status is JobStatus.COMPLETED

    def test_a_cancellation_without_a_reason_keeps_the_one_that_is_there(self, store: MovableStore) -> None:
        """What was noted of a job before it ended stays readable, and nothing of it is left for a recovery to close."""
        create(store, _JOB)
        store.change_job_status(_JOB.job_id, JobStatus.QUEUED, JobUpdate(error_details="noted"))
        cancel(store, _JOB)
        assert get_job(store, _JOB).error_details == "noted"
        assert recover(store) == Recovery()

    def test_a_changed_job_carries_its_stage_results(self, store: MovableStore) -> None:
        """The answer is the job, whole."""
        _close_all_stages(store, _JOB)
        record = store.change_job_status(_JOB.job_id, JobStatus.PAUSED, JobUpdate())
        assert record is not None
        assert list(record.stage_results) == ["1"]


class EndJobConformance(StoreScenarios):
    """Failing and cancelling: the job ends at once, its waiting work is closed, and nothing revives it."""

    @pytest.mark.parametrize("status", _ENDS)
    def test_an_ended_job_has_its_waiting_work_closed(self, store: MovableStore, status: JobStatus) -> None:
        """Ready, delayed and planned-for-later tasks are cancelled, counted, and never claimed."""
        start(store, _JOB, 6, range_count=3)
        lease = claim_one(store, tasks_type(_JOB))
        complete_one(store, report(lease, Again(600.0), OK))
        ending = JobEnding(job_id=_JOB.job_id, status=status, error_details="enough")
        assert store.end_job(ending)
        job = get_job(store, _JOB)
        assert (job.status, job.error_details) == (status, "enough")
        assert get_statuses(store, _JOB) == [TaskStatus.CANCELLED, OK, *[TaskStatus.CANCELLED] * 4]
        stage = get_stage(store, _JOB)
        assert (stage.remaining, stage.cancelled_tasks, stage.successful_tasks) == (0, 5, 1)
        store.move_clock(700)
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY

    @pytest.mark.parametrize("status", _ENDS)
    def test_an_ended_job_leaves_nothing_to_announce(self, store: MovableStore, status: JobStatus) -> None:
        """Closing its last tasks opens no advancement, of which a queue would be told."""
        start(store, _JOB, 4, range_count=2)
        assert len(store.list_unannounced(older_than_seconds=None, limit=10)) == 2
        set_status(store, _JOB, status)
        assert store.list_unannounced(older_than_seconds=None, limit=10) == []

    @pytest.mark.parametrize("status", _ENDS)
    def test_changing_the_status_ends_a_job_as_end_job_does(self, store: MovableStore, status: JobStatus) -> None:
        """There is one way to end a job, under two names."""
        start(store, _JOB, 4, range_count=2)
        set_status(store, _JOB, status)
        assert get_statuses(store, _JOB) == [TaskStatus.CANCELLED] * 4
        assert StatusValidator.is_terminal(get_stage(store, _JOB).status)
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY

    def test_a_cancelled_job_that_never_started_has_nothing_to_claim(self, store: MovableStore) -> None:
        """The planning of a cancelled job is dropped."""
        create(store, _JOB)
        cancel(store, _JOB)
        assert get_stage(store, _JOB).status is StageStatus.CANCELLED
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY
        assert store.list_unannounced(older_than_seconds=None, limit=10) == []

    def test_results_that_come_after_the_end_are_recorded_and_advance_nothing(self, store: MovableStore) -> None:
        """A handler that was running when the job ended loses no work, and revives nothing."""
        start(store, _JOB, 3)
        lease = claim_one(store, tasks_type(_JOB))
        cancel(store, _JOB)
        answer = complete_one(store, complete_ok(lease))
        assert (answer.outcome, answer.remaining_tasks, answer.advance) == (CompletionOutcome.RECORDED, 0, None)
        assert get_statuses(store, _JOB) == [OK] * 3
        assert get_stage(store, _JOB).status is StageStatus.CANCELLED
        assert get_status(store, _JOB) is JobStatus.CANCELLED
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY

    def test_a_retry_after_the_end_is_never_carried_out(self, store: MovableStore) -> None:
        """An attempt that fails after its job ended is not tried again; its task is closed as cancelled."""
        start(store, _JOB, 2)
        lease = claim_one(store, tasks_type(_JOB))
        cancel(store, _JOB)
        complete_one(store, report(lease, Again(), Again(5.0)))
        store.move_clock(6)
        assert ask(store, *all_types(_JOB)).leases == []
        recover(store)
        assert ask(store, *all_types(_JOB)).leases == []
        assert get_statuses(store, _JOB) == [TaskStatus.CANCELLED] * 2

    def test_what_is_given_back_after_the_end_is_closed(self, store: MovableStore) -> None:
        """A drained worker's work of an ended job goes nowhere."""
        start(store, _JOB, 5)
        lease = claim_one(store, tasks_type(_JOB))
        cancel(store, _JOB)
        assert store.return_ranges([give_back(lease, 2)]) == [True]
        assert get_statuses(store, _JOB)[2:] == [TaskStatus.CANCELLED] * 3
        complete_one(store, complete_ok(lease, 2))
        assert get_stage(store, _JOB).remaining == 0

    def test_a_job_ends_once(self, store: MovableStore) -> None:
        """The first ending counts; a second one of any kind changes nothing."""
        create(store, _JOB)
        assert store.end_job(JobEnding(job_id=_JOB.job_id, status=JobStatus.FAILED, error_details="first"))
        before = snapshot(store, _JOB)
        assert not store.end_job(JobEnding(job_id=_JOB.job_id, status=JobStatus.CANCELLED, error_details="second"))
        assert snapshot(store, _JOB) == before

    def test_a_paused_job_can_be_cancelled(self, store: MovableStore) -> None:
        """What a pause held is closed by the end."""
        start(store, _JOB, 3)
        pause(store, _JOB)
        ask(store, *all_types(_JOB))
        cancel(store, _JOB)
        assert get_statuses(store, _JOB) == [TaskStatus.CANCELLED] * 3

    def test_the_holder_of_the_planning_can_fail_its_job(self, store: MovableStore) -> None:
        """A planner that raises ends its job under its lease, and the lease is gone with it."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        ending = JobEnding(
            job_id=_JOB.job_id,
            status=JobStatus.FAILED,
            error_details="the planner raised",
            range_id=plan.range_id,
            token=plan.token,
        )
        assert store.end_job(ending)
        assert get_status(store, _JOB) is JobStatus.FAILED
        assert store.list_leases(10) == []
        assert store.add_tasks(chunk(plan, 1)) in {PlanOutcome.STALE, PlanOutcome.JOB_ENDED}

    def test_a_stale_holder_cannot_end_the_job(self, store: MovableStore) -> None:
        """A planner that lost its lease decides nothing any more."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        let_leases_expire(store)
        claim_plan(store, _JOB)
        before = snapshot(store, _JOB)
        ending = JobEnding(
            job_id=_JOB.job_id,
            status=JobStatus.FAILED,
            error_details="too late",
            range_id=plan.range_id,
            token=plan.token,
        )
        assert not store.end_job(ending)
        assert snapshot(store, _JOB) == before

    def test_the_closing_stage_is_stored_with_the_end(self, store: MovableStore) -> None:
        """A stage whose verdict fails the job has its result all the same."""
        start(store, _JOB, 2)
        answer = complete_one(store, report(claim_one(store, tasks_type(_JOB)), OK, BAD))
        lease = answer.advance
        assert lease is not None
        stage_status, text = stored_result(store, lease, StageStatus.FAILED)
        ending = JobEnding(
            job_id=_JOB.job_id,
            status=JobStatus.FAILED,
            error_details="one task failed",
            range_id=lease.range_id,
            token=lease.token,
            stage_id=lease.stage_id,
            stage_status=stage_status,
            stage_result=text,
        )
        assert store.end_job(ending)
        stage = get_stage(store, _JOB)
        assert (stage.status, stage.stored_result) == (StageStatus.FAILED, text)
        result = get_job(store, _JOB).stage_results["1"]
        assert (result.status, result.successful_tasks, result.failed_tasks) == (StageStatus.FAILED, 1, 1)

    def test_an_ended_job_takes_nothing_from_others(self, store: MovableStore) -> None:
        """Cancelling one job leaves its neighbours of the same type alone."""
        start(store, _JOB, 3)
        start(store, new_job("other"), 3)
        cancel(store, _JOB)
        lease = claim_one(store, tasks_type(_JOB))
        assert (lease.job_id, lease.last - lease.first) == (job_id_of("other"), 3)
        check_partition(store, _JOB)

    def test_ended_stages_keep_their_results(self, store: MovableStore) -> None:
        """A job that fails late keeps what its earlier stages found."""
        job = new_job(stages=2)
        start(store, job, 2)
        moved = advance(store, run_all(store, job), new_stage(2))
        assert moved.plan is not None
        cancel(store, job)
        assert get_stage(store, job, 1).status is StageStatus.COMPLETED
        assert list(get_job(store, job).stage_results) == ["1"]
        assert store.add_tasks(chunk(moved.plan, 1)) is PlanOutcome.JOB_ENDED
        assert get_stage(store, job, 2).status is StageStatus.CANCELLED
        assert get_tasks(store, job, 2) == []

    def test_a_batch_over_an_ended_and_a_running_job_is_recorded(self, store: MovableStore) -> None:
        """One job's end does not strand the reports of another."""
        start(store, _JOB, 1)
        start(store, new_job("other"), 1)
        leases = claim_all(store, tasks_type(_JOB))
        cancel(store, _JOB)
        answers = complete(store, *[complete_ok(lease) for lease in leases])
        assert [answer.outcome for answer in answers] == [CompletionOutcome.RECORDED] * 2
        assert {answer.job_id for answer in answers if answer.advance is not None} == {job_id_of("other")}
        assert [lease.kind for lease in claim_all(store, control_type(_JOB))] == []
