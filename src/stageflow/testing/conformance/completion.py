"""Completions: recorded once, counted exactly, and one finisher of a stage is told that it was the last."""

from contextlib import suppress
from typing import Final

import pytest

from stageflow.contracts.lease import CompletionOutcome, Lease, TaskCompletionResult, WorkKind
from stageflow.contracts.status import TaskStatus
from stageflow.errors import StoreStateError
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    Again,
    MovableStore,
    all_types,
    ask,
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
    recover,
    report,
    start,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import get_rows, get_stage, get_statuses, get_tasks, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


class CompletionConformance(StoreScenarios):
    """Reporting prefixes of a lease."""

    def test_a_lease_is_reported_prefix_by_prefix(self, store: MovableStore) -> None:
        """Each report moves the lease's first index, and only the one that empties the stage is the last."""
        start(store, _JOB, 5)
        lease = claim_one(store, _TASKS)
        first = complete_one(store, complete_ok(lease, 2))
        assert (first.outcome, first.task_updated, first.remaining_tasks) == (CompletionOutcome.RECORDED, True, 3)
        assert (first.is_last_task_in_stage, first.advance, first.stage_halted) == (False, None, False)
        assert get_statuses(store, _JOB) == [OK] * 2 + [TaskStatus.PROCESSING] * 3
        second = complete_one(store, complete_ok(lease, 3, first=2))
        assert (second.outcome, second.remaining_tasks, second.is_last_task_in_stage) == (CompletionOutcome.RECORDED, 0, True)
        assert get_statuses(store, _JOB) == [OK] * 5

    def test_a_result_is_stored_as_it_was_reported(self, store: MovableStore) -> None:
        """The text of a result comes back byte for byte; nothing and an empty object are two things."""
        texts = ['{"b":1,"a":"Ελ \\"x\\" 🛰","n":1.0}', None, "{}", '{"long":"' + "x" * 200_000 + '"}']
        start(store, _JOB, len(texts))
        done = complete_ok(claim_one(store, _TASKS)).model_copy(update={"results": texts})
        complete_one(store, done)
        rows = get_rows(store, get_stage(store, _JOB))
        assert [row.result for row in rows] == texts
        assert [(row.attempt, row.error_details) for row in rows] == [(1, None)] * len(texts)

    def test_every_terminal_status_is_counted(self, store: MovableStore) -> None:
        """Failed, skipped and cancelled tasks close the stage like completed ones."""
        start(store, _JOB, 4)
        answer = complete_one(store, report(claim_one(store, _TASKS), OK, BAD, TaskStatus.SKIPPED, TaskStatus.CANCELLED))
        assert answer.is_last_task_in_stage
        stage = get_stage(store, _JOB)
        assert (stage.successful_tasks, stage.failed_tasks, stage.skipped_tasks, stage.cancelled_tasks) == (1, 1, 1, 1)
        assert [task.error_details for task in get_tasks(store, _JOB)] == [
            None,
            "task 1 is failed",
            "task 2 is skipped",
            "task 3 is cancelled",
        ]

    def test_the_last_finisher_receives_the_advancement(self, store: MovableStore) -> None:
        """Whoever empties the stage holds the lease on its advancement at once, and nobody else can claim it."""
        start(store, _JOB, 2, range_count=2)
        first, second = claim_all(store, _TASKS)
        assert complete_one(store, complete_ok(second)).advance is None
        lease = complete_one(store, complete_ok(first)).advance
        assert lease is not None
        assert (lease.kind, lease.job_id, lease.stage_number, lease.tasks) == (WorkKind.ADVANCE, _JOB.job_id, 1, [])
        assert (lease.stage_id, lease.run, lease.attempt, lease.deaths) == (first.stage_id, 1, 1, 0)
        assert lease.token > max(first.token, second.token)
        assert claim_all(store, *all_types(_JOB)) == []
        assert finish(store, lease).job_updated

    def test_a_repeated_report_is_already_recorded(self, store: MovableStore) -> None:
        """A worker that lost the reply to its commit repeats the report: it is answered, and counted once."""
        start(store, _JOB, 4)
        lease = claim_one(store, _TASKS)
        parts = [complete_ok(lease, 2), report(lease, OK, BAD, first=2)]
        for part in parts:
            assert complete_one(store, part).outcome is CompletionOutcome.RECORDED
            before = snapshot(store, _JOB)
            again = complete_one(store, part)
            assert (again.outcome, again.task_updated) == (CompletionOutcome.ALREADY_RECORDED, False)
            assert (again.is_last_task_in_stage, again.advance) == (False, None)
            assert snapshot(store, _JOB) == before
        assert complete_one(store, parts[0]).outcome is CompletionOutcome.ALREADY_RECORDED

    def test_a_repeated_report_with_a_retry_in_it_is_counted_once(self, store: MovableStore) -> None:
        """The retry of a repeated report is not scheduled twice."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        part = report(lease, OK, Again(20.0))
        assert complete_one(store, part).task_updated
        before = snapshot(store, _JOB)
        assert complete_one(store, part).outcome is CompletionOutcome.ALREADY_RECORDED
        assert snapshot(store, _JOB) == before
        retry = report(lease, Again(20.0), first=2)
        assert complete_one(store, retry).task_updated
        before = snapshot(store, _JOB)
        assert not complete_one(store, retry).task_updated
        assert snapshot(store, _JOB) == before

    def test_a_repeat_by_another_holder_is_stale(self, store: MovableStore) -> None:
        """A result that somebody else recorded is not mine to repeat."""
        start(store, _JOB, 1)
        old = claim_one(store, _TASKS)
        let_leases_expire(store)
        new = claim_one(store, _TASKS, worker="bob")
        assert complete_one(store, complete_ok(new), worker="bob").outcome is CompletionOutcome.RECORDED
        assert complete_one(store, complete_ok(old)).outcome is CompletionOutcome.STALE

    def test_a_batch_answers_each_report_in_the_order_asked(self, store: MovableStore) -> None:
        """One call carries reports of several jobs and stages; a stale one among them strands none of the others."""
        start(store, _JOB, 3, range_count=3)
        start(store, new_job("other"), 1)
        leases = claim_all(store, _TASKS)
        mine, (other,) = _of(leases, "job"), _of(leases, "other")
        store.return_ranges([give_back(mine[1])])
        asked = [complete_ok(lease) for lease in (mine[2], other, mine[1], mine[0])]
        answers = complete(store, *asked)
        assert [answer.outcome for answer in answers] == [
            CompletionOutcome.RECORDED,
            CompletionOutcome.RECORDED,
            CompletionOutcome.STALE,
            CompletionOutcome.RECORDED,
        ]
        assert [answer.job_id for answer in answers] == [_JOB.job_id, new_job("other").job_id, _JOB.job_id, _JOB.job_id]
        assert [answer.is_last_task_in_stage for answer in answers] == [False, True, False, False]
        assert get_statuses(store, _JOB) == [OK, TaskStatus.QUEUED, OK]

    def test_one_batch_can_empty_several_stages(self, store: MovableStore) -> None:
        """Each stage that a batch empties has one last report in it, with its own advancement."""
        jobs = [new_job(str(number)) for number in range(3)]
        for job in jobs:
            start(store, job, 4, range_count=2)
        answers = complete(store, *[complete_ok(lease) for lease in claim_all(store, _TASKS)])
        last = [answer for answer in answers if answer.is_last_task_in_stage]
        assert {answer.job_id for answer in last} == {job.job_id for job in jobs}
        assert len(last) == 3
        assert all(answer.advance is not None and answer.advance.job_id == answer.job_id for answer in last)
        assert all(answer.advance is None for answer in answers if not answer.is_last_task_in_stage)

    def test_an_empty_batch_is_answered_with_nothing(self, store: MovableStore) -> None:
        """No report, no answer."""
        assert complete(store) == []

    def test_a_report_beyond_the_lease_is_refused_whole(self, store: MovableStore) -> None:
        """A report that is longer than its lease is a bug: it is raised, and nothing of its batch is written."""
        start(store, _JOB, 4, range_count=2)
        first, second = claim_all(store, _TASKS)
        before = snapshot(store, _JOB)
        with pytest.raises(StoreStateError, match="report a prefix of what was leased"):
            complete(store, complete_ok(first), complete_ok(second, 3))
        assert snapshot(store, _JOB) == before

    def test_a_report_of_an_unknown_stage_is_refused(self, store: MovableStore) -> None:
        """A stage that does not exist cannot be answered about."""
        start(store, _JOB, 1)
        completion = complete_ok(claim_one(store, _TASKS)).model_copy(update={"stage_id": 987_654})
        with pytest.raises(StoreStateError):
            complete_one(store, completion)
        assert get_statuses(store, _JOB) == [TaskStatus.PROCESSING]

    def test_a_report_that_names_another_stage_is_refused(self, store: MovableStore) -> None:
        """A lease is of one stage; a report of its tasks for another one is a bug, and neither stage is counted down."""
        jobs = [_JOB, new_job("other")]
        for job in jobs:
            start(store, job, 1)
        leases = claim_all(store, _TASKS)
        (mine,), (other,) = _of(leases, "job"), _of(leases, "other")
        before = [snapshot(store, job) for job in jobs]
        with pytest.raises(StoreStateError):
            complete_one(store, complete_ok(mine).model_copy(update={"stage_id": other.stage_id}))
        assert [snapshot(store, job) for job in jobs] == before

    def test_a_report_that_skips_tasks_writes_nothing(self, store: MovableStore) -> None:
        """Tasks are reported in index order, from the lease's first on; a gap is not filled by guessing."""
        start(store, _JOB, 4)
        lease = claim_one(store, _TASKS)
        before = snapshot(store, _JOB)
        with suppress(StoreStateError):  # raising is the other honest answer
            assert not complete_one(store, complete_ok(lease, 2, first=1)).task_updated
        assert snapshot(store, _JOB) == before


