"""Resubmissions: an ended job runs again under its id, and nothing of its former run touches the new one."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from threading import Thread
from typing import Final

import pytest

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.job import JobEnding, JobRecord, JobUpdate, NewJob
from stageflow.contracts.lease import ClaimOutcome, CompletionOutcome, HeldLease, Lease, WorkKind
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.stage import NewStage
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.errors import InvalidTransitionError, StoreStateError
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
    claim_all,
    claim_one,
    claim_plan,
    complete_ok,
    complete_one,
    control_type,
    create,
    finish,
    give_back,
    job_id_of,
    let_leases_expire,
    name_claim,
    new_job,
    new_stage,
    pause,
    plan_all,
    recover,
    report,
    resume,
    run_all,
    set_status,
    start,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import (
    check_partition,
    drain,
    fail_with,
    get_job,
    get_rows,
    get_stage,
    get_status,
    get_statuses,
    snapshot,
)
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TWO: Final = new_job("two", stages=2)


def resubmit(store: MovableStore, job: NewJob, *stages: NewStage, former_run: int = 1) -> JobRecord:
    """Run a job again, which must be possible; as a whole where no stage is named."""
    opened = stages or (job.first_stage,)
    record = store.resubmit_job(NewRun(job_id=job.job_id, former_run=former_run, stages=opened))
    assert record is not None
    return record


def _fail_at_stage_2(store: MovableStore, job: NewJob) -> Lease:
    """Complete the first stage with three tasks, begin the second with two, and fail the job; return a lease that is held."""
    start(store, job, 3)
    answer = advance(store, run_all(store, job), new_stage(2))
    assert answer.plan is not None
    assert store.add_tasks(chunk(answer.plan, 2, range_count=2)) is PlanOutcome.RECORDED
    lease = claim_one(store, tasks_type(job), max_tasks=1)
    assert store.end_job(JobEnding(job_id=job.job_id, status=JobStatus.FAILED, error_details="the disk is full"))
    return lease


class ResubmitConformance(StoreScenarios):
    """Running an ended job again."""

    @pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
    def test_a_resubmitted_job_is_queued_with_a_run_of_its_own(self, store: MovableStore, status: JobStatus) -> None:
        """It begins as a new job does: its first stage waits to be planned, and the former answer and error are gone."""
        start(store, _JOB, 2)
        set_status(store, _JOB, status)
        store.move_clock(5)
        before = get_job(store, _JOB)
        job = resubmit(store, _JOB)
        assert (job.status, job.run, job.stage) == (JobStatus.QUEUED, 2, 1)
        assert (job.result_data, job.error_details, job.stage_results) == (None, None, {})
        assert (job.parameters, job.metadata, job.created_at) == (before.parameters, before.metadata, before.created_at)
        assert job.updated_at > before.updated_at
        assert get_job(store, _JOB) == job
        stage = get_stage(store, _JOB)
        assert (stage.run, stage.status, stage.task_count, stage.plan_digest) == (2, StageStatus.PENDING, 0, "")
        plan = claim_plan(store, _JOB)
        assert (plan.run, plan.stage_id) == (2, stage.stage_id)
        assert get_status(store, _JOB) is JobStatus.PROCESSING

    def test_a_resubmission_forgets_why_the_former_run_failed(self, store: MovableStore) -> None:
        """The error was that run's; the new one has none yet."""
        create(store, _JOB)
        store.change_job_status(_JOB.job_id, JobStatus.FAILED, JobUpdate(error_details="no disk"))
        assert resubmit(store, _JOB).error_details is None

    def test_a_resubmitted_job_runs_to_its_end(self, store: MovableStore) -> None:
        """The second run is as good as the first, and so is the third."""
        start(store, _JOB, 2)
        assert fail_with(store, _failing(store), "the second task failed")
        resubmit(store, _JOB)
        cancel(store, _JOB)
        resubmit(store, _JOB, former_run=2)
        plan_all(store, _JOB, 4)
        assert finish(store, run_all(store, _JOB), result_data='{"sum":4}').job_updated
        job = get_job(store, _JOB)
        assert (job.status, job.run, job.result_data) == (JobStatus.COMPLETED, 3, {"sum": 4})
        assert job.stage_results["1"].task_count == 4

    def test_the_former_run_stays_readable(self, store: MovableStore) -> None:
        """What was there when the job failed can be looked at after the new run has ended."""
        lease = _fail_at_stage_2(store, _TWO)
        before = store.list_stages(_TWO.job_id, 1)
        rows = get_rows(store, before[0])
        tasks = store.list_tasks(_TWO.job_id, 1, 1, first_index=0, limit=10)
        resubmit(store, _TWO)
        assert drain(store, _TWO).status is JobStatus.COMPLETED
        assert [stage.stage_number for stage in store.list_stages(_TWO.job_id, 1)] == [1, 2]
        assert store.list_stages(_TWO.job_id, 1)[0] == before[0]
        assert get_rows(store, before[0]) == rows
        assert store.list_tasks(_TWO.job_id, 1, 1, first_index=0, limit=10) == tasks
        assert lease.run == 1

    @pytest.mark.parametrize(
        "status", [JobStatus.QUEUED, JobStatus.PROCESSING, JobStatus.PAUSED, JobStatus.COMPLETED], ids=lambda each: each.value
    )
    def test_only_a_failed_or_cancelled_job_is_resubmitted(self, store: MovableStore, status: JobStatus) -> None:
        """The refusal names the state and what is allowed in it, and nothing changes."""
        create(store, _JOB)
        match status:
            case JobStatus.PAUSED:
                pause(store, _JOB)
            case JobStatus.PROCESSING:
                plan_all(store, _JOB, 1)
            case JobStatus.COMPLETED:
                plan_all(store, _JOB, 1)
                assert finish(store, run_all(store, _JOB)).job_updated
            case _:
                pass
        before = snapshot(store, _JOB)
        with pytest.raises(InvalidTransitionError, match=rf"is {status} and cannot be resubmitted.* allowed from {status}: "):
            resubmit(store, _JOB)
        assert snapshot(store, _JOB) == before

    def test_a_resubmission_of_another_run_is_refused(self, store: MovableStore) -> None:
        """Who decided to resubmit run 1 does not resubmit run 2, which somebody else started and which failed as well."""
        start(store, _JOB, 1)
        cancel(store, _JOB)
        resubmit(store, _JOB)
        cancel(store, _JOB)
        before = snapshot(store, _JOB)
        with pytest.raises(InvalidTransitionError, match="is in run 2, not 1"):
            resubmit(store, _JOB)
        assert snapshot(store, _JOB) == before

    def test_an_unknown_job_is_not_resubmitted(self, store: MovableStore) -> None:
        """There is nothing to run again, and nothing is made."""
        assert store.resubmit_job(NewRun(job_id=job_id_of("nobody"), former_run=1, stages=(new_stage(1),))) is None
        assert store.list_jobs(status=None, job_type=None, id_prefix="", limit=10, after=None) == []

    def test_of_rival_resubmissions_one_is_done(self, store: MovableStore) -> None:
        """Several people press the button, and the job runs once more, not several times."""
        start(store, _JOB, 1)
        cancel(store, _JOB)
        done: list[int] = []
        refused: list[str] = []

        def press() -> None:
            try:
                done.append(resubmit(store, _JOB).run)
            except InvalidTransitionError as error:
                refused.append(str(error))

        rivals = [Thread(target=press) for _ in range(4)]
        for rival in rivals:
            rival.start()
        for rival in rivals:
            rival.join()
        assert (done, len(refused)) == ([2], 3)
        assert [stage.run for stage in store.list_stages(_JOB.job_id, 2)] == [2]

    def test_a_job_that_was_not_due_is_not_due_by_a_resubmission(self, store: MovableStore) -> None:
        """A start in the future stays in the future."""
        job = new_job(not_before=store.now() + timedelta(seconds=60))
        create(store, job)
        cancel(store, job)
        resubmit(store, job)
        assert ask(store, *all_types(job)).outcome is ClaimOutcome.EMPTY
        store.move_clock(61)
        assert claim_plan(store, job).run == 2


