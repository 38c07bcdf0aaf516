"""Repairs: chosen tasks of a finished stage run again in a run of their own, and nothing else of it does."""

from threading import Thread
from typing import Final

import pytest

from stageflow.contracts.job import JobEnding, JobRecord, NewJob
from stageflow.contracts.lease import ClaimOutcome, CompletionOutcome, Lease, WorkKind
from stageflow.contracts.repair import StageRepair
from stageflow.contracts.stage import NewStage
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.errors import InvalidTransitionError, StoreStateError
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
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
    complete_ok,
    complete_one,
    control_type,
    create,
    finish,
    job_id_of,
    let_leases_expire,
    name_claim,
    new_job,
    new_stage,
    parameters_of,
    pause,
    plan_all,
    report,
    resume,
    run_all,
    set_status,
    start,
    stored_result,
    tasks_type,
)
from stageflow.testing.conformance.looking import (
    check_partition,
    drain,
    fail_with,
    get_job,
    get_rows,
    get_stage,
    get_statuses,
    get_tasks,
    snapshot,
)
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TWO: Final = new_job("two", stages=2)
_WIDTH: Final = 8


def repair(store: MovableStore, job: NewJob, *tasks: int, stage: NewStage | None = None, former_run: int = 1) -> JobRecord:
    """Repair tasks of a stage, the first by default; the job must exist."""
    asked = StageRepair(job_id=job.job_id, former_run=former_run, stage=stage or job.first_stage, tasks=tasks)
    record = store.repair_stage(asked)
    assert record is not None
    return record


def _complete_one_stage(store: MovableStore) -> None:
    start(store, _JOB, _WIDTH, range_count=2)
    assert finish(store, run_all(store, _JOB), result_data='{"sum":1}').job_updated


def _complete_two_stages(store: MovableStore) -> None:
    start(store, _TWO, _WIDTH, range_count=2)
    _run_second_stage(store, run_all(store, _TWO))


def _run_second_stage(store: MovableStore, lease: Lease) -> None:
    answer = advance(store, lease, new_stage(2))
    assert answer.plan is not None
    store.add_tasks(chunk(answer.plan, 2))
    assert finish(store, run_all(store, _TWO)).job_updated


def _ending_with_a_result(lease: Lease, status: JobStatus) -> JobEnding:
    return JobEnding(
        job_id=lease.job_id,
        status=status,
        error_details="given up",
        range_id=lease.range_id,
        token=lease.token,
        stage_id=lease.stage_id,
        stage_status=status.value,
        stage_result="{}",
    )


def _mend(store: MovableStore, lease: Lease) -> Lease | None:
    """Report all tasks of a lease with results that no first run has; return what it hands over."""
    good = complete_ok(lease)
    mended = good.model_copy(update={"results": [f'{{"mended":{index}}}' for index in range(lease.first, lease.last)]})
    answer = complete_one(store, mended)
    assert answer.outcome is CompletionOutcome.RECORDED
    return answer.advance


