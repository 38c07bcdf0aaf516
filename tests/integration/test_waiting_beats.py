"""A store that nobody could write for longer than a lease: who holds a lease and waits, as recovery does, keeps it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stageflow import JobRegistry, WorkerOptions
from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.lease import HeldLease, Lease
from stageflow.errors import StoreUnreachableError
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.testing.conformance.builders import claim_one, new_job, start, tasks_type
from stageflow.worker.recoverer import Recoverer

JOB = new_job()
LEASE_SECONDS = 30.0


class Watch:
    """A recoverer whose clock the test moves."""

    def __init__(self, store: SqliteStore) -> None:
        self._seconds = 1000.0
        options = WorkerOptions(lease_seconds=LEASE_SECONDS, beat_seconds=10.0)
        self._recoverer = Recoverer(
            Repositories.over(store), Telemetry(), options, lambda: None, JobRegistry(), clock=lambda: self._seconds
        )

    def look(self, *, after_seconds: float = 0.0) -> None:
        """Let time pass, then do a round of recovery."""
        self._seconds += after_seconds
        self._recoverer.recover_once()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file."""
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """Give the store of the worker that holds a lease."""
    store = SqliteStore(path)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def rival(path: Path, store: SqliteStore) -> Iterator[SqliteStore]:
    """Give the store of another process on the same file, which soon gives up waiting for it."""
    del store  # made the file
    rival = SqliteStore(path, busy_seconds=0.01)
    yield rival
    rival.close()


def is_held(store: SqliteStore, lease: Lease) -> bool:
    """Beat, and return whether the lease is still there."""
    held = HeldLease(range_id=lease.range_id, token=lease.token, current_index=lease.first)
    return store.extend_leases("ada", [held], LEASE_SECONDS).held == [lease.token]


def leased(store: SqliteStore) -> Lease:
    """Return a lease on a task that runs."""
    start(store, JOB, 1)
    return claim_one(store, tasks_type(JOB))


def test_a_look_after_a_long_wait_takes_no_lease_whose_beat_waited_as_long(store: SqliteStore) -> None:
    """The round between the two looks waited for a transaction; the heartbeats may not have had their turn yet."""
    lease = leased(store)
    watch = Watch(store)
    watch.look()
    watch.look(after_seconds=LEASE_SECONDS + 10)
    assert is_held(store, lease)


def test_rounds_that_could_not_write_do_not_count(store: SqliteStore, rival: SqliteStore) -> None:
    """While a transaction holds the file, no beat could be written either; the first round after it takes nothing."""
    lease = leased(store)
    watch = Watch(rival)
    watch.look()
    transaction = store.begin_transaction()
    for _ in range(9):
        with pytest.raises(StoreUnreachableError):
            watch.look(after_seconds=7.0)
    transaction.roll_back()
    watch.look(after_seconds=7.0)
    assert is_held(store, lease)


def test_a_lease_that_nobody_prolongs_is_taken_however_slow_the_rounds_are(store: SqliteStore) -> None:
    """Each round that got through counts for something, so that a busy store delays recovery and does not prevent it."""
    lease = leased(store)
    watch = Watch(store)
    watch.look()
    for _ in range(3):
        watch.look(after_seconds=1000.0)
    assert [seen.token for seen in store.list_leases(9)] == [lease.token]
    watch.look(after_seconds=1000.0)
    assert store.list_leases(9) == []