class FormerRunConformance(StoreScenarios):
    """What is left of a run that a resubmission put behind."""

    def test_late_reports_of_the_former_run_stay_in_it(self, store: MovableStore) -> None:
        """A handler that outlived its job is recorded where it ran, gets no advancement, and the new run goes on untouched."""
        start(store, _JOB, 2, range_count=2)
        first, second = claim_all(store, tasks_type(_JOB))
        cancel(store, _JOB)
        resubmit(store, _JOB)
        plan_all(store, _JOB, 3)
        before = snapshot(store, _JOB).stages
        assert complete_one(store, complete_ok(first)).outcome is CompletionOutcome.RECORDED
        last = complete_one(store, report(second, Again()))
        assert (last.outcome, last.is_last_task_in_stage, last.advance) == (CompletionOutcome.RECORDED, False, None)
        assert snapshot(store, _JOB).stages == before
        (former,) = store.list_stages(_JOB.job_id, 1)
        assert (former.status, former.remaining) == (StageStatus.CANCELLED, 0)
        assert [row.status for row in get_rows(store, former)] == [OK, TaskStatus.CANCELLED]
        assert get_statuses(store, _JOB) == [TaskStatus.QUEUED] * 3
        assert finish(store, run_all(store, _JOB)).job_updated

    def test_an_operator_ends_no_task_of_the_former_run(self, store: MovableStore) -> None:
        """The hand on a task is on the present run's; where that has no such task yet, there is none."""
        start(store, _JOB, 1)
        lease = claim_one(store, tasks_type(_JOB))
        cancel(store, _JOB)
        resubmit(store, _JOB)
        assert not store.close_task(_JOB.job_id, 1, 0, TaskStatus.FAILED, None)
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.RECORDED

    def test_holders_of_the_former_run_are_told_to_stop(self, store: MovableStore) -> None:
        """A heartbeat keeps the lease, as it does under a cancelled job, and says that the work is not wanted any more."""
        start(store, _JOB, 2)
        lease = claim_one(store, tasks_type(_JOB))
        cancel(store, _JOB)
        resubmit(store, _JOB)
        beat = HeldLease(range_id=lease.range_id, token=lease.token, current_index=0)
        extension = store.extend_leases("ada", [beat], LEASE_SECONDS)
        assert (extension.held, extension.stopping) == ([lease.token], [lease.token])

    def test_leases_of_the_former_run_are_recovered_into_nothing(self, store: MovableStore) -> None:
        """The work of a worker that died in the former run is closed, and only the new run is claimed."""
        start(store, _JOB, 4, range_count=2)
        first, _ = claim_all(store, tasks_type(_JOB))
        cancel(store, _JOB)
        resubmit(store, _JOB)
        assert store.return_ranges([give_back(first)]) == [True]
        assert let_leases_expire(store).closed == 1
        (plan,) = claim_all(store, *all_types(_JOB))
        assert (plan.kind, plan.run) == (WorkKind.PLAN, 2)
        assert [stage.remaining for stage in store.list_stages(_JOB.job_id, 1)] == [0]

    def test_a_planner_of_the_former_run_adds_nothing(self, store: MovableStore) -> None:
        """It is told that its job has ended, and the new run's planner has the stage to itself."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        assert store.add_tasks(chunk(plan, 2, final=False)) is PlanOutcome.RECORDED
        cancel(store, _JOB)
        resubmit(store, _JOB)
        assert store.add_tasks(chunk(plan, 2, first_index=2)) is PlanOutcome.JOB_ENDED
        assert store.add_tasks(chunk(plan, 2, first_index=2)) is PlanOutcome.STALE
        assert get_stage(store, _JOB).task_count == 0
        plan_all(store, _JOB, 1)
        assert finish(store, run_all(store, _JOB)).job_updated

    def test_an_advancement_of_the_former_run_moves_nothing(self, store: MovableStore) -> None:
        """Whoever was closing the last stage when the job was cancelled neither advances nor ends the new run."""
        for name, act in _CONTROLS.items():
            job = new_job(name, stages=2)
            start(store, job, 1)
            lease = run_all(store, job)
            cancel(store, job)
            resubmit(store, job)
            before = snapshot(store, job)
            assert not act(store, lease)
            after = snapshot(store, job)
            assert (after.job, after.stages) == (before.job, before.stages)
            assert claim_plan(store, job).run == 2

    def test_messages_of_the_former_run_are_acknowledged(self, store: MovableStore) -> None:
        """They name work that is done with, so a host claims nothing and lets them go."""
        start(store, _JOB, 2)
        cancel(store, _JOB)
        resubmit(store, _JOB)
        plan_all(store, _JOB, 2)
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, run=1, last=2)).outcome is ClaimOutcome.DONE
        assert store.claim_named(name_claim(_JOB, WorkKind.PLAN, WorkKind.ADVANCE, run=1)).outcome is ClaimOutcome.DONE
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, run=2, last=2)).outcome is ClaimOutcome.WORK

    def test_a_pause_of_the_new_run_holds_nothing_of_the_former(self, store: MovableStore) -> None:
        """Late work of the former run is closed, not held until a resumption."""
        start(store, _JOB, 2)
        lease = claim_one(store, tasks_type(_JOB))
        cancel(store, _JOB)
        resubmit(store, _JOB)
        plan_all(store, _JOB, 1)
        pause(store, _JOB)
        assert store.return_ranges([give_back(lease)]) == [True]
        assert [stage.remaining for stage in store.list_stages(_JOB.job_id, 1)] == [0]
        resume(store, _JOB)
        assert finish(store, run_all(store, _JOB)).job_updated

    def test_a_resubmission_amid_the_work_of_the_former_run_lets_nothing_through(self, store: MovableStore) -> None:
        """While others report, claim, return and beat, the job is cancelled and resubmitted: each run has what is its own."""
        for number in range(6):
            job = new_job(f"round {number}")
            start(store, job, 16, range_count=8)
            reported, returned, beaten, *others = claim_all(store, tasks_type(job), max_tasks=2, max_leases=5)
            beat = HeldLease(range_id=beaten.range_id, token=beaten.token, current_index=beaten.first)
            acts: list[Callable[[], object]] = [
                partial(_cancel_and_resubmit, store, job),
                partial(complete_one, store, report(reported, BAD, Again())),
                partial(store.return_ranges, [give_back(returned)]),
                partial(store.extend_leases, "ada", [beat], LEASE_SECONDS),
                partial(claim_all, store, tasks_type(job)),
                *(partial(complete_one, store, complete_ok(lease)) for lease in others),
            ]
            crowd(len(acts), lambda place, acts=acts: acts[place]())  # type: ignore[misc]
            assert (get_job(store, job).run, get_stage(store, job).task_count) == (2, 0)
            let_leases_expire(store)
            claimed = claim_all(store, *all_types(job))
            assert [(lease.kind, lease.run) for lease in claimed] == [(WorkKind.PLAN, 2)]
            check_partition(store, job, run=1)
            assert [stage.remaining for stage in store.list_stages(job.job_id, 1)] == [0]
            assert store.add_tasks(chunk(claimed[0], 1)) is PlanOutcome.RECORDED
            assert finish(store, run_all(store, job)).job_updated

    def test_a_delayed_retry_of_the_former_run_is_never_claimed(self, store: MovableStore) -> None:
        """What became due after the resubmission is closed."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, tasks_type(_JOB)), Again(10.0)))
        cancel(store, _JOB)
        resubmit(store, _JOB)
        store.move_clock(11)
        recover(store)
        assert [(lease.kind, lease.run) for lease in claim_all(store, *all_types(_JOB))] == [(WorkKind.PLAN, 2)]