class RetryConformance(StoreScenarios):
    """Attempts that are to be repeated."""

    def test_consecutive_retries_of_one_delay_go_back_together(self, store: MovableStore) -> None:
        """A retry keeps its neighbours, its delay and its last error, and counts the attempt."""
        start(store, _JOB, 6)
        lease = claim_one(store, _TASKS)
        outcomes = (Again(50.0, "no route"), Again(50.0, "no route"), OK, Again(50.0), Again(90.0), Again())
        answer = complete_one(store, report(lease, *outcomes))
        assert (answer.outcome, answer.remaining_tasks, answer.is_last_task_in_stage) == (CompletionOutcome.RECORDED, 5, False)
        tasks = get_tasks(store, _JOB)
        assert [task.attempt for task in tasks] == [2, 2, 1, 2, 2, 2]
        assert [task.error_details for task in tasks[:2]] == ["no route"] * 2
        assert [task.status for task in tasks] == [TaskStatus.QUEUED] * 2 + [OK] + [TaskStatus.QUEUED] * 3
        assert _spans(claim_all(store, _TASKS)) == [(5, 6)]
        store.move_clock(51)
        assert _spans(claim_all(store, _TASKS)) == [(0, 2), (3, 4)]
        store.move_clock(40)
        assert _spans(claim_all(store, _TASKS)) == [(4, 5)]

    def test_a_part_of_what_is_retried_is_of_the_same_attempt(self, store: MovableStore) -> None:
        """Who takes two of three tasks that go round again takes their second attempt; so does who takes the third."""
        start(store, _JOB, 3)
        complete_one(store, report(claim_one(store, _TASKS), Again(), Again(), Again()))
        leases = [claim_one(store, _TASKS, max_tasks=2) for _ in range(2)]
        assert [(lease.first, lease.last, lease.attempt) for lease in leases] == [(0, 2, 2), (2, 3, 2)]

    def test_the_attempt_is_recorded_with_the_result(self, store: MovableStore) -> None:
        """A result says which attempt it is of, and the error of an earlier attempt does not stick to it."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, _TASKS), Again()))
        complete_one(store, report(claim_one(store, _TASKS), Again()))
        lease = claim_one(store, _TASKS)
        assert lease.attempt == 3
        assert complete_one(store, complete_ok(lease)).is_last_task_in_stage
        (task,) = get_tasks(store, _JOB)
        assert (task.status, task.attempt, task.error_details) == (OK, 3, None)
        assert get_rows(store, get_stage(store, _JOB))[0].attempt == 3

    def test_a_plan_lease_reports_no_tasks(self, store: MovableStore) -> None:
        """A control lease is no task's; the report is refused and the counters stay."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        with pytest.raises(StoreStateError, match="report a prefix of what was leased"):
            complete_one(store, complete_ok(plan))
        stage = get_stage(store, _JOB)
        assert (stage.remaining, stage.successful_tasks) == (0, 0)

    def test_a_stage_whose_last_task_is_retried_stays_open(self, store: MovableStore) -> None:
        """A retry is not an end."""
        start(store, _JOB, 2)
        answer = complete_one(store, report(claim_one(store, _TASKS), OK, Again(5.0)))
        assert (answer.remaining_tasks, answer.is_last_task_in_stage, answer.advance) == (1, False, None)
        assert ask(store, control_type(_JOB)).leases == []
        store.move_clock(6)
        assert complete_one(store, complete_ok(claim_one(store, _TASKS))).is_last_task_in_stage