class RepairConformance(StoreScenarios):
    """Running chosen tasks of a finished stage again."""

    def test_exactly_the_chosen_tasks_are_claimable(self, store: MovableStore) -> None:
        """The job is queued with a run of its own, neighbours are one range, and nothing is planned or run beside them."""
        _complete_two_stages(store)
        store.move_clock(5)
        before = get_job(store, _TWO)
        job = repair(store, _TWO, 1, 5, 6)
        assert (job.status, job.run, job.stage) == (JobStatus.QUEUED, 2, 1)
        assert (job.result_data, job.error_details, job.stage_results) == (None, None, {})
        assert (job.parameters, job.created_at) == (before.parameters, before.created_at)
        assert job.updated_at > before.updated_at
        (stage,) = store.list_stages(_TWO.job_id, 2)
        assert (stage.generation, stage.status, stage.remaining) == (2, StageStatus.PROCESSING, 3)
        assert (stage.task_count, stage.successful_tasks, stage.stored_result) == (_WIDTH, _WIDTH - 3, None)
        check_partition(store, _TWO)
        leases = claim_all(store, *all_types(_TWO))
        assert [(each.kind, each.run, each.generation, each.first, each.last) for each in leases] == [
            (WorkKind.TASK, 2, 2, 1, 2),
            (WorkKind.TASK, 2, 2, 5, 7),
        ]
        assert leases[1].tasks == [parameters_of(5), parameters_of(6)]
        assert get_job(store, _TWO).status is JobStatus.PROCESSING
        check_partition(store, _TWO)

    def test_the_stage_is_closed_again_and_what_follows_is_planned_again(self, store: MovableStore) -> None:
        """Readers see the new results among the kept ones, in order, and the next stage begins from nothing."""
        _complete_two_stages(store)
        repair(store, _TWO, 0, 7)
        first, last = claim_all(store, tasks_type(_TWO))
        assert _mend(store, first) is None
        lease = _mend(store, last)
        assert lease is not None
        stage = get_stage(store, _TWO)
        assert [row.result for row in get_rows(store, stage)] == [
            '{"mended":0}',
            *(f'{{"of":{index}}}' for index in range(1, 7)),
            '{"mended":7}',
        ]
        _run_second_stage(store, lease)
        job = get_job(store, _TWO)
        assert (job.status, job.run, sorted(job.stage_results)) == (JobStatus.COMPLETED, 2, ["1", "2"])
        check_partition(store, _TWO)

    def test_both_histories_stay_readable(self, store: MovableStore) -> None:
        """The former run shows its stages, tasks and results as before, after the repair and a repair of that."""
        _complete_two_stages(store)
        before = store.list_stages(_TWO.job_id, 1)
        rows = [get_rows(store, stage) for stage in before]
        tasks = get_tasks(store, _TWO)
        repair(store, _TWO, 2)
        lease = _mend(store, claim_one(store, tasks_type(_TWO)))
        assert lease is not None
        _run_second_stage(store, lease)
        repair(store, _TWO, 3, former_run=2)
        assert drain(store, _TWO).status is JobStatus.COMPLETED
        assert store.list_stages(_TWO.job_id, 1) == before
        assert [get_rows(store, stage) for stage in before] == rows
        assert get_tasks(store, _TWO, run=1) == tasks
        assert [[stage.generation for stage in store.list_stages(_TWO.job_id, run)] for run in (1, 2, 3)] == [
            [1, 1],
            [2, 1],
            [3, 1],
        ]
        assert [row.result for row in get_rows(store, get_stage(store, _TWO))][2:4] == ['{"mended":2}', '{"of":3}']
        for run in (1, 2, 3):
            check_partition(store, _TWO, run=run)

    def test_a_later_stage_is_repaired_with_those_before_taken_over(self, store: MovableStore) -> None:
        """Stage 1 neither runs nor is copied, and the answer counts it; a stage that was taken over can be repaired next."""
        _complete_two_stages(store)
        repair(store, _TWO, 1, stage=new_stage(2))
        (lease,) = claim_all(store, *all_types(_TWO))
        assert (lease.stage_number, lease.first, lease.last) == (2, 1, 2)
        advancing = _mend(store, lease)
        assert advancing is not None
        ended = finish(store, advancing)
        assert (ended.job_updated, ended.total_tasks, ended.successful_tasks) == (True, _WIDTH + 2, _WIDTH + 2)
        assert store.list_stages(_TWO.job_id, 2)[0].stage_id == store.list_stages(_TWO.job_id, 1)[0].stage_id
        repair(store, _TWO, 4, former_run=2)
        (lease,) = claim_all(store, *all_types(_TWO))
        assert (lease.stage_number, lease.run, lease.first) == (1, 3, 4)
        assert drain(store, _TWO).status is JobStatus.COMPLETED
        check_partition(store, _TWO)

    def test_failed_and_skipped_tasks_of_a_halted_stage_are_mended(self, store: MovableStore) -> None:
        """What a fail-fast stage left undone runs; tasks that it skipped, and that are not chosen, stay skipped."""
        job = new_job("halted", first_stage=new_stage(1, fail_fast=True))
        start(store, job, 6)
        answer = complete_one(store, report(claim_one(store, tasks_type(job), max_tasks=2), OK, BAD))
        lease = answer.advance or claim_one(store, control_type(job))
        status, text = stored_result(store, lease, StageStatus.FAILED)
        ending = JobEnding(
            job_id=job.job_id,
            status=JobStatus.FAILED,
            error_details="the second task failed",
            range_id=lease.range_id,
            token=lease.token,
            stage_id=lease.stage_id,
            stage_status=status,
            stage_result=text,
        )
        assert store.end_job(ending)
        skipped = TaskStatus.SKIPPED
        assert get_statuses(store, job) == [OK, BAD] + [skipped] * 4
        repair(store, job, 1, 2, 5, stage=new_stage(1))
        queued = TaskStatus.QUEUED
        assert get_statuses(store, job) == [OK, queued, queued, skipped, skipped, queued]
        stage = get_stage(store, job)
        assert (stage.halted, stage.skipped_tasks, stage.remaining) == (False, 2, 3)
        check_partition(store, job)
        assert drain(store, job).is_terminal
        assert get_statuses(store, job) == [OK, OK, OK, skipped, skipped, OK]

    def test_results_of_every_kind_are_kept(self, store: MovableStore) -> None:
        """Failed, skipped and cancelled tasks that are not chosen stay so, and the stage's counters say it."""
        job = new_job("kinds", stages=2, first_stage=new_stage(1, minimum_success_rate=60.0))
        start(store, job, 6)
        lease = claim_one(store, tasks_type(job))
        store.close_task(job.job_id, 1, 5, TaskStatus.CANCELLED, "not wanted")
        store.close_task(job.job_id, 1, 4, TaskStatus.SKIPPED, "not wanted")
        answer = complete_one(store, report(lease, OK, BAD, BAD, OK))
        advancing = answer.advance or claim_one(store, control_type(job))
        advance(store, advancing, new_stage(2), status=StageStatus.COMPLETED_WITH_ERRORS)
        cancel(store, job)
        assert get_statuses(store, job) == [OK, BAD, BAD, OK, TaskStatus.SKIPPED, TaskStatus.CANCELLED]
        repair(store, job, 2, 3)
        assert get_statuses(store, job) == [
            OK,
            BAD,
            TaskStatus.QUEUED,
            TaskStatus.QUEUED,
            TaskStatus.SKIPPED,
            TaskStatus.CANCELLED,
        ]
        stage = get_stage(store, job)
        assert (stage.successful_tasks, stage.failed_tasks, stage.remaining) == (1, 1, 2)
        assert (stage.skipped_tasks, stage.cancelled_tasks) == (1, 1)
        failed = store.list_failed_tasks(job.job_id, 2, 1, first_index=0, limit=10)
        assert [(each.task_index, each.error_details) for each in failed] == [(1, "task 1 is failed")]
        check_partition(store, job)
        assert drain(store, job).status in {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS}

    def test_a_crash_amid_the_repair_is_recovered(self, store: MovableStore) -> None:
        """A worker that dies with the chosen tasks, or with the advancing of the stage, is replaced, and no other task runs."""
        _complete_two_stages(store)
        repair(store, _TWO, 3, 4)
        dead = claim_one(store, tasks_type(_TWO))
        assert let_leases_expire(store).returned == 1
        assert complete_one(store, complete_ok(dead)).outcome is CompletionOutcome.STALE
        for index in (3, 4):
            lease = claim_one(store, tasks_type(_TWO))
            assert (lease.first, lease.last, lease.generation) == (index, index + 1, 2)
            _mend(store, lease)
        assert let_leases_expire(store).returned == 1
        lease = claim_one(store, control_type(_TWO))
        assert (lease.kind, lease.run, lease.generation) == (WorkKind.ADVANCE, 2, 2)
        _run_second_stage(store, lease)
        assert get_job(store, _TWO).status is JobStatus.COMPLETED

    def test_a_repair_is_paused_and_cancelled_as_any_run(self, store: MovableStore) -> None:
        """It obeys people as any run does; cancelled before its stage closed, it leaves nothing to repair."""
        _complete_one_stage(store)
        repair(store, _JOB, 0)
        pause(store, _JOB)
        assert ask(store, *all_types(_JOB)).outcome is ClaimOutcome.EMPTY
        set_status(store, _JOB, JobStatus.QUEUED)
        lease = claim_one(store, tasks_type(_JOB))
        pause(store, _JOB)
        resume(store, _JOB)
        advancing = _mend(store, lease)
        assert advancing is not None
        cancel(store, _JOB)
        before = snapshot(store, _JOB)
        with pytest.raises(StoreStateError, match="has no result in run 2, so there is nothing to repair; resubmit"):
            repair(store, _JOB, 0, former_run=2)
        assert snapshot(store, _JOB) == before

    def test_messages_name_the_generation(self, store: MovableStore) -> None:
        """A message of the repair is worked on, one of the former run or generation is acknowledged."""
        _complete_one_stage(store)
        repair(store, _JOB, 2)
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, run=1, last=_WIDTH)).outcome is ClaimOutcome.DONE
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, run=2, last=_WIDTH)).outcome is ClaimOutcome.DONE
        answer = store.claim_named(name_claim(_JOB, WorkKind.TASK, run=2, generation=2, last=_WIDTH))
        assert (answer.outcome, answer.leases[0].first) == (ClaimOutcome.WORK, 2)

    def test_a_message_finds_the_advancing_of_a_repaired_stage(self, store: MovableStore) -> None:
        """Announced after a worker died over it; such a message names the run and the stage."""
        _complete_one_stage(store)
        repair(store, _JOB, 2)
        assert _mend(store, claim_one(store, tasks_type(_JOB))) is not None
        assert let_leases_expire(store).returned == 1
        answer = store.claim_named(name_claim(_JOB, WorkKind.PLAN, WorkKind.ADVANCE, run=2))
        assert (answer.outcome, answer.leases[0].kind, answer.leases[0].generation) == (ClaimOutcome.WORK, WorkKind.ADVANCE, 2)
        assert finish(store, answer.leases[0]).job_updated