class ResubmitFromStageConformance(StoreScenarios):
    """Going on from a stage, with the results of those before it."""

    def test_the_stages_before_are_taken_over(self, store: MovableStore) -> None:
        """Their tasks, results and stored results are those of the new run as well, and none of them runs again."""
        _fail_at_stage_2(store, _TWO)
        before = get_job(store, _TWO)
        job = resubmit(store, _TWO, new_stage(2))
        assert (job.status, job.run, job.stage) == (JobStatus.QUEUED, 2, 2)
        assert job.stage_results == before.stage_results
        assert job.stage_results["1"].task_results is not None
        taken, opened = store.list_stages(_TWO.job_id, 2)
        assert (taken.run, taken.status, taken.task_count, taken.remaining) == (2, StageStatus.COMPLETED, 3, 0)
        assert (opened.run, opened.status, opened.task_count) == (2, StageStatus.PENDING, 0)
        assert get_statuses(store, _TWO, 1) == [OK] * 3
        assert [row.result for row in get_rows(store, taken)] == ['{"of":0}', '{"of":1}', '{"of":2}']
        assert len(store.list_task_results(taken.stage_id, first_index=1, limit=10)) == 2
        (state,) = store.get_job_states([_TWO.job_id])
        assert [stage.stored_result for stage in state.stages] == [taken.stored_result, None]
        plan = claim_plan(store, _TWO)
        assert (plan.stage_number, plan.run) == (2, 2)

    def test_the_job_ends_with_what_it_took_over(self, store: MovableStore) -> None:
        """The answer counts the tasks of all stages, those taken over included; a third run may take over from the second."""
        _fail_at_stage_2(store, _TWO)
        resubmit(store, _TWO, new_stage(2))
        cancel(store, _TWO)
        resubmit(store, _TWO, new_stage(2), former_run=2)
        plan_all(store, _TWO, 2)
        ended = finish(store, run_all(store, _TWO))
        assert (ended.job_updated, ended.total_tasks, ended.successful_tasks) == (True, 5, 5)
        job = get_job(store, _TWO)
        assert (job.status, job.run, sorted(job.stage_results)) == (JobStatus.COMPLETED, 3, ["1", "2"])
        assert [each.result_data for each in job.stage_results["1"].task_results or []] == [{"of": 0}, {"of": 1}, {"of": 2}]

    def test_a_parallel_group_is_opened_whole(self, store: MovableStore) -> None:
        """Its stages run beside each other again, and the job ends when both are closed."""
        job = new_job("group", stages=3)
        group = [new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3))]
        start(store, job, 1)
        advance(store, run_all(store, job), *group)
        cancel(store, job)
        resubmit(store, job, *group)
        plans = claim_all(store, control_type(job))
        assert [(plan.stage_number, plan.run) for plan in plans] == [(2, 2), (3, 2)]
        assert drain(store, job).status is JobStatus.COMPLETED

    @pytest.mark.parametrize("number", [2, 3])
    def test_a_stage_whose_predecessor_did_not_complete_is_not_gone_on_from(self, store: MovableStore, number: int) -> None:
        """A hole in the results is refused, and nothing changes."""
        job = new_job("hole", stages=3)
        start(store, job, 2)
        cancel(store, job)
        before = snapshot(store, job)
        with pytest.raises(StoreStateError, match="resubmit the whole job"):
            resubmit(store, job, new_stage(number))
        assert snapshot(store, job) == before

    def test_a_group_moves_on_whatever_became_of_it_in_a_former_run(self, store: MovableStore) -> None:
        """A stage that failed then is another than the one that completed now."""
        job = new_job("again", stages=3)
        group = [new_stage(number, group=(2, 3)) for number in (2, 3)]
        start(store, job, 1)
        plan = advance(store, run_all(store, job), *group).plan
        assert plan is not None
        store.add_tasks(chunk(plan, 1))
        failing = complete_one(store, report(claim_one(store, tasks_type(job)), BAD)).advance
        assert failing is not None
        assert advance(store, failing, status=StageStatus.FAILED).outcome is AdvanceOutcome.SIBLINGS_OPEN
        set_status(store, job, JobStatus.FAILED)
        resubmit(store, job, *group)
        for outcome in (AdvanceOutcome.SIBLINGS_OPEN, AdvanceOutcome.GROUP_CLOSED):
            plan_all(store, job, 1)
            assert advance(store, run_all(store, job)).outcome is outcome

    def test_a_group_is_not_gone_on_from_in_its_middle(self, store: MovableStore) -> None:
        """What completed beside a stage that did not is run again with it."""
        job = new_job("middle", stages=3)
        start(store, job, 1)
        plan = advance(store, run_all(store, job), *(new_stage(number, group=(2, 3)) for number in (2, 3))).plan
        assert plan is not None
        store.add_tasks(chunk(plan, 1))
        assert advance(store, run_all(store, job)).outcome is AdvanceOutcome.SIBLINGS_OPEN
        cancel(store, job)
        with pytest.raises(StoreStateError, match="resubmit the whole job"):
            resubmit(store, job, new_stage(3))


def _cancel_and_resubmit(store: MovableStore, job: NewJob) -> None:
    cancel(store, job)
    resubmit(store, job)


def _failing(store: MovableStore) -> Lease:
    answer = complete_one(store, report(claim_one(store, tasks_type(_JOB)), OK, BAD))
    assert answer.advance is not None
    return answer.advance


def _advances(store: MovableStore, lease: Lease, *following: NewStage) -> bool:
    return advance(store, lease, *following).outcome is not AdvanceOutcome.JOB_ENDED


def _completes(store: MovableStore, lease: Lease) -> bool:
    return finish(store, lease, new_stage(2, skipped=True)).job_updated


_CONTROLS: Final[dict[str, Callable[[MovableStore, Lease], bool]]] = {
    "advances": lambda store, lease: _advances(store, lease, new_stage(2)),
    "completes": _completes,
    "fails": partial(fail_with, error="too late"),
}
