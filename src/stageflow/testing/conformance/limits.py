"""Limits and pauses: what claims give out of a task type or a job that must not have more at a time."""

from typing import Final

from stageflow.contracts.job import NewJob
from stageflow.contracts.lease import ClaimOutcome, Lease, WorkKind
from stageflow.contracts.limits import TaskTypeLimit, TaskTypeState
from stageflow.contracts.plan import FirstLease
from stageflow.contracts.retention import PurgeBatch
from stageflow.contracts.status import JobStatus, TaskStatus
from stageflow.testing.conformance.builders import (
    TASK_TYPE,
    Again,
    MovableStore,
    ask,
    cancel,
    chunk,
    claim_all,
    claim_one,
    claim_plan,
    complete_ok,
    complete_one,
    create,
    give_back,
    let_leases_expire,
    name_claim,
    new_job,
    plan_and_lease,
    recover,
    report,
    start,
    tasks_type,
)
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)
_OTHER: Final = new_job("other")


def _limited(max_running: int | None = None, max_per_second: float | None = None) -> TaskTypeLimit:
    return TaskTypeLimit(job_type=_JOB.job_type, task_type=TASK_TYPE, max_running=max_running, max_per_second=max_per_second)


def _state(store: MovableStore) -> TaskTypeState:
    (state,) = [each for each in store.list_task_types() if each.task_type == TASK_TYPE]
    return state


def _claim_singly(store: MovableStore, count: int) -> list[Lease]:
    """Ask for one task so many times, and return what was given out."""
    answers = [ask(store, _TASKS, max_tasks=1, max_leases=1) for _ in range(count)]
    return [lease for answer in answers for lease in answer.leases]


def _small(name: str, max_running: int) -> NewJob:
    return new_job(name).model_copy(update={"max_running": max_running})


