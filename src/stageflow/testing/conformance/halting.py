"""Stages that give up, and tasks that an operator ends."""

from typing import Final

import pytest

from stageflow.contracts.lease import CompletionOutcome, Lease, WorkKind
from stageflow.contracts.status import TERMINAL_TASK_STATUSES, StageStatus, TaskStatus
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    Again,
    MovableStore,
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
    give_back,
    let_leases_expire,
    new_job,
    new_stage,
    pause,
    plan_all,
    report,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_rows, get_stage, get_statuses, get_tasks, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


class PolicyConformance(StoreScenarios):
    """Stages that give up."""

    def test_the_first_failure_halts_a_fail_fast_stage(self, store: MovableStore) -> None:
        """Waiting tasks are skipped at once, running ones may still report, and the last of those is the last."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 6, range_count=3)
        failing, running = claim_all(store, _TASKS, max_leases=2)
        answer = complete_one(store, report(failing, BAD))
        assert (answer.stage_halted, answer.is_last_task_in_stage) == (True, False)
        assert get_stage(store, job).halted
        assert get_statuses(store, job)[4:] == [TaskStatus.SKIPPED] * 2
        second = complete_one(store, report(running, OK, OK))
        assert (second.stage_halted, second.is_last_task_in_stage) == (True, False)
        third = complete_one(store, report(failing, OK, first=1))
        assert (third.is_last_task_in_stage, third.advance is not None) == (True, True)
        assert get_stage(store, job).skipped_tasks == 2

    def test_a_failure_that_halts_can_be_the_last(self, store: MovableStore) -> None:
        """Where nothing else runs, the failure that skips the rest also closes the stage."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 5, range_count=5)
        answer = complete_one(store, report(claim_one(store, _TASKS), BAD))
        assert (answer.stage_halted, answer.remaining_tasks, answer.is_last_task_in_stage) == (True, 0, True)
        assert answer.advance is not None
        assert get_statuses(store, job) == [BAD, *[TaskStatus.SKIPPED] * 4]

    def test_a_halt_skips_retries_that_wait_for_their_time(self, store: MovableStore) -> None:
        """Delayed work is waiting work."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 2, range_count=2)
        first, second = claim_all(store, _TASKS)
        complete_one(store, report(first, Again(600.0)))
        assert complete_one(store, report(second, BAD)).is_last_task_in_stage
        assert get_statuses(store, job) == [TaskStatus.SKIPPED, BAD]

    def test_a_halt_skips_the_tasks_that_a_pause_holds(self, store: MovableStore) -> None:
        """A stage that gave up while its job was paused has nothing left that the resume could bring back."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 2, range_count=2)
        failing = claim_one(store, _TASKS)
        pause(store, job)
        assert claim_all(store, _TASKS) == []
        answer = complete_one(store, report(failing, BAD))
        assert (answer.stage_halted, answer.remaining_tasks) == (True, 0)
        assert get_statuses(store, job) == [BAD, TaskStatus.SKIPPED]

    def test_a_stage_halts_when_its_rate_is_out_of_reach(self, store: MovableStore) -> None:
        """A minimum success rate trips as soon as it cannot be met any more, and not before."""
        job = new_job(first_stage=new_stage(1, minimum_success_rate=70.0))
        start(store, job, 10, range_count=10)
        leases = claim_all(store, _TASKS, max_leases=5)
        answers = [complete_one(store, report(lease, BAD)) for lease in leases[:4]]
        assert [answer.stage_halted for answer in answers] == [False, False, False, True]
        assert get_statuses(store, job)[5:] == [TaskStatus.SKIPPED] * 5
        assert complete_one(store, complete_ok(leases[4])).is_last_task_in_stage

    @pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED])
    def test_whatever_is_no_success_counts_against_a_rate(self, store: MovableStore, status: TaskStatus) -> None:
        """Skipped and cancelled tasks make the rate as unreachable as failed ones do."""
        job = new_job(first_stage=new_stage(1, minimum_success_rate=70.0))
        start(store, job, 4, range_count=4)
        for index in range(2):
            assert not get_stage(store, job).halted
            assert store.close_task(job.job_id, 1, index, status, None)
        assert get_stage(store, job).halted

    def test_a_rate_is_asked_of_the_whole_stage(self, store: MovableStore) -> None:
        """While the stage is being planned nobody knows yet of how many tasks it is the rate."""
        create(store, job := new_job(first_stage=new_stage(1, minimum_success_rate=70.0)))
        plan = claim_plan(store, job)
        first = chunk(plan, 2, final=False)
        store.add_tasks(first)
        assert not complete_one(store, report(claim_one(store, _TASKS), BAD, OK)).stage_halted
        store.add_tasks(chunk(plan, 8, first_index=2, digest_before=first.digest))
        assert complete_one(store, complete_ok(claim_one(store, _TASKS))).is_last_task_in_stage
        assert get_stage(store, job).successful_tasks == 9

    def test_a_stage_without_policy_never_halts(self, store: MovableStore) -> None:
        """Failures are collected unless the stage says otherwise."""
        start(store, _JOB, 3, range_count=3)
        answers = complete(store, *[report(lease, BAD) for lease in claim_all(store, _TASKS)])
        assert [answer.stage_halted for answer in answers] == [False] * 3
        assert not get_stage(store, _JOB).halted

    def test_a_policy_counts_its_own_stage_only(self, store: MovableStore) -> None:
        """A halt does not spread to other jobs."""
        start(store, new_job("halting", first_stage=new_stage(1, fail_fast=True)), 2, range_count=2)
        failing = claim_one(store, _TASKS)
        start(store, new_job("other", first_stage=new_stage(1, fail_fast=True)), 2)
        complete_one(store, report(failing, BAD))
        assert get_statuses(store, new_job("other")) == [TaskStatus.QUEUED] * 2

    def test_tasks_end_only_once(self, store: MovableStore) -> None:
        """After a stage is closed every task has exactly one result, and a processing stage waits for its advancement."""
        start(store, _JOB, 3)
        assert complete_one(store, report(claim_one(store, _TASKS), OK, BAD, OK)).is_last_task_in_stage
        assert TERMINAL_TASK_STATUSES.issuperset(get_statuses(store, _JOB))
        assert get_stage(store, _JOB).status is StageStatus.PROCESSING


