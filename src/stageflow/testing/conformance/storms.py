"""Many things at the same moment, on real threads: whoever wins, nothing is lost, doubled or stuck.

The scenarios do not say who wins. That the partition holds and that every job can still end is looked at after each.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Final

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.job import JobClosing, JobEnding, NewJob
from stageflow.contracts.lease import ClaimOutcome, CompletionOutcome, Lease, TaskCompletionResult, WorkKind
from stageflow.contracts.limits import TaskTypeLimit
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import JobStatus, TaskStatus
from stageflow.errors import IdempotencyConflictError
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    TASK_TYPE,
    MovableStore,
    advance,
    all_types,
    ask,
    cancel,
    chunk,
    claim_all,
    claim_one,
    claim_plan,
    close_job,
    complete,
    complete_ok,
    complete_one,
    control_type,
    create,
    give_back,
    new_job,
    new_stage,
    pause,
    recover,
    report,
    resume,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import get_stage, get_status, get_statuses
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)
_ROUNDS: Final = 6


def _together(*acts: Callable[[], object]) -> list[object]:
    return crowd(len(acts), lambda number: acts[number]())


def _report_each(store: MovableStore, leases: list[Lease]) -> list[TaskCompletionResult]:
    return [complete_one(store, complete_ok(lease)) for lease in leases]


def _claim_and_report(store: MovableStore) -> list[TaskCompletionResult]:
    return _report_each(store, claim_all(store, _TASKS, max_tasks=3))


def _pause_and_resume(store: MovableStore, job: NewJob) -> None:
    pause(store, job)
    resume(store, job)


def _skip_each(store: MovableStore, indexes: range) -> list[bool]:
    return [store.close_task(_JOB.job_id, 1, index, TaskStatus.SKIPPED, "by hand") for index in indexes]


class StormConformance(StoreScenarios):
    """Rivals."""

    def test_one_job_submitted_by_many_is_created_once(self, store: MovableStore) -> None:
        """The same jobs in calls that cross each other: each is created by exactly one of them."""
        jobs = [new_job(str(number)) for number in range(40)]
        answers = crowd(6, lambda number: store.create_jobs(jobs if number % 2 else jobs[::-1]).created)
        created = Counter[str]()
        for number, answer in enumerate(answers):
            order = jobs if number % 2 else jobs[::-1]
            created.update(job.job_id for job, made in zip(order, answer, strict=True) if made)
        assert created == {job.job_id: 1 for job in jobs}
        assert len(claim_all(store, control_type(_JOB), max_leases=1000)) == len(jobs)

    def test_one_key_taken_by_many_makes_one_job(self, store: MovableStore) -> None:
        """Of several requests under one idempotency key one is created and the others are told of the conflict."""

        def submit(number: int) -> bool:
            try:
                return store.create_jobs([new_job(str(number), idempotency_key="key")]).created == [True]
            except IdempotencyConflictError:
                return False

        assert sum(crowd(6, submit)) == 1
        assert len(store.list_jobs(status=None, job_type=None, id_prefix="", limit=10, after=None)) == 1

    def test_the_planner_and_the_last_finisher_leave_one_advancement(self, store: MovableStore) -> None:
        """When planning ends at the moment in which the last task does, exactly one of both opens the advancement."""
        for number in range(_ROUNDS):
            job = new_job(f"round {number}", stages=2)
            create(store, job)
            plan = claim_plan(store, job)
            store.add_tasks(chunk(plan, 1, final=False))
            lease = claim_one(store, _TASKS)
            outcome, answer = _together(
                partial(store.add_tasks, chunk(plan, 0, first_index=1)),
                partial(complete_one, store, complete_ok(lease)),
            )
            assert outcome is PlanOutcome.RECORDED
            assert isinstance(answer, TaskCompletionResult)
            ready = claim_all(store, control_type(job))
            assert [lease.kind for lease in ready] == ([] if answer.is_last_task_in_stage else [WorkKind.ADVANCE])
            (end,) = ready if answer.advance is None else [answer.advance]
            assert advance(store, end, new_stage(2)).outcome is AdvanceOutcome.ADVANCED
            cancel(store, job)

    def test_a_cancel_amid_reports_ends_the_job_for_good(self, store: MovableStore) -> None:
        """Reports of that moment are recorded, the rest is closed, and the job stays cancelled."""
        for number in range(_ROUNDS):
            job = new_job(f"round {number}", stages=2)
            start(store, job, 12, range_count=12)
            leases = claim_all(store, _TASKS, max_leases=8)
            ending = JobEnding(job_id=job.job_id, status=JobStatus.CANCELLED, error_details="enough")
            ended, *answers = _together(
                partial(store.end_job, ending),
                partial(_report_each, store, leases[::2]),
                partial(_report_each, store, leases[1::2]),
            )
            assert ended is True
            assert all(answer.outcome is CompletionOutcome.RECORDED for mine in answers for answer in _results(mine))
            assert get_status(store, job) is JobStatus.CANCELLED
            recover(store)
            assert set(get_statuses(store, job)) == {OK, TaskStatus.CANCELLED}
            assert ask(store, *all_types(job)).leases == []

    def test_a_cancel_amid_claims_leaves_nothing_behind(self, store: MovableStore) -> None:
        """What was claimed at that moment may run, and what was not is closed."""
        for number in range(_ROUNDS):
            job = new_job(f"round {number}")
            start(store, job, 16, range_count=8)
            _, *claimed = _together(
                partial(cancel, store, job),
                *[partial(claim_all, store, _TASKS, max_tasks=1, max_leases=6)] * 3,
            )
            held = [lease for mine in claimed for lease in _leases(mine)]
            for lease in held:
                assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.RECORDED
            recover(store)
            assert Counter(get_statuses(store, job)) == Counter({OK: len(held), TaskStatus.CANCELLED: 16 - len(held)})
            assert get_stage(store, job).remaining == 0

    def test_a_pause_and_its_end_amid_work_lose_nothing(self, store: MovableStore) -> None:
        """Whatever a pause caught, its end sets free: every task is done in the end, once."""
        for number in range(_ROUNDS):
            job = new_job(f"round {number}")
            start(store, job, 16, range_count=4)
            leases = claim_all(store, _TASKS, max_tasks=2, max_leases=4)
            _together(
                partial(_pause_and_resume, store, job),
                partial(_claim_and_report, store),
                partial(_report_each, store, leases[:2]),
                partial(store.return_ranges, [give_back(lease) for lease in leases[2:]]),
            )
            for lease in claim_all(store, _TASKS):
                complete_one(store, complete_ok(lease))
            assert get_statuses(store, job) == [OK] * 16
            claim_all(store, control_type(job))  # the advancement is ready, if the last report came during the pause

    def test_a_halt_amid_claims_and_returns_closes_the_stage(self, store: MovableStore) -> None:
        """A stage that gives up while others claim, report and return is emptied, by one last or by a ready advancement."""
        for number in range(_ROUNDS):
            job = new_job(f"round {number}", first_stage=new_stage(1, fail_fast=True))
            start(store, job, 16, range_count=8)
            failing, returning, *others = claim_all(store, _TASKS, max_leases=4)
            _, *answers = _together(
                partial(store.return_ranges, [give_back(returning)]),
                partial(complete, store, report(failing, BAD, OK)),
                partial(_report_each, store, others),
                partial(_claim_and_report, store),
            )
            recover(store)
            assert claim_all(store, _TASKS) == []
            given = [answer.advance for mine in answers for answer in _results(mine) if answer.advance is not None]
            assert len(given + claim_all(store, control_type(job))) == 1
            assert get_stage(store, job).remaining == 0

    def test_an_operator_amid_reports_ends_each_task_once(self, store: MovableStore) -> None:
        """A task that is ended by hand while its holder reports it has one of the two results."""
        start(store, _JOB, 24, range_count=24)
        leases = claim_all(store, _TASKS)
        closed, *answers = _together(
            partial(_skip_each, store, range(24)),
            partial(_report_each, store, leases[::-2]),
            partial(_report_each, store, leases[-2::-2]),
        )
        assert isinstance(closed, list)
        recorded = [answer.outcome for mine in answers for answer in _results(mine)].count(CompletionOutcome.RECORDED)
        assert recorded + sum(closed) == 24
        assert Counter(get_statuses(store, _JOB)) == Counter({OK: recorded, TaskStatus.SKIPPED: 24 - recorded})

    def test_rivals_for_the_last_slots_get_no_more_than_there_are(self, store: MovableStore) -> None:
        """Of many claims at once no more leases come than the limit, and what one of them ends goes to the next."""
        store.limit_task_type(TaskTypeLimit(job_type=_JOB.job_type, task_type=TASK_TYPE, max_running=2))
        start(store, _JOB, 4 * _ROUNDS, range_count=4 * _ROUNDS)
        ended = 0
        while ended < 4 * _ROUNDS:
            answers = crowd(6, lambda _: ask(store, _TASKS, max_tasks=1, max_leases=2).leases)
            leases = [lease for answer in answers for lease in answer]
            assert len(leases) <= 2
            ended += len(_report_each(store, leases))

    def test_claims_amid_ends_keep_to_the_limit(self, store: MovableStore) -> None:
        """A slot that is freed at the moment of a claim is given out once."""
        store.limit_task_type(TaskTypeLimit(job_type=_JOB.job_type, task_type=TASK_TYPE, max_running=2))
        start(store, _JOB, 48, range_count=48)
        lock, running, most = Lock(), set[int](), 0
        ended: list[int] = []

        def work(number: int) -> None:
            nonlocal most
            mine: list[Lease] = []
            while len(ended) < 48:
                fresh = ask(store, _TASKS, worker=str(number), max_tasks=1, max_leases=1).leases
                with lock:
                    running.update(lease.token for lease in fresh)
                    most = max(most, len(running))
                mine += fresh
                if fresh:
                    continue  # for more, while it holds these
                for lease in mine:
                    with lock:
                        running.remove(lease.token)
                        ended.append(lease.first)
                    complete_one(store, complete_ok(lease))
                mine.clear()

        crowd(4, work)
        assert sorted(ended) == list(range(48))
        assert most <= 2

    def test_an_advancement_amid_a_cancel_is_one_or_the_other(self, store: MovableStore) -> None:
        """Either the next stage was opened and then closed by the cancel, or it never was; the job is cancelled."""
        for number in range(_ROUNDS):
            job = new_job(f"round {number}", stages=2)
            start(store, job, 1)
            lease = run_all(store, job)
            _together(
                partial(cancel, store, job),
                partial(advance, store, lease, new_stage(2)),
            )
            assert get_status(store, job) is JobStatus.CANCELLED
            assert ask(store, *all_types(job)).leases == []

    def test_workers_that_do_everything_at_once_finish_every_job(self, store: MovableStore) -> None:
        """Planning, running, advancing and recovering on many threads brings all jobs to their end, each stage once."""
        jobs = [new_job(str(number), stages=2) for number in range(8)]
        create(store, *jobs)

        def work(number: int) -> Counter[str]:
            seen = Counter[str]()
            for _ in range(400):
                answer = ask(store, *all_types(_JOB), worker=f"worker {number}", max_tasks=2, max_leases=2)
                for lease in answer.leases:
                    _carry_out(store, lease, seen)
                if answer.outcome is ClaimOutcome.EMPTY and all(get_status(store, job) is JobStatus.COMPLETED for job in jobs):
                    break
                recover(store)
            return seen

        total = sum(crowd(4, work), Counter[str]())
        assert total == Counter({f"{job.job_id} {stage}": 1 for job in jobs for stage in (1, 2)})
        assert {get_status(store, job) for job in jobs} == {JobStatus.COMPLETED}


def _carry_out(store: MovableStore, lease: Lease, seen: Counter[str]) -> None:
    match lease.kind:
        case WorkKind.PLAN:
            assert store.add_tasks(chunk(lease, 3, final=False, range_count=3)) is PlanOutcome.RECORDED
            stage = store.get_stage(lease.stage_id)
            assert stage is not None
            part = chunk(lease, 2, first_index=3, digest_before=stage.plan_digest, range_count=2)
            assert store.add_tasks(part) is PlanOutcome.RECORDED
        case WorkKind.TASK:
            end = complete_one(store, complete_ok(lease)).advance
            if end is not None:
                _carry_out(store, end, seen)
        case WorkKind.ADVANCE:
            answer = advance(store, lease, *([new_stage(2)] if lease.stage_number == 1 else []))
            seen[f"{lease.job_id} {lease.stage_number}"] += 1
            if answer.plan is not None:
                _carry_out(store, answer.plan, seen)
            else:
                assert answer.outcome is AdvanceOutcome.GROUP_CLOSED
                assert _end(store, lease)


def _end(store: MovableStore, lease: Lease) -> bool:
    return close_job(store, JobClosing(job_id=lease.job_id, range_id=lease.range_id, token=lease.token)).job_updated


def _results(answers: object) -> list[TaskCompletionResult]:
    assert isinstance(answers, list)
    return [answer for answer in answers if isinstance(answer, TaskCompletionResult)]


def _leases(answers: object) -> list[Lease]:
    assert isinstance(answers, list)
    return [answer for answer in answers if isinstance(answer, Lease)]