class BarrierConformance(StoreScenarios):
    """Exactly one last."""

    def test_of_many_finishers_at_once_exactly_one_is_the_last(self, store: MovableStore) -> None:
        """However many workers report at the same moment, one of them is told, and only when everything has ended."""
        start(store, _JOB, 64, range_count=64)
        leases = claim_all(store, _TASKS, max_tasks=1)

        def report_mine(number: int) -> list[TaskCompletionResult]:
            return [complete_one(store, complete_ok(lease), worker=f"worker {number}") for lease in leases[number::8]]

        answers = [answer for mine in crowd(8, report_mine) for answer in mine]
        assert [answer.outcome for answer in answers] == [CompletionOutcome.RECORDED] * 64
        last = [answer for answer in answers if answer.is_last_task_in_stage]
        assert [answer.remaining_tasks for answer in last] == [0]
        assert sorted(answer.remaining_tasks for answer in answers) == list(range(64))
        assert last[0].advance is not None
        assert finish(store, last[0].advance).job_updated

    def test_of_many_batches_over_many_stages_one_report_a_stage_is_the_last(self, store: MovableStore) -> None:
        """Batches that cross each other over several jobs neither deadlock nor tell two workers, or none."""
        jobs = [new_job(str(number)) for number in range(6)]
        for job in jobs:
            start(store, job, 8, range_count=8)
        leases = claim_all(store, _TASKS)

        def report_mine(number: int) -> list[TaskCompletionResult]:
            mine = leases[number::8]
            return complete(store, *[complete_ok(lease) for lease in (mine if number % 2 else mine[::-1])])

        answers = [answer for mine in crowd(8, report_mine) for answer in mine]
        last = [answer.job_id for answer in answers if answer.is_last_task_in_stage]
        assert sorted(last) == sorted(job.job_id for job in jobs)

    def test_one_report_sent_by_many_is_recorded_once(self, store: MovableStore) -> None:
        """A report that arrives many times at once is recorded by one of them."""
        start(store, _JOB, 1)
        completion = complete_ok(claim_one(store, _TASKS))
        answers = crowd(6, lambda _: complete_one(store, completion))
        assert sum(answer.outcome is CompletionOutcome.RECORDED for answer in answers) == 1
        assert sum(answer.outcome is CompletionOutcome.ALREADY_RECORDED for answer in answers) == 5
        assert sum(answer.is_last_task_in_stage for answer in answers) == 1

    def test_reports_and_recovery_at_once_lose_nothing(self, store: MovableStore) -> None:
        """A holder that reports while it is taken for dead either wins or is refused; the task ends once."""
        start(store, _JOB, 48, range_count=48)
        leases = claim_all(store, _TASKS)
        store.move_clock(LEASE_SECONDS + 1)

        def act(number: int) -> list[CompletionOutcome]:
            if number == 0:
                recover(store, limit=20)
                recover(store)
                return []
            return [complete_one(store, complete_ok(lease)).outcome for lease in leases[number - 1 :: 3]]

        outcomes = [outcome for mine in crowd(4, act) for outcome in mine]
        recorded = outcomes.count(CompletionOutcome.RECORDED)
        assert recorded + outcomes.count(CompletionOutcome.STALE) == 48
        assert get_stage(store, _JOB).successful_tasks == recorded


def _of(leases: list[Lease], name: str) -> list[Lease]:
    return sorted((lease for lease in leases if lease.job_id == new_job(name).job_id), key=lambda lease: lease.first)


def _spans(leases: list[Lease]) -> list[tuple[int, int]]:
    return sorted((lease.first, lease.last) for lease in leases)