class RunningLimitConformance(StoreScenarios):
    """How many tasks of a type run at once."""

    def test_no_more_leases_are_given_out_than_the_limit(self, store: MovableStore) -> None:
        """A limit of two gives out two, in one claim or in many, and says when to look again."""
        start(store, _JOB, 10, range_count=5)
        store.limit_task_type(_limited(2))
        assert len(ask(store, _TASKS, max_tasks=1, max_leases=5).leases) == 2
        answer = ask(store, _TASKS, max_tasks=1, max_leases=1)
        assert answer.outcome is ClaimOutcome.EMPTY
        assert answer.next_due_seconds is not None
        assert 0 < answer.next_due_seconds < 1
        assert (_state(store).running, _state(store).ready) == (2, 8)

    def test_a_limit_holds_over_all_jobs_of_the_type(self, store: MovableStore) -> None:
        """It protects what the handlers call, whoever calls it."""
        start(store, _JOB, 2)
        start(store, _OTHER, 2)
        store.limit_task_type(_limited(3))
        assert len(_claim_singly(store, 5)) == 3

    def test_the_end_of_a_lease_frees_its_slot(self, store: MovableStore) -> None:
        """Reported, given back or recovered: a lease that is gone counts no more."""
        start(store, _JOB, 6, range_count=3)
        store.limit_task_type(_limited(1))
        lease = claim_one(store, _TASKS, max_tasks=1)
        assert _claim_singly(store, 1) == []
        complete_one(store, complete_ok(lease))
        lease = claim_one(store, _TASKS, max_tasks=1)
        assert store.return_ranges([give_back(lease)]) == [True]
        claim_one(store, _TASKS, max_tasks=1)
        assert _claim_singly(store, 1) == []
        let_leases_expire(store)
        assert len(_claim_singly(store, 2)) == 1

    def test_a_failed_attempt_frees_its_slot(self, store: MovableStore) -> None:
        """A task that waits for its next attempt holds up no other."""
        start(store, _JOB, 2, range_count=2)
        store.limit_task_type(_limited(1))
        complete_one(store, report(claim_one(store, _TASKS, max_tasks=1), Again(50.0)))
        assert len(_claim_singly(store, 2)) == 1

    def test_a_lease_that_is_partly_reported_keeps_its_slot(self, store: MovableStore) -> None:
        """It runs its tasks one after the other, and is one running task all the time."""
        start(store, _JOB, 4, range_count=2)
        store.limit_task_type(_limited(1))
        lease = claim_one(store, _TASKS, max_tasks=2)
        complete_one(store, complete_ok(lease, 1))
        assert _claim_singly(store, 1) == []

    def test_a_limit_counts_leases_from_before_it(self, store: MovableStore) -> None:
        """What runs when a limit is set or lowered has to end before more is given out."""
        start(store, _JOB, 12, range_count=6)
        before = _claim_singly(store, 4)
        store.limit_task_type(_limited(2))
        for lease in before[:2]:
            assert _claim_singly(store, 1) == []
            complete_one(store, complete_ok(lease))
        assert _claim_singly(store, 1) == []
        complete_one(store, complete_ok(before[2]))
        assert len(_claim_singly(store, 2)) == 1
        store.limit_task_type(_limited(5))
        assert len(_claim_singly(store, 9)) == 3
        store.limit_task_type(_limited(1))
        assert _claim_singly(store, 1) == []

    def test_a_cancelled_job_keeps_its_slots_as_long_as_its_handlers_run(self, store: MovableStore) -> None:
        """A handler that has yet to notice the cancel still calls what the limit protects; when it ends, others go on."""
        start(store, _JOB, 4)
        start(store, _OTHER, 1)
        store.limit_task_type(_limited(1))
        lease = claim_one(store, _TASKS, max_tasks=1)
        cancel(store, _JOB)
        assert _claim_singly(store, 1) == []
        complete_one(store, complete_ok(lease))
        assert [each.job_id for each in _claim_singly(store, 2)] == [_OTHER.job_id]

    def test_the_recovery_of_a_cancelled_job_frees_its_slots(self, store: MovableStore) -> None:
        """Also where the handler's worker died before it noticed."""
        start(store, _JOB, 4)
        start(store, _OTHER, 1)
        store.limit_task_type(_limited(1))
        claim_one(store, _TASKS, max_tasks=1)
        cancel(store, _JOB)
        let_leases_expire(store)
        assert [each.job_id for each in _claim_singly(store, 2)] == [_OTHER.job_id]

    def test_a_task_that_an_operator_takes_from_its_holder_frees_the_slot(self, store: MovableStore) -> None:
        """Ended or requeued by hand: the lease is gone; one that keeps earlier tasks keeps its slot."""
        start(store, _JOB, 6)
        store.limit_task_type(_limited(1))
        for index, status in enumerate((TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.QUEUED)):
            (lease,) = _claim_singly(store, 2)
            assert lease.first == index
            assert store.close_task(_JOB.job_id, 1, lease.first, status, "by hand")
        lease = claim_one(store, _TASKS, max_tasks=2)
        assert store.close_task(_JOB.job_id, 1, lease.first + 1, TaskStatus.FAILED, "by hand")
        assert _claim_singly(store, 1) == []

    def test_other_types_and_planning_are_not_held_up(self, store: MovableStore) -> None:
        """A type at its limit is left out, and what stands behind it is found."""
        start(store, _JOB, 2)
        store.limit_task_type(_limited(1))
        claim_one(store, _TASKS, max_tasks=1)
        create(store, _OTHER)
        assert claim_plan(store, _OTHER).kind is WorkKind.PLAN

    def test_whoever_plans_keeps_to_the_limit_too(self, store: MovableStore) -> None:
        """The lease that goes with a plan's first tasks is one of the leases that are counted."""
        start(store, _JOB, 2)
        store.limit_task_type(_limited(1))
        create(store, _OTHER)
        wish = FirstLease(worker_id="ada", max_tasks=1, lease_seconds=30.0)
        first = claim_one(store, _TASKS, max_tasks=1)
        assert plan_and_lease(store, chunk(claim_plan(store, _OTHER), 2), wish).lease is None
        complete_one(store, complete_ok(first))
        third = new_job("third")
        create(store, third)
        assert plan_and_lease(store, chunk(claim_plan(store, third), 2), wish).lease is not None
        assert _claim_singly(store, 1) == []

    def test_a_message_about_work_at_its_limit_is_held_and_sent_again(self, store: MovableStore) -> None:
        """It is taken off the queue, and announced again when there may be a slot."""
        start(store, _JOB, 4)
        store.limit_task_type(_limited(1))
        lease = claim_one(store, _TASKS, max_tasks=1)
        store.mark_announced([each.range_id for each in store.list_unannounced(older_than_seconds=None, limit=9)])
        named = name_claim(_JOB, WorkKind.TASK, first=1, last=4)
        assert store.claim_named(named).outcome is ClaimOutcome.HELD
        complete_one(store, complete_ok(lease))
        store.move_clock(1)
        recover(store)
        assert len(store.list_unannounced(older_than_seconds=None, limit=9)) == 1
        assert store.claim_named(named).outcome is ClaimOutcome.WORK

    def test_without_a_limit_again_all_is_given_out(self, store: MovableStore) -> None:
        """A limit that is lifted leaves nothing behind."""
        start(store, _JOB, 6, range_count=3)
        store.limit_task_type(_limited(1))
        claim_one(store, _TASKS, max_tasks=1)
        store.limit_task_type(_limited())
        assert sum(lease.last - lease.first for lease in claim_all(store, _TASKS)) == 5


