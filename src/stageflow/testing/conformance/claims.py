"""Claims: the best work first, no work twice, and an honest answer where there is none."""

from collections import Counter
from itertools import pairwise
from typing import Final

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.lease import ClaimOutcome, ClaimRequest, Lease, WorkKind
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import TaskStatus
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    TASK_TYPE,
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
    let_leases_expire,
    new_job,
    new_stage,
    parameters_of,
    report,
    run_all,
    start,
    take_advance,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import get_stage, get_statuses, get_tasks
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


def _spans(leases: list[Lease]) -> list[tuple[int, int]]:
    return sorted((lease.first, lease.last) for lease in leases)


def _claim_one_by_one(store: MovableStore, times: int) -> list[Lease]:
    return [claim_one(store, _TASKS, max_tasks=1) for _ in range(times)]


class ClaimConformance(StoreScenarios):
    """Claiming by work type."""

    def test_one_claim_takes_several_parts_of_one_range(self, store: MovableStore) -> None:
        """Who asks for two leases of two tasks gets them, where there is one range of five; the rest is ready."""
        start(store, _JOB, 5)
        answer = ask(store, _TASKS, max_tasks=2, max_leases=2)
        assert sorted((lease.first, lease.last) for lease in answer.leases) == [(0, 2), (2, 4)]
        assert [(lease.first, lease.last) for lease in claim_all(store, _TASKS)] == [(4, 5)]

    def test_a_task_lease_says_everything_about_its_work(self, store: MovableStore) -> None:
        """A worker can run what it claimed without asking the store again."""
        job = new_job(version=4, first_stage=new_stage(1, task_type="tile"))
        plan = start(store, job, 5)
        lease = claim_one(store, tasks_type(job, "tile"))
        assert (lease.kind, lease.job_id, lease.job_type, lease.workflow_version) == (WorkKind.TASK, job.job_id, "demo", 4)
        assert (lease.run, lease.stage_id, lease.stage_number, lease.generation) == (1, plan.stage_id, 1, 1)
        assert (lease.task_type, lease.first, lease.last, lease.attempt) == ("tile", 0, 5, 1)
        assert (lease.deaths, lease.suspect) == (0, False)
        assert lease.tasks == [parameters_of(index) for index in range(5)]

    def test_a_plan_lease_says_what_is_to_be_planned(self, store: MovableStore) -> None:
        """Control work is leased like any other work."""
        create(store, _JOB)
        lease = claim_one(store, control_type(_JOB))
        assert (lease.kind, lease.job_id, lease.run, lease.stage_number) == (WorkKind.PLAN, _JOB.job_id, 1, 1)
        assert (lease.stage_id, lease.task_type) == (get_stage(store, _JOB).stage_id, TASK_TYPE)
        assert (lease.first, lease.last, lease.attempt, lease.tasks) == (0, 1, 1, [])

    def test_a_claimed_range_is_not_claimed_again(self, store: MovableStore) -> None:
        """Work that is leased is nobody else's."""
        start(store, _JOB, 3)
        claim_one(store, _TASKS)
        answer = ask(store, *all_types(_JOB), worker="bob")
        assert (answer.outcome, answer.leases, answer.next_due_seconds) == (ClaimOutcome.EMPTY, [], None)

    def test_an_empty_store_answers_empty(self, store: MovableStore) -> None:
        """Nothing to do is an answer."""
        answer = ask(store, *all_types(_JOB))
        assert (answer.outcome, answer.leases, answer.next_due_seconds) == (ClaimOutcome.EMPTY, [], None)

    def test_a_claim_of_no_type_answers_empty(self, store: MovableStore) -> None:
        """A worker that can do nothing gets nothing."""
        start(store, _JOB, 1)
        assert ask(store).outcome is ClaimOutcome.EMPTY

    def test_work_of_unknown_types_is_left_alone(self, store: MovableStore) -> None:
        """A worker gets only what it knows: not another type, not another version, not the control work of its tasks."""
        start(store, _JOB, 2)
        create(store, new_job("planned by others"))
        others = ["other/1", "other/1/work", "demo/2", "demo/2/work", "demo/1/other", "demo", "demo/1/", ""]
        assert ask(store, *others).outcome is ClaimOutcome.EMPTY
        assert [lease.kind for lease in claim_all(store, _TASKS)] == [WorkKind.TASK]
        assert [lease.kind for lease in claim_all(store, control_type(_JOB))] == [WorkKind.PLAN]

    def test_a_lease_holds_at_most_what_was_asked_for(self, store: MovableStore) -> None:
        """A claim splits off the head of a range, in index order, and leaves the rest to be claimed."""
        start(store, _JOB, 10)
        answer = ask(store, _TASKS, max_tasks=4, max_leases=1)
        assert answer.outcome is ClaimOutcome.WORK
        assert _spans(answer.leases) == [(0, 4)]
        assert answer.leases[0].tasks == [parameters_of(index) for index in range(4)]
        assert get_statuses(store, _JOB) == [TaskStatus.PROCESSING] * 4 + [TaskStatus.QUEUED] * 6
        assert _spans(claim_all(store, _TASKS, max_tasks=4)) == [(4, 8), (8, 10)]

    def test_one_claim_splits_one_range_into_several_leases(self, store: MovableStore) -> None:
        """A worker with several slots fills them in one call, also from one range."""
        start(store, _JOB, 10)
        answer = ask(store, _TASKS, max_tasks=2, max_leases=3)
        assert _spans(answer.leases) == [(0, 2), (2, 4), (4, 6)]
        assert len({lease.token for lease in answer.leases}) == 3
        assert len({lease.range_id for lease in answer.leases}) == 3
        assert _spans(claim_all(store, _TASKS)) == [(6, 10)]

    def test_one_claim_takes_from_several_jobs_and_types(self, store: MovableStore) -> None:
        """Whatever is ready of what the worker knows fits into one answer, each type within its own limit."""
        other = new_job("other", job_type="report", first_stage=new_stage(1, task_type="page"))
        start(store, _JOB, 3)
        start(store, other, 4)
        create(store, new_job("new"))
        answer = store.claim(
            ClaimRequest(
                worker_id="ada",
                work_types=[_TASKS, tasks_type(other, "page"), control_type(_JOB)],
                max_tasks=[3, 1, 1],
                max_leases=3,
                lease_seconds=LEASE_SECONDS,
            )
        )
        assert answer.outcome is ClaimOutcome.WORK
        got = Counter((lease.job_type, lease.kind) for lease in answer.leases)
        assert got == {("demo", WorkKind.TASK): 1, ("report", WorkKind.TASK): 1, ("demo", WorkKind.PLAN): 1}
        widths = {lease.task_type: len(lease.tasks) for lease in answer.leases if lease.kind is WorkKind.TASK}
        assert widths == {TASK_TYPE: 3, "page": 1}

    def test_no_more_leases_are_given_than_asked_for(self, store: MovableStore) -> None:
        """A worker is never given more than it has slots for."""
        start(store, _JOB, 10, range_count=10)
        assert len(ask(store, _TASKS, max_leases=4).leases) == 4
        assert len(claim_all(store, _TASKS)) == 6

    def test_every_token_is_larger_than_those_before(self, store: MovableStore) -> None:
        """Fencing tokens order all leases of a store, whatever is leased."""
        start(store, _JOB, 6, range_count=6)
        start(store, new_job("other"), 2)
        tokens = [claim_one(store, _TASKS, max_tasks=1).token for _ in range(5)]
        let_leases_expire(store)
        tokens += [claim_one(store, _TASKS, max_tasks=1).token for _ in range(5)]
        assert tokens == sorted(set(tokens))

    def test_a_suspect_range_is_claimed_one_task_at_a_time(self, store: MovableStore) -> None:
        """After a worker died on a range, the task that killed it is found by running each alone."""
        start(store, _JOB, 3)
        claim_one(store, _TASKS)
        let_leases_expire(store)
        leases = claim_all(store, _TASKS, max_tasks=100)
        assert _spans(leases) == [(0, 1), (1, 2), (2, 3)]
        assert [(lease.suspect, lease.deaths) for lease in leases] == [(True, 0)] * 3

    def test_retried_tasks_are_claimed_together(self, store: MovableStore) -> None:
        """A retry of several tasks is one range, of the next attempt."""
        start(store, _JOB, 3)
        complete_one(store, report(claim_one(store, _TASKS), Again(), Again(), OK))
        lease = claim_one(store, _TASKS)
        assert (lease.first, lease.last, lease.attempt, lease.suspect) == (0, 2, 2, False)
        assert lease.tasks == [parameters_of(0), parameters_of(1)]

    def test_what_is_due_is_claimed_without_anybody_sweeping(self, store: MovableStore) -> None:
        """A claim opens what has come due itself, and says how long the next one takes."""
        start(store, _JOB, 2, range_count=2)
        leases = claim_all(store, _TASKS)
        complete(store, report(leases[0], Again(50.0)), report(leases[1], Again(500.0)))
        answer = ask(store, _TASKS)
        assert answer.outcome is ClaimOutcome.EMPTY
        assert answer.next_due_seconds is not None
        assert 30 < answer.next_due_seconds <= 50
        store.move_clock(51)
        assert (claim_one(store, _TASKS).attempt, get_statuses(store, _JOB)[1]) == (2, TaskStatus.QUEUED)
        answer = ask(store, _TASKS)
        assert answer.outcome is ClaimOutcome.EMPTY
        assert answer.next_due_seconds is not None
        assert 400 < answer.next_due_seconds <= 450

    def test_the_next_due_time_is_that_of_the_asked_types(self, store: MovableStore) -> None:
        """A worker is not woken for what it cannot do."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, _TASKS), Again(50.0)))
        assert ask(store, control_type(_JOB), "other/1/work").next_due_seconds is None

    def test_a_halted_stage_closes_what_a_claim_meets_of_it(self, store: MovableStore) -> None:
        """A retry that was reported after the halt is skipped, and that may be what empties the stage."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 2, range_count=2)
        first, second = claim_all(store, _TASKS)
        assert complete_one(store, report(first, BAD)).stage_halted
        answer = complete_one(store, report(second, Again()))
        assert claim_all(store, _TASKS) == []
        assert get_statuses(store, job) == [BAD, TaskStatus.SKIPPED]
        assert advance(store, take_advance(store, job, answer)).outcome is AdvanceOutcome.GROUP_FAILED

    def test_a_cancelled_job_hides_nothing_from_a_claim(self, store: MovableStore) -> None:
        """What a claim meets of an ended job is closed on the way to the next range, in the same call."""
        start(store, _JOB, 2, range_count=2)
        leases = claim_all(store, _TASKS)
        cancel(store, _JOB)
        complete(store, *[report(lease, Again()) for lease in leases])
        start(store, new_job("other"), 1)
        assert claim_one(store, _TASKS).job_id == new_job("other").job_id
        assert get_statuses(store, _JOB) == [TaskStatus.CANCELLED] * 2

    def test_many_workers_claim_each_task_once(self, store: MovableStore) -> None:
        """Workers that claim at the same moment share the work: no task goes to two, none to nobody."""
        start(store, _JOB, 96, range_count=4)

        def claim_until_empty(number: int) -> list[Lease]:
            leases: list[Lease] = []
            while True:
                answer = ask(store, _TASKS, worker=f"worker {number}", max_tasks=2, max_leases=2)
                leases += answer.leases
                if answer.outcome is ClaimOutcome.EMPTY:
                    return leases

        leases = [lease for mine in crowd(8, claim_until_empty) for lease in mine]
        claimed = sorted(index for lease in leases for index in range(lease.first, lease.last))
        assert claimed == list(range(96))
        assert len({lease.token for lease in leases}) == len(leases)


