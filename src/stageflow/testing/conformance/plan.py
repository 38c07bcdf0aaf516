"""Planning: tasks come in chunks, may be claimed at once, and the barrier waits for the last chunk."""

from typing import Final

import pytest

from stageflow.contracts.lease import ClaimOutcome, CompletionOutcome, Lease, RangeReturn, WorkKind
from stageflow.contracts.plan import FirstLease, PlanOutcome
from stageflow.contracts.status import StageStatus, TaskStatus
from stageflow.errors import InvalidValueError, StoreStateError
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    MovableStore,
    advance,
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
    give_back,
    let_leases_expire,
    new_job,
    new_stage,
    parameters_of,
    pause,
    plan_all,
    plan_and_lease,
    recover,
    report,
    rolling_digest,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_leases, get_stage, get_statuses, get_tasks, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


def _begin(store: MovableStore) -> Lease:
    create(store, _JOB)
    return claim_plan(store, _JOB)


def _retried(plan: Lease, delay_seconds: float) -> RangeReturn:
    return give_back(plan).model_copy(update={"retry_delay_seconds": delay_seconds, "error_details": "no network"})


def _widths(leases: list[Lease]) -> list[int]:
    return sorted(lease.last - lease.first for lease in leases)


class PlanConformance(StoreScenarios):
    """Writing the tasks of a stage."""

    def test_a_stage_is_planned_in_one_chunk(self, store: MovableStore) -> None:
        """Tasks are there with their parameters and keys, counted, claimable, and the plan lease is used up."""
        plan = _begin(store)
        keys = ["12/654/1583", None, "Ελ"]
        assert store.add_tasks(chunk(plan, 3, keys=keys)) is PlanOutcome.RECORDED
        stage = get_stage(store, _JOB)
        assert (stage.task_count, stage.remaining, stage.status) == (3, 3, StageStatus.PROCESSING)
        assert stage.plan_digest == rolling_digest("", [parameters_of(index) for index in range(3)])
        tasks = get_tasks(store, _JOB)
        assert [(task.task_index, task.key) for task in tasks] == list(enumerate(keys))
        assert [task.parameters for task in tasks] == [{"index": index} for index in range(3)]
        assert get_leases(store) == []
        assert claim_one(store, _TASKS).tasks == [parameters_of(index) for index in range(3)]

    def test_a_stage_is_planned_chunk_by_chunk(self, store: MovableStore) -> None:
        """What is written can be claimed while the planner goes on, and the digest runs over all chunks."""
        plan = _begin(store)
        assert store.add_tasks(chunk(plan, 4, final=False)) is PlanOutcome.RECORDED
        first = get_stage(store, _JOB)
        assert (first.status, first.task_count) == (StageStatus.PLANNING, 4)
        assert claim_one(store, _TASKS).last == 4
        part = chunk(plan, 2, first_index=4, digest_before=first.plan_digest)
        assert store.add_tasks(part) is PlanOutcome.RECORDED
        stage = get_stage(store, _JOB)
        assert (stage.status, stage.task_count, stage.remaining) == (StageStatus.PROCESSING, 6, 6)
        assert stage.plan_digest == rolling_digest("", [parameters_of(index) for index in range(6)])

    def test_the_barrier_waits_for_the_planner(self, store: MovableStore) -> None:
        """A stage whose tasks all ended before the planner did is not closed early; the final chunk closes it."""
        plan = _begin(store)
        store.add_tasks(chunk(plan, 2, final=False))
        answer = complete_one(store, complete_ok(claim_one(store, _TASKS)))
        assert (answer.remaining_tasks, answer.is_last_task_in_stage, answer.advance) == (0, False, None)
        assert store.add_tasks(chunk(plan, 0, first_index=2)) is PlanOutcome.RECORDED
        claim_advance(store, _JOB)

    def test_the_barrier_falls_with_the_last_task_after_the_planner(self, store: MovableStore) -> None:
        """Tasks of the final chunk are waited for as those of any other."""
        plan = _begin(store)
        store.add_tasks(chunk(plan, 2, final=False))
        complete_one(store, complete_ok(claim_one(store, _TASKS)))
        store.add_tasks(chunk(plan, 2, first_index=2))
        assert ask(store, "demo/1").outcome is ClaimOutcome.EMPTY
        assert complete_one(store, complete_ok(claim_one(store, _TASKS))).is_last_task_in_stage

    def test_a_stage_without_tasks_can_be_advanced_at_once(self, store: MovableStore) -> None:
        """Nothing to do is done."""
        plan_lease = start(store, _JOB, 0)
        stage = get_stage(store, _JOB)
        assert (stage.task_count, stage.remaining, stage.status) == (0, 0, StageStatus.PROCESSING)
        lease = claim_advance(store, _JOB)
        assert lease.stage_id == plan_lease.stage_id
        assert finish(store, lease).job_updated

    def test_tasks_are_split_evenly_into_ranges(self, store: MovableStore) -> None:
        """A stage starts as many ranges wide as asked, and never as more than it has tasks."""
        start(store, _JOB, 10, range_count=4)
        assert _widths(claim_all(store, _TASKS)) in ([2, 2, 3, 3], [1, 3, 3, 3])
        start(store, new_job("narrow"), 2, range_count=8)
        assert _widths(claim_all(store, _TASKS)) == [1, 1]

    def test_a_wide_chunk_is_written_whole(self, store: MovableStore) -> None:
        """Thousands of tasks fit into one chunk, and come back in index order."""
        start(store, _JOB, 5000, range_count=8)
        leases = claim_all(store, _TASKS, max_tasks=1000)
        assert sum(_widths(leases)) == 5000
        assert all(lease.tasks == [parameters_of(index) for index in range(lease.first, lease.last)] for lease in leases)
        answers = complete(store, *[complete_ok(lease) for lease in leases])
        assert sum(answer.is_last_task_in_stage for answer in answers) == 1

    def test_a_chunk_that_does_not_follow_is_refused(self, store: MovableStore) -> None:
        """Indexes are dense: neither a gap nor an overlap is written, nor a chunk that was written already."""
        plan = _begin(store)
        store.add_tasks(chunk(plan, 3, final=False))
        before = snapshot(store, _JOB)
        for first_index in (0, 2, 4):
            with pytest.raises(StoreStateError):
                store.add_tasks(chunk(plan, 3, first_index=first_index))
        assert snapshot(store, _JOB) == before

    def test_a_key_is_unique_within_its_stage(self, store: MovableStore) -> None:
        """A key that is there twice is named, and its whole chunk is refused."""
        plan = _begin(store)
        with pytest.raises(InvalidValueError, match="twin"):
            store.add_tasks(chunk(plan, 3, keys=["twin", "other", "twin"]))
        assert get_stage(store, _JOB).task_count == 0
        store.add_tasks(chunk(plan, 2, keys=["here", None], final=False))
        before = snapshot(store, _JOB)
        with pytest.raises(InvalidValueError, match="here"):
            store.add_tasks(chunk(plan, 2, first_index=2, keys=[None, "here"]))
        assert snapshot(store, _JOB) == before
        assert store.add_tasks(chunk(plan, 2, first_index=2, keys=[None, "there"])) is PlanOutcome.RECORDED

    def test_every_store_says_in_the_same_words_that_a_key_is_there_twice(self, store: MovableStore) -> None:
        """The error names the first key that is doubled within the chunk, else the first that is stored, and what to do."""
        plan = _begin(store)
        store.add_tasks(chunk(plan, 2, keys=["it's", "50%"], final=False))
        for keys, named in ((["it's", "b", "a", "b", "a"], "b"), (["x", None, "50%", None, "it's"], "50%")):
            with pytest.raises(InvalidValueError) as caught:
                store.add_tasks(chunk(plan, 5, first_index=2, keys=keys))
            words = f"two tasks of the stage have the key '{named}'; nothing was written: give each task its own key, or none"
            assert str(caught.value) == words

    def test_stages_do_not_share_their_keys(self, store: MovableStore) -> None:
        """A key names a task of its stage; another stage, or another job, may use it again."""
        job = new_job(stages=2)
        create(store, job, new_job("other"))
        for lease in claim_all(store, "demo/1"):
            assert store.add_tasks(chunk(lease, 1, keys=["north"])) is PlanOutcome.RECORDED
        leases = claim_all(store, _TASKS)
        answers = complete(store, *[complete_ok(lease) for lease in leases])
        ends = [answer.advance for answer in answers if answer.advance is not None and answer.job_id == job.job_id]
        plan = advance(store, ends[0], new_stage(2)).plan
        assert plan is not None
        assert store.add_tasks(chunk(plan, 1, keys=["north"])) is PlanOutcome.RECORDED

    def test_the_tasks_of_an_atomic_plan_are_claimable_when_it_is_whole(self, store: MovableStore) -> None:
        """A planner that cannot repeat itself shows its tasks all at once or not at all."""
        plan = _begin(store)
        store.add_tasks(chunk(plan, 3, final=False, claimable=False))
        store.add_tasks(chunk(plan, 3, first_index=3, final=False, claimable=False))
        assert ask(store, _TASKS).outcome is ClaimOutcome.EMPTY
        assert get_statuses(store, _JOB) == [TaskStatus.QUEUED] * 6
        assert store.list_unannounced(older_than_seconds=None, limit=10) == []
        store.add_tasks(chunk(plan, 2, first_index=6, claimable=False))
        assert sum(_widths(claim_all(store, _TASKS))) == 8

    def test_an_atomic_plan_may_end_with_an_empty_chunk(self, store: MovableStore) -> None:
        """The final chunk opens what the others wrote, also where it brings nothing itself."""
        plan = _begin(store)
        store.add_tasks(chunk(plan, 3, final=False, claimable=False))
        store.add_tasks(chunk(plan, 0, first_index=3, claimable=False))
        assert sum(_widths(claim_all(store, _TASKS))) == 3

    def test_a_second_planner_can_replace_what_the_first_wrote(self, store: MovableStore) -> None:
        """After a crash an atomic plan begins anew, with other tasks, keys and digest, and nothing of the old is left."""
        first = _begin(store)
        store.add_tasks(chunk(first, 5, keys=["a", "b", "c", "d", "e"], final=False, claimable=False))
        let_leases_expire(store)
        second = claim_plan(store, _JOB, worker="bob")
        assert store.add_tasks(chunk(second, 2, keys=["b", "a"], claimable=False, replace=True)) is PlanOutcome.RECORDED
        stage = get_stage(store, _JOB)
        assert (stage.task_count, stage.remaining) == (2, 2)
        assert stage.plan_digest == rolling_digest("", [parameters_of(0), parameters_of(1)])
        assert [task.key for task in get_tasks(store, _JOB)] == ["b", "a"]
        assert _widths(claim_all(store, _TASKS)) == [2]

    @pytest.mark.parametrize("ended", [True, False])
    def test_a_plan_of_which_a_task_has_started_is_not_replaced(self, store: MovableStore, *, ended: bool) -> None:
        """What ran once cannot be as if it had never been; the planner is told, and nothing is lost."""
        plan = _begin(store)
        store.add_tasks(chunk(plan, 1, final=False))
        lease = claim_one(store, _TASKS)
        if ended:
            complete_one(store, complete_ok(lease))
        before = snapshot(store, _JOB)
        with pytest.raises(StoreStateError, match="started"):
            store.add_tasks(chunk(plan, 2, replace=True))
        assert snapshot(store, _JOB) == before

    def test_a_second_planner_goes_on_where_the_first_stopped(self, store: MovableStore) -> None:
        """After a crash the digest and the count tell the next planner where it is; work on what is there went on."""
        first = _begin(store)
        store.add_tasks(chunk(first, 3, final=False))
        assert complete_one(store, complete_ok(claim_one(store, _TASKS), 3)).outcome is CompletionOutcome.RECORDED
        let_leases_expire(store)
        second = claim_plan(store, _JOB, worker="bob")
        stage = get_stage(store, _JOB)
        assert (second.kind, stage.task_count, stage.status) == (WorkKind.PLAN, 3, StageStatus.PLANNING)
        assert stage.plan_digest == rolling_digest("", [parameters_of(index) for index in range(3)])
        store.add_tasks(chunk(second, 2, first_index=3, digest_before=stage.plan_digest))
        assert get_statuses(store, _JOB) == [OK] * 3 + [TaskStatus.QUEUED] * 2

    def test_a_plan_that_is_retried_waits_out_its_delay(self, store: MovableStore) -> None:
        """A planner that failed comes back as its next attempt, not before its delay is over and exactly once after it."""
        first = _begin(store)
        assert first.attempt == 1
        store.add_tasks(chunk(first, 2, final=False))
        assert store.return_ranges([_retried(first, 60.0)]) == [True]
        assert store.add_tasks(chunk(first, 1, first_index=2)) is PlanOutcome.STALE
        assert store.return_ranges([_retried(first, 60.0)]) == [False]
        store.move_clock(59)
        recover(store)
        waiting = ask(store, control_type(_JOB))
        assert (waiting.outcome, waiting.leases) == (ClaimOutcome.EMPTY, [])
        assert waiting.next_due_seconds is not None
        assert 0 < waiting.next_due_seconds <= 1
        store.move_clock(2)
        second = claim_plan(store, _JOB, worker="bob")
        assert (second.attempt, second.stage_id, second.deaths) == (2, first.stage_id, 0)
        assert ask(store, control_type(_JOB)).outcome is ClaimOutcome.EMPTY
        assert get_stage(store, _JOB).task_count == 2
        assert store.add_tasks(chunk(second, 1, first_index=2, digest_before="")) is PlanOutcome.RECORDED

    def test_the_attempts_of_a_plan_add_up(self, store: MovableStore) -> None:
        """Each retry counts, with a delay or without; giving a plan back untried, or a worker's death, does not."""
        plan = _begin(store)
        for attempt, delay in ((2, 0.0), (3, 5.0), (4, 0.0)):
            assert store.return_ranges([_retried(plan, delay)]) == [True]
            store.move_clock(delay + 1)
            plan = claim_plan(store, _JOB)
            assert plan.attempt == attempt
        assert store.return_ranges([give_back(plan)]) == [True]
        plan = claim_plan(store, _JOB)
        assert plan.attempt == 4
        let_leases_expire(store)
        assert claim_plan(store, _JOB).attempt == 4

    def test_a_plan_that_waits_ends_with_its_job(self, store: MovableStore) -> None:
        """The retry of a cancelled job's planning never becomes due."""
        plan = _begin(store)
        store.return_ranges([_retried(plan, 60.0)])
        cancel(store, _JOB)
        store.move_clock(61)
        recover(store)
        assert ask(store, control_type(_JOB)).leases == []
        assert get_stage(store, _JOB).status is StageStatus.CANCELLED

    def test_the_final_chunk_ends_the_lease(self, store: MovableStore) -> None:
        """Nothing can be added to a stage that is planned."""
        plan = start(store, _JOB, 2)
        before = snapshot(store, _JOB)
        assert store.add_tasks(chunk(plan, 2, first_index=2)) is PlanOutcome.STALE
        assert snapshot(store, _JOB) == before

    def test_planning_a_cancelled_job_is_told_so(self, store: MovableStore) -> None:
        """A planner of an ended job writes nothing more and its stage is closed."""
        plan = _begin(store)
        store.add_tasks(chunk(plan, 2, final=False))
        cancel(store, _JOB)
        assert store.add_tasks(chunk(plan, 2, first_index=2)) is PlanOutcome.JOB_ENDED
        stage = get_stage(store, _JOB)
        assert (stage.task_count, stage.status) == (2, StageStatus.CANCELLED)
        assert get_leases(store) == []

    def test_a_stage_that_halted_while_it_was_planned_still_closes(self, store: MovableStore) -> None:
        """A failure before the planner's end skips what the planner still brings, and the barrier falls after it."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        create(store, job)
        plan = claim_plan(store, job)
        store.add_tasks(chunk(plan, 2, final=False, range_count=2))
        answer = complete_one(store, report(claim_one(store, _TASKS), BAD))
        assert (answer.stage_halted, answer.is_last_task_in_stage) == (True, False)
        assert store.add_tasks(chunk(plan, 3, first_index=2)) is PlanOutcome.RECORDED
        claim_all(store, _TASKS)
        assert get_statuses(store, job) == [BAD, *[TaskStatus.SKIPPED] * 4]
        claim_advance(store, job)

    def test_planning_a_job_leaves_its_neighbours_alone(self, store: MovableStore) -> None:
        """Jobs of one type are planned side by side."""
        create(store, _JOB)
        plan_all(store, _JOB, 2)
        create(store, new_job("other"))
        plan_all(store, new_job("other"), 3)
        assert [len(get_tasks(store, job)) for job in (_JOB, new_job("other"))] == [2, 3]
        ends = complete(store, *[complete_ok(lease) for lease in claim_all(store, _TASKS)])
        assert sum(end.is_last_task_in_stage for end in ends) == 2

    def test_a_planner_may_run_the_first_of_what_it_plans(self, store: MovableStore) -> None:
        """In one transaction the tasks are written and the first of them leased; the rest is ready for others."""
        plan = _begin(store)
        answer = plan_and_lease(store, chunk(plan, 6, range_count=2), _wish(2))
        lease = answer.lease
        assert answer.outcome is PlanOutcome.RECORDED
        assert lease is not None
        assert (lease.kind, lease.first, lease.last, lease.attempt, lease.suspect) == (WorkKind.TASK, 0, 2, 1, False)
        assert lease.tasks == [parameters_of(0), parameters_of(1)]
        assert lease.token > plan.token
        assert (get_stage(store, _JOB).task_count, get_stage(store, _JOB).remaining) == (6, 6)
        assert _widths(claim_all(store, _TASKS)) == [1, 3]
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.RECORDED

    def test_a_planner_that_may_run_all_of_it_leaves_nothing_to_claim(self, store: MovableStore) -> None:
        """A whole range is leased as it is, and comes back like any other when its holder dies."""
        lease = plan_and_lease(store, chunk(_begin(store), 3, range_count=1), _wish(10)).lease
        assert lease is not None
        assert (lease.first, lease.last) == (0, 3)
        assert ask(store, _TASKS).outcome is ClaimOutcome.EMPTY
        assert let_leases_expire(store).returned == 1
        assert _widths(claim_all(store, _TASKS, max_tasks=1)) == [1, 1, 1]
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.STALE

    def test_nothing_is_leased_where_nothing_may_run(self, store: MovableStore) -> None:
        """No task, a plan that is not whole, a stale plan: the answer is the one of add_tasks, without a lease."""
        plan = _begin(store)
        early = plan_and_lease(store, chunk(plan, 3, final=False, claimable=False), _wish(3))
        assert (early.outcome, early.lease) == (PlanOutcome.RECORDED, None)
        more = plan_and_lease(store, chunk(plan, 2, first_index=3, final=False, claimable=False), _wish(3))
        assert (more.outcome, more.lease) == (PlanOutcome.RECORDED, None)
        whole = plan_and_lease(store, chunk(plan, 0, first_index=5), _wish(3))
        assert (whole.outcome, whole.lease) == (PlanOutcome.RECORDED, None)
        assert sum(_widths(claim_all(store, _TASKS))) == 5
        again = plan_and_lease(store, chunk(plan, 1, first_index=5), _wish(3))
        assert (again.outcome, again.lease) == (PlanOutcome.STALE, None)

    @pytest.mark.parametrize("paused", [True, False])
    def test_a_job_that_is_paused_or_cancelled_gives_no_lease(self, store: MovableStore, *, paused: bool) -> None:
        """The plan is refused as ever, and nothing of it was written."""
        plan = _begin(store)
        if paused:
            pause(store, _JOB)
        else:
            cancel(store, _JOB)
        answer = plan_and_lease(store, chunk(plan, 3), _wish(3))
        assert (answer.outcome, answer.lease) == (PlanOutcome.PAUSED if paused else PlanOutcome.JOB_ENDED, None)
        assert get_stage(store, _JOB).task_count == 0

    def test_a_halted_stage_gives_no_lease(self, store: MovableStore) -> None:
        """What is planned after the policy gave up is skipped, not run."""
        job = new_job("fragile", first_stage=new_stage(1, fail_fast=True))
        create(store, job)
        plan = claim_plan(store, job)
        store.add_tasks(chunk(plan, 2, final=False))
        complete_one(store, report(claim_one(store, tasks_type(job), max_tasks=1), BAD))
        answer = plan_and_lease(store, chunk(plan, 2, first_index=2), _wish(2))
        assert (answer.outcome, answer.lease) == (PlanOutcome.RECORDED, None)


def _wish(max_tasks: int) -> FirstLease:
    return FirstLease(worker_id="ada", max_tasks=max_tasks, lease_seconds=30.0)