class DeclaredLimitConformance(StoreScenarios):
    """What code declares, and what operators say."""

    def test_an_operators_word_holds_until_it_is_taken_back(self, store: MovableStore) -> None:
        """A worker that starts declares again, and changes nothing that an operator set."""
        store.declare_limits([_limited(5, 2.0)])
        assert (_state(store).max_running, _state(store).max_per_second, _state(store).overridden) == (5, 2.0, False)
        store.limit_task_type(_limited(1))
        store.declare_limits([_limited(7)])
        state = _state(store)
        assert (state.max_running, state.max_per_second, state.declared_max_running, state.overridden) == (1, None, 7, True)
        store.reset_task_type(_JOB.job_type, TASK_TYPE)
        state = _state(store)
        assert (state.max_running, state.max_per_second, state.overridden) == (7, None, False)

    def test_what_is_no_longer_declared_no_longer_holds(self, store: MovableStore) -> None:
        """New code without a limit lifts that of the old code."""
        start(store, _JOB, 3)
        store.declare_limits([_limited(1)])
        assert len(_claim_singly(store, 2)) == 1
        store.declare_limits([_limited()])
        assert len(_claim_singly(store, 2)) == 2

    def test_types_without_limits_leave_no_trace(self, store: MovableStore) -> None:
        """To declare nothing writes nothing, so that claims have nothing to look at."""
        store.declare_limits([_limited()])
        assert store.list_task_types() == []