class FairnessConformance(StoreScenarios):
    """In which order work is claimed."""

    def test_higher_priority_is_claimed_first(self, store: MovableStore) -> None:
        """Priority goes before age, over all the types of one claim."""
        low, high = new_job("low", priority=-5), new_job("high", priority=5)
        other = new_job("middle", job_type="report", priority=1)
        for job in (low, other, high):
            start(store, job, 1)
        order = [claim_one(store, _TASKS, tasks_type(other)).job_id for _ in range(3)]
        assert order == [high.job_id, other.job_id, low.job_id]

    def test_a_large_job_does_not_starve_a_small_one(self, store: MovableStore) -> None:
        """What is left of a split range queues up behind the others: jobs of one priority take turns."""
        start(store, new_job("large"), 100)
        start(store, new_job("small"), 3)
        leases = _claim_one_by_one(store, 6)
        names = Counter(lease.job_id for lease in leases)
        assert names == {new_job("large").job_id: 3, new_job("small").job_id: 3}

    def test_a_job_that_comes_late_joins_the_present_turn(self, store: MovableStore) -> None:
        """A new stage neither waits for all the turns that went before, nor overtakes those who wait."""
        start(store, new_job("old"), 100)
        _claim_one_by_one(store, 20)
        start(store, new_job("new"), 100)
        leases = _claim_one_by_one(store, 10)
        names = Counter(lease.job_id for lease in leases)
        assert names == {new_job("old").job_id: 5, new_job("new").job_id: 5}

    def test_a_job_of_many_ranges_takes_turns_with_a_job_of_one(self, store: MovableStore) -> None:
        """However many ranges a stage was planned as, and in however many chunks: others get every second or third claim."""
        large, small = new_job("large"), new_job("small")
        create(store, large)
        plan = claim_plan(store, large)
        digest = ""
        for number in range(5):
            part = chunk(plan, 800, first_index=800 * number, digest_before=digest, final=number == 4, range_count=8)
            digest = part.digest
            assert store.add_tasks(part) is PlanOutcome.RECORDED
        for _ in range(30):
            claim_one(store, _TASKS, max_tasks=10)
        start(store, small, 50)
        order = [claim_one(store, _TASKS, max_tasks=10).job_id for _ in range(24)]
        places = [place for place, job_id in enumerate(order) if job_id == small.job_id]
        assert len(places) == 5
        assert max(later - earlier for earlier, later in pairwise(places)) <= 6
        assert places[0] <= 6

    def test_one_call_for_many_leases_is_fair_too(self, store: MovableStore) -> None:
        """A worker with many slots does not fill them all from the oldest job."""
        start(store, new_job("large"), 100)
        start(store, new_job("small"), 2)
        answer = ask(store, _TASKS, max_tasks=1, max_leases=4)
        names = Counter(lease.job_id for lease in answer.leases)
        assert names == {new_job("large").job_id: 2, new_job("small").job_id: 2}

    def test_the_first_claimed_is_the_first_of_the_stage(self, store: MovableStore) -> None:
        """Among equals the oldest range goes first."""
        start(store, _JOB, 6, range_count=3)
        assert [claim_one(store, _TASKS).first for _ in range(3)] == [0, 2, 4]

    def test_a_priority_holds_for_every_stage_of_a_job(self, store: MovableStore) -> None:
        """The priority is the job's: its later stages, its control work and its retries have it as well."""
        low, high = new_job("low"), new_job("high", stages=2, priority=5)
        start(store, high, 1)
        plan = advance(store, run_all(store, high), new_stage(2)).plan
        assert plan is not None
        start(store, low, 1)
        assert store.add_tasks(chunk(plan, 2)) is PlanOutcome.RECORDED
        lease = claim_one(store, _TASKS)
        assert (lease.job_id, lease.stage_number) == (high.job_id, 2)
        complete_one(store, report(lease, OK, Again()))
        retried = claim_one(store, _TASKS)
        assert (retried.job_id, retried.attempt) == (high.job_id, 2)
        answer = complete_one(store, complete_ok(retried))
        create(store, new_job("third", priority=4))
        let_leases_expire(store)
        assert answer.advance is not None
        assert claim_one(store, control_type(high)).kind is WorkKind.ADVANCE
        assert [task.attempt for task in get_tasks(store, high, 2)] == [1, 2]
