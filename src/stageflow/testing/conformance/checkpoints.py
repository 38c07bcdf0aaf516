"""Checkpoints: one value a task, under its lease, for whoever runs it next, until it ends."""

import pytest

from stageflow.contracts.lease import CompletionOutcome, Lease, RangeReturn
from stageflow.contracts.status import TaskStatus
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    Again,
    MovableStore,
    claim_one,
    complete_one,
    give_back,
    let_leases_expire,
    new_job,
    report,
    start,
    tasks_type,
)
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB = new_job()
_TASKS = tasks_type(_JOB)


def save(store: MovableStore, lease: Lease, index: int, value: str) -> bool:
    """Store a checkpoint under a lease."""
    return store.save_checkpoint(lease.range_id, lease.token, index, value)


def kept(store: MovableStore, lease: Lease) -> list[str | None]:
    """Return what the tasks of a lease keep."""
    return [store.get_checkpoint(lease.stage_id, index, lease.generation) for index in range(lease.first, lease.last)]


class CheckpointConformance(StoreScenarios):
    """What running tasks keep for their next attempt."""

    def test_a_checkpoint_replaces_the_one_before(self, store: MovableStore) -> None:
        """A task keeps the newest value, text of any script in it, and its neighbours keep their own."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        assert kept(store, lease) == [None, None, None]
        assert save(store, lease, 0, '{"at":1}')
        assert save(store, lease, 0, '{"at":"späť 終"}')
        assert save(store, lease, 2, "{}")
        assert kept(store, lease) == ['{"at":"späť 終"}', None, "{}"]

    @pytest.mark.parametrize("status", [OK, BAD, TaskStatus.SKIPPED])
    def test_a_checkpoint_is_deleted_when_its_task_ends(self, store: MovableStore, status: TaskStatus) -> None:
        """However it ends; that of a task which is still to run stays."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        for index in range(3):
            assert save(store, lease, index, "{}")
        assert complete_one(store, report(lease, status)).outcome is CompletionOutcome.RECORDED
        assert kept(store, lease) == [None, "{}", "{}"]
        assert complete_one(store, report(lease, status, status, first=1)).outcome is CompletionOutcome.RECORDED
        assert kept(store, lease) == [None, None, None]

    def test_the_next_attempt_finds_the_checkpoint_of_the_last(self, store: MovableStore) -> None:
        """A retried task keeps it while its siblings end; it goes when the next attempt ends, which stored none of its own."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        for index in range(3):
            assert save(store, lease, index, f"{index}")
        complete_one(store, report(lease, OK, Again(), OK))
        assert kept(store, lease) == [None, "1", None]
        again = claim_one(store, _TASKS)
        assert (again.first, again.attempt, kept(store, again)) == (1, 2, ["1"])
        complete_one(store, report(again, OK))
        assert kept(store, lease) == [None, None, None]

    def test_a_checkpoint_outlives_its_worker(self, store: MovableStore) -> None:
        """Whoever recovers the work goes on from there, also when the range is split; the dead can write no more."""
        start(store, _JOB, 3)
        dead = claim_one(store, _TASKS)
        assert save(store, dead, 1, "one")
        let_leases_expire(store)
        assert not save(store, dead, 1, "too late")
        for index, expected in enumerate([None, "one", None]):
            lease = claim_one(store, _TASKS)
            assert (lease.first, kept(store, lease)) == (index, [expected])
            complete_one(store, report(lease, OK))
            assert kept(store, lease) == [None]

    def test_only_the_holder_of_a_task_can_store_its_checkpoint(self, store: MovableStore) -> None:
        """Not under another token, not for a task that is done, was given back, or is of another range."""
        start(store, _JOB, 4)
        lease = claim_one(store, _TASKS)
        assert not store.save_checkpoint(lease.range_id, lease.token + 1, 0, "{}")
        assert not store.save_checkpoint(lease.range_id + 1000, lease.token, 0, "{}")
        assert not save(store, lease, 4, "{}")
        complete_one(store, report(lease, OK))
        assert not save(store, lease, 0, "{}")
        assert store.return_ranges([RangeReturn(range_id=lease.range_id, token=lease.token, first=3)]) == [True]
        assert not save(store, lease, 3, "{}")
        assert save(store, lease, 2, "{}")
        assert kept(store, lease) == [None, None, "{}", None]

    def test_planning_keeps_no_checkpoint(self, store: MovableStore) -> None:
        """The lease of a planner is none of a task."""
        plan = start(store, _JOB, 2)
        assert not save(store, plan, 0, "{}")

    @pytest.mark.parametrize("status", [TaskStatus.QUEUED, TaskStatus.FAILED])
    def test_an_operator_who_ends_a_task_ends_its_checkpoint(self, store: MovableStore, status: TaskStatus) -> None:
        """Requeued it is kept for the next attempt; ended it is gone."""
        start(store, _JOB, 2)
        lease = claim_one(store, _TASKS)
        assert save(store, lease, 1, "one")
        assert store.close_task(lease.job_id, 1, 1, status, "by hand")
        assert kept(store, lease) == [None, "one" if status is TaskStatus.QUEUED else None]

    def test_a_task_that_kills_its_workers_leaves_no_checkpoint(self, store: MovableStore) -> None:
        """What is failed for its workers' deaths has ended."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        assert save(store, lease, 0, "one")
        assert let_leases_expire(store, death_budget=1).quarantined == 1
        assert kept(store, lease) == [None]

    def test_a_returned_lease_keeps_the_checkpoints_of_its_tasks(self, store: MovableStore) -> None:
        """A task that goes back whole is found where it was."""
        start(store, _JOB, 2)
        lease = claim_one(store, _TASKS)
        assert save(store, lease, 0, "zero")
        assert store.return_ranges([give_back(lease)]) == [True]
        assert kept(store, claim_one(store, _TASKS)) == ["zero", None]

    def test_a_part_of_a_returned_lease_ends_the_checkpoints_of_its_tasks(self, store: MovableStore) -> None:
        """Though the part is a range of its own, which stored none."""
        start(store, _JOB, 2)
        lease = claim_one(store, _TASKS)
        assert save(store, lease, 0, "zero")
        assert save(store, lease, 1, "one")
        assert store.return_ranges([give_back(lease)]) == [True]
        for left in ([None, "one"], [None, None]):
            complete_one(store, report(claim_one(store, _TASKS, max_tasks=1), OK))
            assert kept(store, lease) == left

    def test_checkpoints_of_another_generation_are_not_seen(self, store: MovableStore) -> None:
        """A task that is repaired begins anew."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        assert save(store, lease, 0, "one")
        assert store.get_checkpoint(lease.stage_id, 0, lease.generation + 1) is None