class TypePauseConformance(StoreScenarios):
    """Pause and resume of a task type."""

    def test_nothing_of_a_paused_type_is_given_out(self, store: MovableStore) -> None:
        """Claims pass it by, what runs may end, and after the resumption it goes on."""
        start(store, _JOB, 4, range_count=2)
        lease = claim_one(store, _TASKS, max_tasks=1)
        store.pause_task_type(_JOB.job_type, TASK_TYPE)
        answer = ask(store, _TASKS)
        assert (answer.outcome, answer.next_due_seconds) == (ClaimOutcome.EMPTY, None)
        assert complete_one(store, complete_ok(lease)).remaining_tasks == 3
        assert _claim_singly(store, 1) == []
        store.resume_task_type(_JOB.job_type, TASK_TYPE)
        assert sum(lease.last - lease.first for lease in claim_all(store, _TASKS)) == 3

    def test_a_second_pause_keeps_the_time_of_the_first(self, store: MovableStore) -> None:
        """People see since when nothing moves."""
        store.pause_task_type(_JOB.job_type, TASK_TYPE)
        since = _state(store).paused_since
        assert since is not None
        store.move_clock(60)
        store.pause_task_type(_JOB.job_type, TASK_TYPE)
        assert _state(store).paused_since == since
        store.resume_task_type(_JOB.job_type, TASK_TYPE)
        assert _state(store).paused_since is None

    def test_a_pause_leaves_limits_as_they_are(self, store: MovableStore) -> None:
        """Both hold, each in its own right."""
        start(store, _JOB, 4)
        store.limit_task_type(_limited(1))
        store.pause_task_type(_JOB.job_type, TASK_TYPE)
        assert _claim_singly(store, 1) == []
        store.resume_task_type(_JOB.job_type, TASK_TYPE)
        assert len(_claim_singly(store, 2)) == 1

    def test_whoever_plans_leases_nothing_of_a_paused_type(self, store: MovableStore) -> None:
        """Planning goes on; its tasks wait."""
        store.pause_task_type(_JOB.job_type, TASK_TYPE)
        create(store, _JOB)
        wish = FirstLease(worker_id="ada", max_tasks=1, lease_seconds=30.0)
        assert plan_and_lease(store, chunk(claim_plan(store, _JOB), 2), wish).lease is None
        store.resume_task_type(_JOB.job_type, TASK_TYPE)

    def test_a_message_about_a_paused_type_is_held_and_sent_again(self, store: MovableStore) -> None:
        """It is taken off the queue, and announced again by the resumption."""
        start(store, _JOB, 2)
        store.pause_task_type(_JOB.job_type, TASK_TYPE)
        store.mark_announced([each.range_id for each in store.list_unannounced(older_than_seconds=None, limit=9)])
        named = name_claim(_JOB, WorkKind.TASK, first=0, last=2)
        assert store.claim_named(named).outcome is ClaimOutcome.HELD
        assert store.list_unannounced(older_than_seconds=None, limit=9) == []
        store.resume_task_type(_JOB.job_type, TASK_TYPE)
        assert len(store.list_unannounced(older_than_seconds=None, limit=9)) == 1
        assert store.claim_named(named).outcome is ClaimOutcome.WORK

    def test_a_resumption_wakes_those_who_wait(self, store: MovableStore) -> None:
        """Workers learn of it at once."""
        start(store, _JOB, 2)
        store.pause_task_type(_JOB.job_type, TASK_TYPE)
        wakeup = store.work_wakeup()
        try:
            store.resume_task_type(_JOB.job_type, TASK_TYPE)
            assert wakeup.wait(10.0)
        finally:
            wakeup.close()


