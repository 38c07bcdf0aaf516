"""The suite of the Store port, run for SQLite: a file, and memory."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.status import StageStatus
from stageflow.testing.conformance.builders import claim_one, finish, new_job, start, tasks_type
from stageflow.testing.conformance.looking import snapshot
from stageflow.testing.conformance.store import (
    ConnectionConformance,
    MovableStore,
    SchemaConformance,
    SharingConformance,
    StoreConformance,
)

_OVERWRITE = "update stageflow_stages set stored_result = ? where job_id = ? and stage_number = ? and run = 1"


class TestSqliteFile(StoreConformance, ConnectionConformance, SharingConformance):
    """The store on a file."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Name the file."""
        return tmp_path / "stageflow.db"

    @pytest.fixture
    def store(self, path: Path) -> Iterator[MovableStore]:
        """Give a migrated store on a new file."""
        store = SqliteStore(path)
        store.migrate()
        yield store
        store.close()

    @pytest.fixture
    def rival(self, store: MovableStore, path: Path) -> Iterator[MovableStore]:
        """Give a second store on the file."""
        assert store.url.endswith(path.name)
        rival = SqliteStore(path)
        yield rival
        rival.close()

    def application_connection(self, store: MovableStore) -> closing[sqlite3.Connection]:
        """Open the file as an application would."""
        connection = sqlite3.connect(store.url.removeprefix("sqlite:///"))
        connection.execute("begin immediate")
        return closing(connection)

    def corrupt_stage_result(self, store: MovableStore, job_id: str, stage_number: int, text: str) -> None:
        """Overwrite the stored text, past the store."""
        with closing(sqlite3.connect(store.url.removeprefix("sqlite:///"))) as connection, connection:
            assert connection.execute(_OVERWRITE, (text, job_id, stage_number)).rowcount == 1


class TestSqliteMemory(StoreConformance):
    """The store in memory, as tests of applications use it."""

    @pytest.fixture
    def store(self) -> Iterator[MovableStore]:
        """Give a migrated store in memory."""
        store = SqliteStore(":memory:")
        store.migrate()
        yield store
        store.close()

    def corrupt_stage_result(self, store: MovableStore, job_id: str, stage_number: int, text: str) -> None:
        """Overwrite the stored text over the only connection that sees the memory."""
        assert isinstance(store, SqliteStore)
        with store._database.transaction() as transaction:  # noqa: SLF001  nothing else reaches the memory
            assert transaction.run(_OVERWRITE, (text, job_id, stage_number)) == 1

    def test_a_lease_of_tasks_completes_no_job(self, store: MovableStore) -> None:
        """The end of a job is the advancement's; whoever only runs a task of it changes nothing by asking."""
        job = new_job()
        start(store, job, 1)
        task = claim_one(store, tasks_type(job))
        before = snapshot(store, job)
        assert not finish(store, task, status=StageStatus.COMPLETED).job_updated
        assert snapshot(store, job) == before


class TestSqliteFileSchema(SchemaConformance):
    """The schema of a file."""

    @pytest.fixture
    def unmigrated_store(self, tmp_path: Path) -> Iterator[MovableStore]:
        """Give a store on a file that is not there yet."""
        store = SqliteStore(tmp_path / "stageflow.db")
        yield store
        store.close()


class TestSqliteMemorySchema(SchemaConformance):
    """The schema in memory."""

    @pytest.fixture
    def unmigrated_store(self) -> Iterator[MovableStore]:
        """Give a store in empty memory."""
        store = SqliteStore(":memory:")
        yield store
        store.close()
