"""The clock, and wakeups: threads that wait are told when there is something new."""

from datetime import UTC
from threading import Event, Thread
from typing import Final

from stageflow.ports import Wakeup
from stageflow.testing.conformance.builders import (
    Again,
    MovableStore,
    advance,
    cancel,
    claim_all,
    claim_one,
    complete_one,
    create,
    finish,
    give_back,
    new_job,
    new_stage,
    pause,
    plan_all,
    recover,
    report,
    resume,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)
_PATIENCE_SECONDS: Final = 20.0
"""Far more than a wakeup takes; a wakeup that never fires fails the scenario after it."""

_MANY_WAKEUPS: Final = 1000


def settle(wakeup: Wakeup) -> None:
    """Use up what the wakeup has been told already."""
    for _ in range(_MANY_WAKEUPS):
        if not wakeup.wait(0.0):
            return
    msg = f"the wakeup fired {_MANY_WAKEUPS} times in a row although nothing is new"
    raise AssertionError(msg)


class ClockConformance(StoreScenarios):
    """The store's time."""

    def test_the_stores_time_is_aware_and_moves_forward(self, store: MovableStore) -> None:
        """One clock decides what is due: it is in UTC, runs, and can be moved in tests."""
        first = store.now()
        assert first.tzinfo is UTC
        store.move_clock(100)
        store.move_clock(0.5)
        second = store.now()
        assert 100.5 <= (second - first).total_seconds() < 160

    def test_the_address_of_a_store_has_no_secret(self, store: MovableStore) -> None:
        """An address can be logged."""
        assert store.url
        assert "secret" not in store.url


class WakeupConformance(StoreScenarios):
    """Waiting for something new."""

    def test_new_work_wakes_a_waiting_thread(self, store: MovableStore) -> None:
        """A worker that waits learns of a job as soon as it is there."""
        wakeup = store.work_wakeup()
        settle(wakeup)
        create(store, _JOB)
        assert wakeup.wait(_PATIENCE_SECONDS)
        wakeup.close()

    def test_a_thread_that_waits_already_is_woken(self, store: MovableStore) -> None:
        """It does not matter whether the work or the wait came first."""
        wakeup = store.work_wakeup()
        settle(wakeup)
        woken, waiting = Event(), Event()

        def wait() -> None:
            waiting.set()
            if wakeup.wait(_PATIENCE_SECONDS):
                woken.set()

        thread = Thread(target=wait)
        thread.start()
        assert waiting.wait(_PATIENCE_SECONDS)
        create(store, _JOB)
        thread.join(_PATIENCE_SECONDS * 2)
        assert woken.is_set()
        wakeup.close()

    def test_planned_tasks_wake_a_waiting_thread(self, store: MovableStore) -> None:
        """Workers that only run tasks are told when there are some."""
        create(store, _JOB)
        wakeup = store.work_wakeup()
        settle(wakeup)
        plan_all(store, _JOB, 3)
        assert wakeup.wait(_PATIENCE_SECONDS)
        wakeup.close()

    def test_work_that_becomes_ready_again_wakes_a_waiting_thread(self, store: MovableStore) -> None:
        """Returned, due and resumed work is as good as new."""
        start(store, _JOB, 2, range_count=2)
        wakeup = store.work_wakeup()
        first, second = claim_all(store, _TASKS)
        settle(wakeup)
        store.return_ranges([give_back(first)])
        assert wakeup.wait(_PATIENCE_SECONDS)
        claim_one(store, _TASKS)
        complete_one(store, report(second, Again(20.0)))
        settle(wakeup)
        store.move_clock(21)
        recover(store)
        assert wakeup.wait(_PATIENCE_SECONDS)
        pause(store, _JOB)
        claim_all(store, _TASKS)
        settle(wakeup)
        resume(store, _JOB)
        assert wakeup.wait(_PATIENCE_SECONDS)
        wakeup.close()

    def test_nothing_new_is_told_after_the_time(self, store: MovableStore) -> None:
        """A wait ends with its timeout."""
        wakeup = store.work_wakeup()
        settle(wakeup)
        assert not wakeup.wait(0.01)
        wakeup.close()

    def test_an_interrupted_wait_returns_at_once(self, store: MovableStore) -> None:
        """A worker that is to stop does not sleep on; an interrupt before the wait counts as well."""
        for wakeup in (store.work_wakeup(), store.job_wakeup(_JOB.job_id)):
            thread = Thread(target=wakeup.wait, args=(600.0,))
            thread.start()
            wakeup.interrupt()
            thread.join(_PATIENCE_SECONDS)
            assert not thread.is_alive()
            wakeup.close()

    def test_the_end_of_a_job_wakes_who_waits_for_it(self, store: MovableStore) -> None:
        """Completed, failed or cancelled: who waits for a job's end learns of it."""
        completed, cancelled = new_job("completed"), new_job("cancelled")
        start(store, completed, 1)
        create(store, cancelled)
        for job in (completed, cancelled):
            wakeup = store.job_wakeup(job.job_id)
            settle(wakeup)
            if job is completed:
                finish(store, run_all(store, job))
            else:
                cancel(store, job)
            assert wakeup.wait(_PATIENCE_SECONDS)
            wakeup.close()

    def test_a_closed_wakeup_leaves_the_others_alone(self, store: MovableStore) -> None:
        """Each waiter has its own wakeup, and one event wakes them all."""
        first, second, third = (store.work_wakeup() for _ in range(3))
        for wakeup in (first, second, third):
            settle(wakeup)
        first.close()
        create(store, _JOB)
        assert second.wait(_PATIENCE_SECONDS)
        assert third.wait(_PATIENCE_SECONDS)
        second.close()
        third.close()

    def test_a_next_stage_of_a_group_wakes_a_waiting_thread(self, store: MovableStore) -> None:
        """Stages that are opened beside the one that the advancer plans are for others to plan."""
        job = new_job(stages=3)
        start(store, job, 1)
        lease = run_all(store, job)
        wakeup = store.work_wakeup()
        settle(wakeup)
        advance(store, lease, new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3)))
        assert wakeup.wait(_PATIENCE_SECONDS)
        wakeup.close()