class CloseTaskConformance(StoreScenarios):
    """An operator's hand on one task."""

    def test_one_waiting_task_is_ended_among_its_neighbours(self, store: MovableStore) -> None:
        """Only the named task ends, with the operator's reason; the tasks on both sides go on."""
        start(store, _JOB, 5)
        assert store.close_task(_JOB.job_id, 1, 2, TaskStatus.FAILED, "broken input")
        task = get_tasks(store, _JOB)[2]
        assert (task.status, task.error_details) == (BAD, "broken input")
        assert _spans(claim_all(store, _TASKS)) == [(0, 2), (3, 5)]

    @pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED])
    def test_ending_the_last_task_closes_the_stage(self, store: MovableStore, status: TaskStatus) -> None:
        """An operator's ending goes through the barrier like any other."""
        start(store, _JOB, 2)
        complete_one(store, complete_ok(claim_one(store, _TASKS, max_tasks=1)))
        assert store.close_task(_JOB.job_id, 1, 1, status, "by hand")
        assert get_statuses(store, _JOB) == [OK, status]
        assert claim_one(store, control_type(_JOB)).kind is WorkKind.ADVANCE

    def test_an_operators_failure_counts_for_the_policy(self, store: MovableStore) -> None:
        """A task failed by hand halts a fail-fast stage."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 3)
        assert store.close_task(job.job_id, 1, 1, TaskStatus.FAILED, "by hand")
        assert get_statuses(store, job) == [TaskStatus.SKIPPED, BAD, TaskStatus.SKIPPED]
        assert claim_one(store, control_type(job)).kind is WorkKind.ADVANCE

    @pytest.mark.parametrize("status", [TaskStatus.QUEUED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED])
    def test_an_ended_task_stays_ended(self, store: MovableStore, status: TaskStatus) -> None:
        """No hand revives or rewrites a result."""
        start(store, _JOB, 2)
        complete_one(store, report(claim_one(store, _TASKS, max_tasks=1), BAD))
        before = snapshot(store, _JOB)
        assert not store.close_task(_JOB.job_id, 1, 0, status, "again")
        assert snapshot(store, _JOB) == before

    def test_a_running_task_is_taken_from_its_holder(self, store: MovableStore) -> None:
        """The holder of a lease keeps what comes before the task, and its report on the rest is refused."""
        start(store, _JOB, 5)
        lease = claim_one(store, _TASKS)
        assert store.close_task(_JOB.job_id, 1, 2, TaskStatus.SKIPPED, "not wanted")
        assert get_statuses(store, _JOB)[2] is TaskStatus.SKIPPED
        assert complete_one(store, complete_ok(lease, 2)).outcome is CompletionOutcome.RECORDED
        assert _spans(claim_all(store, _TASKS)) == [(3, 5)]

    def test_the_task_that_runs_now_costs_its_holder_the_lease(self, store: MovableStore) -> None:
        """Ending the very task that a worker is at makes that worker's report stale, and frees the rest."""
        start(store, _JOB, 4)
        lease = claim_one(store, _TASKS)
        complete_one(store, complete_ok(lease, 1))
        assert store.close_task(_JOB.job_id, 1, 1, TaskStatus.CANCELLED, "hangs")
        assert complete_one(store, complete_ok(lease, 3, first=1)).outcome is CompletionOutcome.STALE
        assert get_statuses(store, _JOB)[:2] == [OK, TaskStatus.CANCELLED]
        assert _spans(claim_all(store, _TASKS)) == [(2, 4)]

    def test_a_running_task_is_requeued_by_hand(self, store: MovableStore) -> None:
        """Requeueing takes a task from its holder, for its next attempt."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        assert store.close_task(_JOB.job_id, 1, 0, TaskStatus.QUEUED, None)
        assert complete_one(store, complete_ok(lease, 1)).outcome is CompletionOutcome.STALE
        tasks = get_tasks(store, _JOB)
        assert [(task.status, task.attempt) for task in tasks] == [
            (TaskStatus.QUEUED, 2),
            (TaskStatus.QUEUED, 1),
            (TaskStatus.QUEUED, 1),
        ]

    def test_requeueing_a_queued_task_changes_nothing(self, store: MovableStore) -> None:
        """A task that waits already waits."""
        start(store, _JOB, 3)
        before = snapshot(store, _JOB)
        assert store.close_task(_JOB.job_id, 1, 1, TaskStatus.QUEUED, None)
        assert [task.attempt for task in get_tasks(store, _JOB)] == [1, 1, 1]
        assert snapshot(store, _JOB).stages[0].remaining == before.stages[0].remaining

    def test_a_delayed_task_is_ended_by_hand(self, store: MovableStore) -> None:
        """A task that waits for its next attempt can be ended before it."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, _TASKS), Again(600.0)))
        assert store.close_task(_JOB.job_id, 1, 0, TaskStatus.SKIPPED, "enough")
        assert claim_one(store, control_type(_JOB)).kind is WorkKind.ADVANCE
        assert get_tasks(store, _JOB)[0].attempt == 2

    def test_the_neighbours_of_a_delayed_task_keep_their_delay(self, store: MovableStore) -> None:
        """Ending one task of those that wait makes none of the others ready."""
        start(store, _JOB, 3)
        complete_one(store, report(claim_one(store, _TASKS), Again(600.0), Again(600.0), Again(600.0)))
        assert store.close_task(_JOB.job_id, 1, 1, TaskStatus.SKIPPED, None)
        assert ask(store, _TASKS).leases == []
        store.move_clock(601)
        assert sorted((lease.first, lease.last) for lease in claim_all(store, _TASKS)) == [(0, 1), (2, 3)]

    def test_a_task_of_an_ended_job_is_not_requeued(self, store: MovableStore) -> None:
        """Who runs it keeps its lease, and its report is recorded."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        cancel(store, _JOB)
        assert not store.close_task(_JOB.job_id, 1, 0, TaskStatus.QUEUED, None)
        assert complete_one(store, complete_ok(lease)).task_updated
        assert get_statuses(store, _JOB) == [OK]

    @pytest.mark.parametrize("status", [TaskStatus.QUEUED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED])
    def test_a_report_across_a_taken_task_is_recorded_up_to_it(self, store: MovableStore, status: TaskStatus) -> None:
        """The work before the task is not lost, nothing is written for the task and those after it, and the lease is over."""
        start(store, _JOB, 8)
        lease = claim_one(store, _TASKS)
        complete_one(store, complete_ok(lease, 1))
        assert store.close_task(_JOB.job_id, 1, 4, status, "by hand")
        part = report(lease, OK, Again(600.0), BAD, OK, Again(600.0), BAD, first=1)
        answer = complete_one(store, part)
        open_tasks = 5 if status is TaskStatus.QUEUED else 4
        assert (answer.outcome, answer.task_updated, answer.remaining_tasks) == (CompletionOutcome.RECORDED, True, open_tasks)
        assert get_statuses(store, _JOB) == [OK, OK, TaskStatus.QUEUED, BAD, status, *[TaskStatus.QUEUED] * 3]
        assert [task.attempt for task in get_tasks(store, _JOB)[5:]] == [1, 1, 1]
        before = snapshot(store, _JOB)
        assert complete_one(store, part).outcome is CompletionOutcome.ALREADY_RECORDED
        late = complete_one(store, complete_ok(lease, 1, first=7))
        assert (late.outcome, late.task_updated, late.remaining_tasks) == (CompletionOutcome.STALE, False, open_tasks)
        assert store.return_ranges([give_back(lease, 7)]) == [False]
        assert snapshot(store, _JOB) == before
        spans = [(4, 5), (5, 8)] if status is TaskStatus.QUEUED else [(5, 8)]
        assert _spans(claim_all(store, _TASKS)) == spans

    def test_a_report_across_a_taken_task_strands_none_of_its_batch(self, store: MovableStore) -> None:
        """What reaches across the task is cut short, and the reports beside it are written with their own tasks."""
        start(store, _JOB, 9, range_count=3)
        leases = sorted(claim_all(store, _TASKS), key=lambda lease: lease.first)
        assert store.close_task(_JOB.job_id, 1, 4, TaskStatus.SKIPPED, "not wanted")
        answers = complete(
            store, report(leases[0], OK, OK, BAD), report(leases[1], OK, BAD, BAD), report(leases[2], BAD, OK, OK)
        )
        assert [answer.outcome for answer in answers] == [CompletionOutcome.RECORDED] * 3
        assert get_statuses(store, _JOB) == [OK, OK, BAD, OK, TaskStatus.SKIPPED, TaskStatus.QUEUED, BAD, OK, OK]
        assert [row.result for row in get_rows(store, get_stage(store, _JOB)) if row.result] == [
            f'{{"of":{index}}}' for index in (0, 1, 3, 7, 8)
        ]
        assert complete_one(store, complete_ok(claim_one(store, _TASKS))).is_last_task_in_stage

    def test_a_report_across_a_taken_last_task_closes_the_stage(self, store: MovableStore) -> None:
        """Where the taken task was the range's last, the report of what is before it may be the last of the stage."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        assert store.close_task(_JOB.job_id, 1, 2, TaskStatus.CANCELLED, "by hand")
        answer = complete_one(store, complete_ok(lease))
        assert (answer.outcome, answer.remaining_tasks, answer.is_last_task_in_stage) == (CompletionOutcome.RECORDED, 0, True)
        assert answer.advance is not None

    def test_a_task_that_was_requeued_and_ended_since_still_cuts_the_report(self, store: MovableStore) -> None:
        """A holder that learns late that a task was taken from it cannot overwrite what another made of that task."""
        start(store, _JOB, 4)
        lease = claim_one(store, _TASKS)
        assert store.close_task(_JOB.job_id, 1, 2, TaskStatus.QUEUED, None)
        for taken in claim_all(store, _TASKS, worker="bob"):
            complete_one(store, report(taken, BAD), worker="bob")
        answer = complete_one(store, complete_ok(lease))
        assert (answer.outcome, answer.is_last_task_in_stage) == (CompletionOutcome.RECORDED, True)
        assert get_statuses(store, _JOB) == [OK, OK, BAD, BAD]

    def test_a_task_that_ended_with_its_job_is_not_ended_again(self, store: MovableStore) -> None:
        """What was closed without a result is closed."""
        start(store, _JOB, 3)
        cancel(store, _JOB)
        before = snapshot(store, _JOB)
        assert not store.close_task(_JOB.job_id, 1, 1, TaskStatus.FAILED, "by hand")
        assert snapshot(store, _JOB) == before

    def test_what_waits_behind_a_taken_task_waits_on(self, store: MovableStore) -> None:
        """An operator who ends one of the tasks that go round again later does not bring the others forward."""
        start(store, _JOB, 3)
        complete_one(store, report(claim_one(store, _TASKS), *[Again(600.0)] * 3))
        assert store.close_task(_JOB.job_id, 1, 1, TaskStatus.SKIPPED, "not wanted")
        assert claim_all(store, _TASKS) == []
        store.move_clock(601)
        assert _spans(claim_all(store, _TASKS)) == [(0, 1), (2, 3)]

    def test_what_is_behind_a_taken_task_is_as_suspect_as_before(self, store: MovableStore) -> None:
        """A worker died on these tasks; that one of them was ended since clears none of the others."""
        start(store, _JOB, 3)
        claim_one(store, _TASKS)
        let_leases_expire(store)
        assert store.close_task(_JOB.job_id, 1, 0, TaskStatus.SKIPPED, "not wanted")
        lease = claim_one(store, _TASKS)
        assert (lease.first, lease.last, lease.suspect) == (1, 2, True)

    def test_a_tail_that_was_taken_cannot_be_given_back(self, store: MovableStore) -> None:
        """A holder that gives back what an operator freed already changes nothing, and keeps what is before it."""
        start(store, _JOB, 6)
        lease = claim_one(store, _TASKS)
        assert store.close_task(_JOB.job_id, 1, 2, TaskStatus.SKIPPED, "not wanted")
        before = snapshot(store, _JOB)
        assert store.return_ranges([give_back(lease, 4), give_back(lease, 2)]) == [True, True]
        assert snapshot(store, _JOB) == before
        assert complete_one(store, complete_ok(lease, 2)).outcome is CompletionOutcome.RECORDED
        assert _spans(claim_all(store, _TASKS)) == [(3, 6)]

    def test_the_last_holder_is_not_told_last_twice(self, store: MovableStore) -> None:
        """A task that an operator ended is not reported by its holder as the last one."""
        create(store, _JOB)
        plan_all(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        assert store.close_task(_JOB.job_id, 1, 0, TaskStatus.FAILED, "by hand")
        answer = complete_one(store, complete_ok(lease))
        assert (answer.outcome, answer.is_last_task_in_stage) == (CompletionOutcome.STALE, False)
        assert len(claim_all(store, control_type(_JOB))) == 1


def _spans(leases: list[Lease]) -> list[tuple[int, int]]:
    return sorted((lease.first, lease.last) for lease in leases)
