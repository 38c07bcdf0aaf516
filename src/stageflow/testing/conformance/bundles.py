"""Several jobs in step: control work is claimed by the bundle, and written together, each piece with its own answer."""

import pytest

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.job import JobClosing, NewJob
from stageflow.contracts.lease import ClaimOutcome, ClaimRequest, CompletionOutcome, Lease, WorkKind
from stageflow.contracts.limits import TaskTypeLimit
from stageflow.contracts.plan import FirstLease, PlanOutcome
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.errors import InvalidValueError, StoreStateError
from stageflow.testing.conformance.builders import (
    LEASE_SECONDS,
    TASK_TYPE,
    MovableStore,
    advance_of,
    all_types,
    ask,
    cancel,
    chunk,
    claim_all,
    closing_of,
    complete,
    complete_ok,
    control_type,
    create,
    give_back,
    let_leases_expire,
    new_job,
    new_stage,
    parameters_of,
    pause,
    recover,
    resume,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import check_partition, get_job, get_stage, get_status, get_tasks, snapshot

_JOBS = [new_job(f"job {number}", stages=2) for number in range(4)]


def claim_bundle(store: MovableStore, *work_types: str, control: int = 3, tasks: int = 1000) -> list[Lease]:
    """Claim once, bundled: so many leases on control work, or one on so many tasks."""
    answer = store.claim(
        ClaimRequest(
            worker_id="ada",
            work_types=list(work_types),
            max_tasks=[tasks if work_type.count("/") > 1 else control for work_type in work_types],
            max_leases=1,
            lease_seconds=LEASE_SECONDS,
            bundled=True,
        )
    )
    assert (answer.outcome is ClaimOutcome.WORK) == bool(answer.leases)
    return answer.leases


def wish(max_tasks: int = 10) -> FirstLease:
    """Return the wish to run the first tasks of a plan."""
    return FirstLease(worker_id="ada", max_tasks=max_tasks, lease_seconds=LEASE_SECONDS)


def run_in_step(store: MovableStore, *jobs: NewJob, count: int = 2) -> list[Lease]:
    """Create jobs and take all of them to the end of their first stage; returns the leases on closing it, in their order."""
    create(store, *jobs)
    plans = _in_order(claim_all(store, control_type(jobs[0])), jobs)
    answers = store.add_tasks_and_lease([chunk(plan, count) for plan in plans], [wish() for _ in plans])
    leases = [answer.lease for answer in answers if answer.lease is not None]
    advances = [answer.advance for answer in complete(store, *map(complete_ok, leases)) if answer.advance is not None]
    assert len(advances) == len(jobs)
    return advances


def _in_order(leases: list[Lease], jobs: tuple[NewJob, ...]) -> list[Lease]:
    of_job = {lease.job_id: lease for lease in leases}
    return [of_job[job.job_id] for job in jobs]


class BundleClaimConformance:
    """Claims that begin with control work go on with it."""

    def test_control_work_comes_by_the_bundle(self, store: MovableStore) -> None:
        """As many leases as its type allows, the best first, each with its job; the rest is for others."""
        create(store, *_JOBS, new_job("urgent", priority=5))
        leases = claim_bundle(store, *all_types(_JOBS[0]))
        assert [lease.kind for lease in leases] == [WorkKind.PLAN] * 3
        assert leases[0].job_id == new_job("urgent").job_id
        assert len({lease.token for lease in leases}) == 3
        assert all(lease.state is None or lease.state.job.job_id == lease.job_id for lease in leases)
        assert [get_status(store, job) for job in (_JOBS[0], _JOBS[3])] == [JobStatus.PROCESSING, JobStatus.QUEUED]
        assert len(claim_bundle(store, *all_types(_JOBS[0]))) == 2

    def test_tasks_come_alone(self, store: MovableStore) -> None:
        """One lease on tasks, however many jobs have some."""
        for job in _JOBS[:2]:
            start(store, job, 2)
        (lease,) = claim_bundle(store, *all_types(_JOBS[0]))
        assert (lease.kind, lease.first, lease.last) == (WorkKind.TASK, 0, 2)

    def test_a_bundle_ends_where_tasks_are_better(self, store: MovableStore) -> None:
        """Priority is kept: control work of less priority does not pass tasks by."""
        create(store, new_job("first", priority=2))
        start(store, new_job("tasks", job_type="other", priority=1), 2)
        create(store, new_job("last"))
        types = [*all_types(new_job()), *all_types(new_job(job_type="other"))]
        kinds = [[lease.kind for lease in claim_bundle(store, *types)] for _ in range(3)]
        assert kinds == [[WorkKind.PLAN], [WorkKind.TASK], [WorkKind.PLAN]]

    def test_each_type_of_control_work_says_how_much_of_it(self, store: MovableStore) -> None:
        """The last lease's type decides whether there is room for another."""
        create(store, *_JOBS[:2], new_job("slow", job_type="slow"))
        request = ClaimRequest(
            worker_id="ada",
            work_types=[control_type(_JOBS[0]), "slow/1"],
            max_tasks=[8, 1],
            max_leases=1,
            lease_seconds=LEASE_SECONDS,
            bundled=True,
        )
        assert [lease.job_type for lease in store.claim(request).leases] == [_JOBS[0].job_type, _JOBS[0].job_type, "slow"]

    @pytest.mark.parametrize("limited", [False, True])
    def test_what_a_worker_died_on_is_planned_alone(self, store: MovableStore, *, limited: bool) -> None:
        """So nobody dies a second time beside it."""
        if limited:
            store.limit_task_type(
                TaskTypeLimit(job_type=_JOBS[0].job_type, task_type=TASK_TYPE, max_running=5, max_per_second=None)
            )
        create(store, *_JOBS)
        assert len(claim_bundle(store, *all_types(_JOBS[0]), control=2)) == 2
        let_leases_expire(store)
        widths = [len(claim_bundle(store, *all_types(_JOBS[0]), control=4)) for _ in range(4)]
        assert sorted(widths) == [0, 1, 1, 2]

    def test_a_bundle_given_back_is_there_at_once(self, store: MovableStore) -> None:
        """Nobody is blamed, and nothing counts as an attempt."""
        create(store, *_JOBS)
        first = claim_bundle(store, *all_types(_JOBS[0]), control=4)
        assert store.return_ranges([give_back(lease) for lease in first]) == [True] * 4
        again = claim_bundle(store, *all_types(_JOBS[0]), control=4)
        assert {(lease.range_id, lease.attempt, lease.deaths) for lease in again} == {
            (lease.range_id, lease.attempt, lease.deaths) for lease in first
        }
        assert {lease.token for lease in again}.isdisjoint({lease.token for lease in first})

    def test_an_advancement_given_back_is_there_at_once(self, store: MovableStore) -> None:
        """The one that a report handed over, too."""
        lease, _ = run_in_step(store, *_JOBS[:2])
        assert store.return_ranges([give_back(lease)]) == [True]
        (again,) = claim_bundle(store, *all_types(_JOBS[0]))
        assert (again.kind, again.job_id, again.attempt, again.deaths) == (WorkKind.ADVANCE, lease.job_id, 1, 0)

    def test_unbundled_claims_are_as_they_were(self, store: MovableStore) -> None:
        """The most leases, and no more, whatever their kind."""
        create(store, *_JOBS)
        assert len(ask(store, *all_types(_JOBS[0]), max_tasks=8, max_leases=1).leases) == 1


class BundleConformance:
    """Control work of several jobs in one transaction."""

    def test_jobs_go_through_their_lives_in_step(self, store: MovableStore) -> None:
        """Each is answered by itself, in the order asked, with the lease on what follows."""
        jobs = _JOBS[:3]
        advances = run_in_step(store, *jobs)
        asked = [advance_of(store, lease, new_stage(2)) for lease in reversed(advances)]
        answers = store.advance_job_stages(asked, worker_id="ada", lease_seconds=LEASE_SECONDS)
        assert [answer.outcome for answer in answers] == [AdvanceOutcome.ADVANCED] * 3
        plans = [answer.plan for answer in answers if answer.plan is not None]
        assert [plan.job_id for plan in plans] == [job.job_id for job in reversed(jobs)]
        assert all(plan.state is None or plan.state.job.stage == 2 for plan in plans)
        started = store.add_tasks_and_lease(
            [chunk(plan, width) for plan, width in zip(plans, (1, 3, 2), strict=True)], [wish(), wish(2), wish()]
        )
        leases = [answer.lease for answer in started if answer.lease is not None]
        assert [(lease.job_id, lease.first, lease.last) for lease in leases] == [
            (jobs[2].job_id, 0, 1),
            (jobs[1].job_id, 0, 2),
            (jobs[0].job_id, 0, 2),
        ]
        assert [lease.tasks for lease in leases][1] == [parameters_of(0), parameters_of(1)]
        (rest,) = claim_all(store, tasks_type(jobs[1]))
        last = [answer.advance for answer in complete(store, *map(complete_ok, [*leases, rest])) if answer.advance is not None]
        ends = store.check_job_completions([closing_of(store, lease, answer=f'{{"of":"{lease.job_id}"}}') for lease in last])
        assert [(end.job_updated, end.status, end.total_tasks) for end in ends] == [
            (True, JobStatus.COMPLETED, 2 + get_stage(store, job, 2).task_count) for job in _named(last, jobs)
        ]
        assert [get_job(store, job).result_data for job in jobs] == [{"of": job.job_id} for job in jobs]
        for job in jobs:
            check_partition(store, job)

    def test_a_refused_plan_does_not_hinder_the_others(self, store: MovableStore) -> None:
        """A stale one, one of a paused and one of a cancelled job, beside one that is written."""
        create(store, *_JOBS)
        stale, paused, ended, sound = _in_order(claim_all(store, control_type(_JOBS[0])), tuple(_JOBS))
        store.return_ranges([give_back(stale)])
        pause(store, _JOBS[1])
        cancel(store, _JOBS[2])
        answers = store.add_tasks_and_lease(
            [chunk(plan, 2) for plan in (stale, paused, ended, sound)], [wish() for _ in range(4)]
        )
        outcomes = [PlanOutcome.STALE, PlanOutcome.PAUSED, PlanOutcome.JOB_ENDED, PlanOutcome.RECORDED]
        assert [(answer.outcome, answer.lease is not None) for answer in answers] == [
            (outcome, outcome is PlanOutcome.RECORDED) for outcome in outcomes
        ]
        assert [get_stage(store, job).task_count for job in _JOBS] == [0, 0, 0, 2]

    def test_an_impossible_plan_leaves_nothing_of_the_others(self, store: MovableStore) -> None:
        """A key that is there twice, a chunk that does not follow: an error, and the others can be asked by themselves."""
        create(store, *_JOBS[:2])
        sound, wrong = _in_order(claim_all(store, control_type(_JOBS[0])), tuple(_JOBS[:2]))
        before = [snapshot(store, job) for job in _JOBS[:2]]
        with pytest.raises(InvalidValueError, match="two tasks of the stage have the key 'a'"):
            store.add_tasks_and_lease([chunk(sound, 2), chunk(wrong, 2, keys=["a", "a"])], [wish(), wish()])
        with pytest.raises(StoreStateError, match="go on from there"):
            store.add_tasks_and_lease([chunk(sound, 2), chunk(wrong, 2, first_index=7)], [wish(), wish()])
        assert [snapshot(store, job) for job in _JOBS[:2]] == before
        (answer,) = store.add_tasks_and_lease([chunk(sound, 2)], [wish()])
        assert answer.outcome is PlanOutcome.RECORDED

    def test_plans_with_keys_and_without_are_written_together(self, store: MovableStore) -> None:
        """And one of no task at all, whose stage is finished by that."""
        create(store, *_JOBS[:3])
        keyed, plain, none = _in_order(claim_all(store, control_type(_JOBS[0])), tuple(_JOBS[:3]))
        answers = store.add_tasks_and_lease(
            [chunk(keyed, 3, keys=["x", None, "z"]), chunk(plain, 1), chunk(none, 0)], [wish() for _ in range(3)]
        )
        assert [answer.lease is not None for answer in answers] == [True, True, False]
        assert [[task.key for task in get_tasks(store, job)] for job in _JOBS[:3]] == [["x", None, "z"], [None], []]
        (advance,) = claim_all(store, control_type(_JOBS[0]))
        assert (advance.kind, advance.job_id) == (WorkKind.ADVANCE, _JOBS[2].job_id)

    def test_a_refused_advance_does_not_hinder_the_others(self, store: MovableStore) -> None:
        """Stale, done before, paused, cancelled: each has its answer, and the sound one moves on."""
        jobs = [*_JOBS, new_job("job 4", stages=2)]
        leases = run_in_step(store, *jobs)
        asked = [advance_of(store, lease, new_stage(2)) for lease in leases]
        store.advance_job_stages(asked[:1], worker_id="ada", lease_seconds=LEASE_SECONDS)
        store.return_ranges([give_back(leases[1])])
        pause(store, jobs[2])
        cancel(store, jobs[3])
        answers = store.advance_job_stages(asked, worker_id="ada", lease_seconds=LEASE_SECONDS)
        assert [answer.outcome for answer in answers] == [
            AdvanceOutcome.ALREADY_ADVANCED,
            AdvanceOutcome.STALE,
            AdvanceOutcome.PAUSED,
            AdvanceOutcome.JOB_ENDED,
            AdvanceOutcome.ADVANCED,
        ]
        assert [answer.plan is not None for answer in answers] == [False, False, False, False, True]
        resume(store, jobs[2])
        assert {lease.job_id for lease in claim_all(store, control_type(jobs[0]))} == {jobs[1].job_id, jobs[2].job_id}

    def test_an_impossible_advance_leaves_nothing_of_the_others(self, store: MovableStore) -> None:
        """A stage that was never there, or a status that closes none."""
        first, second = run_in_step(store, *_JOBS[:2])
        before = [snapshot(store, job) for job in _JOBS[:2]]
        sound = advance_of(store, first, new_stage(2))
        for wrong in (
            advance_of(store, second, new_stage(2)).model_copy(update={"stage_id": 10**9}),
            advance_of(store, second, new_stage(2, skipped=True)),
        ):
            with pytest.raises(StoreStateError):
                store.advance_job_stages([sound, wrong], worker_id="ada", lease_seconds=LEASE_SECONDS)
        assert [snapshot(store, job) for job in _JOBS[:2]] == before

    def test_stages_in_a_row_and_groups_are_opened_together(self, store: MovableStore) -> None:
        """Each job gets its own list: one stage, a group of two, one after a skipped one."""
        jobs = [new_job(f"job {number}", stages=3) for number in range(3)]
        following = [
            [new_stage(2)],
            [new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3), fail_fast=True, minimum_success_rate=0.5)],
            [new_stage(2, skipped=True), new_stage(3, task_type="other")],
        ]
        leases = run_in_step(store, *jobs)
        answers = store.advance_job_stages(
            [advance_of(store, lease, *stages) for lease, stages in zip(leases, following, strict=True)],
            worker_id="ada",
            lease_seconds=LEASE_SECONDS,
        )
        assert [(answer.new_stage, answer.is_final_stage) for answer in answers] == [(2, False), (2, True), (3, True)]
        seen = [
            [
                (stage.stage_number, stage.task_type, stage.status, stage.group_first, stage.group_last)
                for stage in store.list_stages(job.job_id, 1)[1:]
            ]
            for job in jobs
        ]
        assert seen == [
            [(2, TASK_TYPE, StageStatus.PLANNING, 2, 2)],
            [(2, TASK_TYPE, StageStatus.PLANNING, 2, 3), (3, TASK_TYPE, StageStatus.PENDING, 2, 3)],
            [(2, TASK_TYPE, StageStatus.SKIPPED, 2, 2), (3, "other", StageStatus.PLANNING, 3, 3)],
        ]

    def test_a_refused_ending_does_not_hinder_the_others(self, store: MovableStore) -> None:
        """Paused and stale ones stay open; one whose rest is skipped ends; one that is only looked at changes nothing."""
        leases = run_in_step(store, *_JOBS)
        pause(store, _JOBS[0])
        store.return_ranges([give_back(leases[1])])
        asked = [closing_of(store, lease, new_stage(2, skipped=True), answer='{"all":1}') for lease in leases[:3]]
        answers = store.check_job_completions([*asked, JobClosing(job_id=_JOBS[3].job_id)])
        assert [(answer.job_id, answer.job_updated, answer.status) for answer in answers] == [
            (_JOBS[0].job_id, False, JobStatus.PAUSED),
            (_JOBS[1].job_id, False, JobStatus.PROCESSING),
            (_JOBS[2].job_id, True, JobStatus.COMPLETED),
            (_JOBS[3].job_id, False, JobStatus.PROCESSING),
        ]
        assert get_job(store, _JOBS[2]).result_data == {"all": 1}

    def test_an_impossible_ending_leaves_nothing_of_the_others(self, store: MovableStore) -> None:
        """A failed stage lets no job complete."""
        first, second = run_in_step(store, *_JOBS[:2])
        before = [snapshot(store, job) for job in _JOBS[:2]]
        sound, wrong = (closing_of(store, lease, new_stage(2, skipped=True)) for lease in (first, second))
        with pytest.raises(StoreStateError):
            store.check_job_completions([sound, wrong.model_copy(update={"stage_status": "failed"})])
        assert [snapshot(store, job) for job in _JOBS[:2]] == before

    def test_a_bundle_of_the_dead_comes_back_whole(self, store: MovableStore) -> None:
        """What the dead had written together stays, and what they held together is claimed again."""
        leases = run_in_step(store, *_JOBS[:2])
        asked = [advance_of(store, lease, new_stage(2)) for lease in leases]
        store.advance_job_stages(asked, worker_id="ada", lease_seconds=LEASE_SECONDS)
        assert let_leases_expire(store).returned == 2
        recover(store)
        plans = claim_all(store, control_type(_JOBS[0]))
        assert sorted((plan.kind, plan.stage_number, plan.deaths) for plan in plans) == [(WorkKind.PLAN, 2, 1)] * 2
        late = store.add_tasks_and_lease([chunk(plan, 1) for plan in plans], [wish(), wish()])
        assert [answer.outcome for answer in late] == [PlanOutcome.RECORDED] * 2
        done = complete(store, *[complete_ok(answer.lease) for answer in late if answer.lease is not None])
        assert [answer.outcome for answer in done] == [CompletionOutcome.RECORDED] * 2


def _named(leases: list[Lease], jobs: list[NewJob]) -> list[NewJob]:
    by_id = {job.job_id: job for job in jobs}
    return [by_id[lease.job_id] for lease in leases]