class RepairGroupConformance(StoreScenarios):
    """Repairing a stage of a parallel group."""

    @pytest.mark.parametrize("number", [2, 3])
    def test_a_group_goes_on_after_its_repair(self, store: MovableStore, number: int) -> None:
        """Its sibling is taken over, only the chosen task runs, and the stage after the group is opened once."""
        job, group = _run_group(store)
        repair(store, job, 1, stage=group[number - 2])
        stages = store.list_stages(job.job_id, 2)
        assert [(stage.stage_number, stage.generation) for stage in stages] == [
            (1, 1),
            (2, 2 if number == 2 else 1),
            (3, 2 if number == 3 else 1),
        ]
        assert get_job(store, job).stage == 2
        lease = _mend(store, claim_one(store, *all_types(job)))
        assert lease is not None
        answer = advance(store, lease, new_stage(4))
        assert answer.job_updated
        assert drain(store, job).status is JobStatus.COMPLETED
        check_partition(store, job)


class RepairGuardConformance(StoreScenarios):
    """What is refused, and changes nothing."""

    @pytest.mark.parametrize(
        "status", [JobStatus.QUEUED, JobStatus.PROCESSING, JobStatus.PAUSED], ids=lambda status: status.value
    )
    def test_only_a_job_that_has_ended_is_repaired(self, store: MovableStore, status: JobStatus) -> None:
        """The refusal names the state and what is allowed in it: so no two repairs of a job are under way."""
        _complete_one_stage(store)
        repair(store, _JOB, 1)
        match status:
            case JobStatus.PROCESSING:
                claim_one(store, tasks_type(_JOB))
            case JobStatus.PAUSED:
                pause(store, _JOB)
            case _:
                pass
        before = snapshot(store, _JOB)
        with pytest.raises(InvalidTransitionError, match=rf"is {status} and cannot be repaired.* allowed from {status}: "):
            repair(store, _JOB, 1, former_run=2)
        assert snapshot(store, _JOB) == before

    @pytest.mark.parametrize("ended", ["completed", "failed", "cancelled"])
    def test_every_ended_job_is_repaired(self, store: MovableStore, ended: str) -> None:
        """However the job ended, a stage of it that has a result can be repaired, and the job then ends well."""
        start(store, _TWO, 2)
        lease = complete_one(store, report(claim_one(store, tasks_type(_TWO)), OK, BAD)).advance
        assert lease is not None
        plan = advance(store, lease, new_stage(2), status=StageStatus.COMPLETED_WITH_ERRORS).plan
        assert plan is not None
        match ended:
            case "failed":
                assert fail_with(store, plan, "no plan")
            case "cancelled":
                cancel(store, _TWO)
            case _:
                store.add_tasks(chunk(plan, 1))
                assert finish(store, run_all(store, _TWO)).job_updated
        repair(store, _TWO, 1)
        assert get_statuses(store, _TWO) == [OK, TaskStatus.QUEUED]
        assert drain(store, _TWO).status is JobStatus.COMPLETED

    def test_a_repair_of_another_run_is_refused(self, store: MovableStore) -> None:
        """Who looked at run 1 does not repair run 2."""
        _complete_one_stage(store)
        repair(store, _JOB, 1)
        drain(store, _JOB)
        before = snapshot(store, _JOB)
        with pytest.raises(InvalidTransitionError, match="is in run 2, not 1"):
            repair(store, _JOB, 1)
        assert snapshot(store, _JOB) == before

    def test_what_is_not_there_is_not_repaired(self, store: MovableStore) -> None:
        """An unknown job, stage or index is named, and nothing is made."""
        nobody = new_job("nobody")
        asked = StageRepair(job_id=job_id_of("nobody"), former_run=1, stage=nobody.first_stage, tasks=(0,))
        assert store.repair_stage(asked) is None
        empty = new_job("empty")
        start(store, empty, 0)
        assert finish(store, claim_advance(store, empty)).job_updated
        with pytest.raises(StoreStateError, match="has no tasks"):
            repair(store, empty, 0)
        _complete_one_stage(store)
        before = snapshot(store, _JOB)
        with pytest.raises(StoreStateError, match=r"stage 2 .* is not opened and has no result in run 1"):
            repair(store, _JOB, 0, stage=new_stage(2))
        with pytest.raises(StoreStateError, match=f"has tasks 0 to {_WIDTH - 1}"):
            repair(store, _JOB, 0, _WIDTH)
        assert snapshot(store, _JOB) == before

    def test_a_stage_that_was_never_finished_is_not_repaired(self, store: MovableStore) -> None:
        """A cancelled stage has tasks without results; its job is resubmitted."""
        create(store, _JOB)
        store.add_tasks(chunk(claim_plan(store, _JOB), 3))
        cancel(store, _JOB)
        before = snapshot(store, _JOB)
        with pytest.raises(StoreStateError, match=r"has no result in run 1.*resubmit"):
            repair(store, _JOB, 0)
        assert snapshot(store, _JOB) == before

    def test_a_stage_of_which_a_task_still_ran_is_not_repaired(self, store: MovableStore) -> None:
        """Its planner failed it, result and all, while somebody had a task of it in hand."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        store.add_tasks(chunk(plan, 2, final=False))
        claim_one(store, tasks_type(_JOB), max_tasks=1)
        assert store.end_job(_ending_with_a_result(plan, JobStatus.FAILED))
        with pytest.raises(StoreStateError, match="nothing to repair"):
            repair(store, _JOB, 0)

    def test_a_stage_that_was_cancelled_with_a_result_is_not_repaired(self, store: MovableStore) -> None:
        """A result that nobody went on from is no reason to go on from it."""
        start(store, _JOB, 2)
        assert store.end_job(_ending_with_a_result(run_all(store, _JOB), JobStatus.CANCELLED))
        with pytest.raises(StoreStateError, match="nothing to repair"):
            repair(store, _JOB, 0)

    def test_a_stage_beside_one_that_failed_is_not_repaired(self, store: MovableStore) -> None:
        """Its group would fail again: the error says how to go on."""
        job, group = _run_group(store, failing=3)
        before = snapshot(store, job)
        with pytest.raises(StoreStateError, match=r"cannot be repaired alone: of the 2 stages .* only 1 completed in run 1"):
            repair(store, job, 0, stage=group[0])
        assert snapshot(store, job) == before
        repair(store, job, 1, stage=group[1])
        assert [lease.stage_number for lease in claim_all(store, *all_types(job))] == [3]

    def test_of_rival_repairs_one_is_done(self, store: MovableStore) -> None:
        """Several people press the button, and the tasks run once more, not several times."""
        _complete_one_stage(store)
        done: list[int] = []
        refused: list[str] = []

        def press(index: int) -> None:
            try:
                done.append(repair(store, _JOB, index).run)
            except InvalidTransitionError as error:
                refused.append(str(error))

        rivals = [Thread(target=press, args=(index,)) for index in range(4)]
        for rival in rivals:
            rival.start()
        for rival in rivals:
            rival.join()
        assert (done, len(refused)) == ([2], 3)
        assert get_stage(store, _JOB).remaining == 1
        check_partition(store, _JOB)


def _run_group(store: MovableStore, *, failing: int = 0) -> tuple[NewJob, list[NewStage]]:
    """Run a job whose stages 2 and 3 run in parallel with two tasks each to its end, which a stage may make a failure."""
    job = new_job("group", stages=4)
    group = [new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3))]
    start(store, job, 1)
    plan = advance(store, run_all(store, job), *group).plan
    assert plan is not None
    store.add_tasks(chunk(plan, 2))
    plan_all(store, job, 2)
    leases = sorted(claim_all(store, tasks_type(job)), key=lambda lease: lease.stage_number)
    for lease in leases:
        is_bad = lease.stage_number == failing
        closing = complete_one(store, report(lease, OK, BAD if is_bad else OK)).advance
        assert closing is not None
        following = [] if failing or lease is leases[0] else [new_stage(4)]
        advance(store, closing, *following, status=StageStatus.FAILED if is_bad else StageStatus.COMPLETED)
        if failing and lease is leases[-1]:
            assert fail_with(store, closing, "the group failed")
    if not failing:
        assert drain(store, job).status is JobStatus.COMPLETED
    return job, group