class RateConformance(StoreScenarios):
    """How many tasks of a type start in a second."""

    def test_starts_are_given_out_as_fast_as_the_rate_and_no_faster(self, store: MovableStore) -> None:
        """Two a second: one at once, the next half a second later, as the claim says."""
        start(store, _JOB, 10, range_count=5)
        store.limit_task_type(_limited(max_per_second=2.0))
        assert len(_claim_singly(store, 3)) == 1
        wait = ask(store, _TASKS).next_due_seconds
        assert wait is not None
        assert 0.2 < wait <= 0.5
        store.move_clock(0.5)
        assert len(_claim_singly(store, 3)) == 1

    def test_a_lease_holds_no_more_tasks_than_the_rate_has_granted(self, store: MovableStore) -> None:
        """However many tasks a worker asks for, each start is counted."""
        start(store, _JOB, 3000)
        begun = store.now()
        store.limit_task_type(_limited(max_per_second=1000.0))
        answer = ask(store, _TASKS, max_tasks=500, max_leases=50)
        passed = (store.now() - begun).total_seconds()
        assert max(lease.last - lease.first for lease in answer.leases) <= 10
        first = sum(lease.last - lease.first for lease in answer.leases)
        assert 100 <= first <= 110 + 1000 * passed

    def test_starts_that_nobody_used_do_not_pile_up(self, store: MovableStore) -> None:
        """After an idle hour the rate is what it was."""
        start(store, _JOB, 10, range_count=5)
        store.limit_task_type(_limited(max_per_second=0.1))
        assert len(_claim_singly(store, 2)) == 1
        store.move_clock(3600)
        assert len(_claim_singly(store, 3)) == 1

    def test_every_attempt_is_a_start(self, store: MovableStore) -> None:
        """A task that is tried again takes its place in the rate again."""
        start(store, _JOB, 1)
        store.limit_task_type(_limited(max_per_second=0.1))
        complete_one(store, report(claim_one(store, _TASKS), Again(0.0)))
        assert _claim_singly(store, 1) == []
        store.move_clock(10.5)
        assert len(_claim_singly(store, 1)) == 1

    def test_a_clock_that_was_put_back_stops_nothing(self, store: MovableStore) -> None:
        """The rate goes on from the new time."""
        start(store, _JOB, 4)
        store.limit_task_type(_limited(max_per_second=1.0))
        assert len(_claim_singly(store, 1)) == 1
        store.move_clock(-3600)
        assert _claim_singly(store, 1) == []
        complete_one_later = ask(store, _TASKS).next_due_seconds
        assert complete_one_later is not None
        assert complete_one_later <= 1.0


class JobLimitConformance(StoreScenarios):
    """How many tasks of one job run at once."""

    def test_a_job_runs_no_more_tasks_than_it_was_submitted_with(self, store: MovableStore) -> None:
        """Its limit is its own; other jobs of the type are found behind it."""
        small = _small("small", 2)
        start(store, small, 6, range_count=3)
        start(store, _OTHER, 2)
        leases = _claim_singly(store, 8)
        assert sorted(lease.job_id == small.job_id for lease in leases) == [False, False, True, True]
        assert (store.get_job_limit(small.job_id), store.get_job_limit(_OTHER.job_id)) == (2, None)
        answer = ask(store, _TASKS)
        assert answer.outcome is ClaimOutcome.EMPTY
        assert answer.next_due_seconds is not None
        complete_one(store, complete_ok(next(lease for lease in leases if lease.job_id == small.job_id)))
        assert [lease.job_id for lease in _claim_singly(store, 2)] == [small.job_id]

    def test_many_jobs_at_their_limit_hide_no_other(self, store: MovableStore) -> None:
        """What stands behind them is found, and they go on when their tasks end."""
        small = [_small(f"small {number}", 1) for number in range(20)]
        for job in small:
            start(store, job, 2)
        start(store, _OTHER, 1)
        leases = _claim_singly(store, 30)
        assert len({lease.job_id for lease in leases}) == len(leases) == 21
        for lease in leases:
            complete_one(store, complete_ok(lease))
        store.move_clock(2)
        assert len(_claim_singly(store, 30)) == 20
        for job in small[:5]:
            cancel(store, job)

    def test_a_second_submission_does_not_change_the_limit(self, store: MovableStore) -> None:
        """The job that is there stays as it was asked for."""
        create(store, _small("small", 2))
        create_again = store.create_jobs([_small("small", 7), new_job("small")])
        assert create_again.created == [False, False]
        assert store.get_job_limit(_small("small", 2).job_id) == 2

    def test_the_limit_goes_with_its_job(self, store: MovableStore) -> None:
        """A purge leaves nothing of it."""
        small = _small("small", 2)
        create(store, small)
        cancel(store, small)
        store.move_clock(10)
        batch = PurgeBatch(status=JobStatus.CANCELLED, before=store.now(), after=None, limit=10, max_tasks=1000, dry_run=False)
        assert store.purge_jobs(batch).jobs == 1
        assert store.get_job_limit(small.job_id) is None
