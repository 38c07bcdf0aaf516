"""Two store objects on one database, as two processes have them."""

from collections.abc import Iterator
from typing import Final

import pytest

from stageflow.contracts.lease import ClaimOutcome, CompletionOutcome, Lease, TaskCompletionResult
from stageflow.contracts.status import JobStatus
from stageflow.testing.conformance.builders import (
    LEASE_SECONDS,
    MovableStore,
    all_types,
    ask,
    cancel,
    claim_all,
    claim_one,
    complete_ok,
    complete_one,
    create,
    finish,
    new_job,
    recover,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import check_partition, get_job, get_status, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios
from stageflow.testing.conformance.wakeup import settle

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)
_PATIENCE_SECONDS: Final = 20.0


class SharingConformance(StoreScenarios):
    """What one store object does, another sees; for stores whose database can be opened twice."""

    @pytest.fixture
    def rival(self, store: MovableStore) -> Iterator[MovableStore]:
        """Give a second store object on the database of the first, and close it afterwards."""
        msg = f"{type(self).__name__} needs a fixture `rival`; define one that yields a second store on {store.url}"
        raise NotImplementedError(msg)

    def test_both_see_the_same(self, store: MovableStore, rival: MovableStore) -> None:
        """What is committed is seen by all at once."""
        create(store, _JOB)
        assert get_job(rival, _JOB) == get_job(store, _JOB)
        assert rival.create_jobs([_JOB]).created == [False]
        cancel(rival, _JOB)
        assert get_status(store, _JOB) is JobStatus.CANCELLED

    def test_both_share_the_work(self, store: MovableStore, rival: MovableStore) -> None:
        """Processes that claim and report at the same moment do each task once, and one report is the last."""
        start(store, _JOB, 60, range_count=6)

        def work(number: int) -> list[tuple[Lease, TaskCompletionResult]]:
            mine = store if number % 2 else rival
            done: list[tuple[Lease, TaskCompletionResult]] = []
            while True:
                answer = ask(mine, _TASKS, worker=f"worker {number}", max_tasks=2, max_leases=1)
                done += [(lease, complete_one(mine, complete_ok(lease))) for lease in answer.leases]
                if answer.outcome is ClaimOutcome.EMPTY:
                    return done

        done = [entry for mine in crowd(4, work) for entry in mine]
        assert sorted(index for lease, _ in done for index in range(lease.first, lease.last)) == list(range(60))
        assert sum(answer.is_last_task_in_stage for _, answer in done) == 1
        check_partition(rival, _JOB)

    def test_a_lease_is_refused_by_whichever_it_is_reported_to(self, store: MovableStore, rival: MovableStore) -> None:
        """Fencing is the database's, not an object's."""
        start(store, _JOB, 2, range_count=2)
        kept, lost = claim_all(store, _TASKS)
        assert complete_one(rival, complete_ok(kept)).outcome is CompletionOutcome.RECORDED
        rival.move_clock(LEASE_SECONDS + 1)
        assert recover(rival).returned == 1
        before = snapshot(rival, _JOB)
        assert complete_one(store, complete_ok(lost)).outcome is CompletionOutcome.STALE
        assert snapshot(store, _JOB) == before
        assert claim_one(rival, _TASKS).token > lost.token

    def test_a_moved_clock_is_one_objects_own(self, store: MovableStore, rival: MovableStore) -> None:
        """A test that moves its store's clock moves nobody else's."""
        before = rival.now()
        store.move_clock(10_000)
        assert (rival.now() - before).total_seconds() < 1000

    def test_work_of_another_process_wakes_a_waiting_thread(self, store: MovableStore, rival: MovableStore) -> None:
        """A worker learns of jobs that other processes submit."""
        wakeup = store.work_wakeup()
        settle(wakeup)
        create(rival, _JOB)
        assert wakeup.wait(_PATIENCE_SECONDS)
        wakeup.close()

    def test_a_job_that_another_process_ended_wakes_who_waits_for_it(self, store: MovableStore, rival: MovableStore) -> None:
        """Who submitted a job learns of its end, wherever that happens."""
        start(store, _JOB, 1)
        wakeup = store.job_wakeup(_JOB.job_id)
        settle(wakeup)
        assert finish(rival, run_all(rival, _JOB)).job_updated
        assert wakeup.wait(_PATIENCE_SECONDS)
        assert get_job(store, _JOB).is_terminal
        wakeup.close()
        assert ask(store, *all_types(_JOB)).leases == []
