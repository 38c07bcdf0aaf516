"""The suite of the Store port, run for PostgreSQL."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.lease import ClaimOutcome
from stageflow.testing.conformance.builders import all_types, ask, claim_one, let_leases_expire, new_job, start, tasks_type
from stageflow.testing.conformance.store import (
    ConnectionConformance,
    MovableStore,
    SchemaConformance,
    SharingConformance,
    StoreConformance,
)

_OVERWRITE = "update stageflow.stages set stored_result = %s where job_id = %s and stage_number = %s and run = 1"
_LOCK = "select range_id from stageflow.ranges for update"


class TestPostgres(StoreConformance, ConnectionConformance, SharingConformance):
    """The store on a real server."""

    @pytest.fixture
    def store(self, migrated_dsn: str) -> Iterator[MovableStore]:
        """Give a store on a migrated database of its own."""
        self._dsn = migrated_dsn
        store = PostgresStore(migrated_dsn)
        yield store
        store.close()

    @pytest.fixture
    def rival(self, store: MovableStore, migrated_dsn: str) -> Iterator[MovableStore]:
        """Give a second store on the database."""
        assert store.url
        rival = PostgresStore(migrated_dsn)
        yield rival
        rival.close()

    def application_connection(self, store: MovableStore) -> closing[psycopg.Connection]:
        """Open a connection as an application would."""
        assert isinstance(store, PostgresStore)
        return closing(psycopg.connect(self._dsn))

    def corrupt_stage_result(self, store: MovableStore, job_id: str, stage_number: int, text: str) -> None:
        """Overwrite the stored text, past the store."""
        assert isinstance(store, PostgresStore)
        with psycopg.connect(self._dsn) as connection:
            assert connection.execute(_OVERWRITE, (text, job_id, stage_number)).rowcount == 1

    def test_a_claim_that_meets_only_locked_ranges_is_busy(self, store: MovableStore) -> None:
        """Ready work in a rival's hands is not "nothing": the worker asks again instead of sleeping."""
        start(store, new_job(), 2)
        with psycopg.connect(self._dsn) as rival:
            rival.execute(_LOCK)
            answer = ask(store, *all_types(new_job()))
            assert (answer.outcome, answer.leases) == (ClaimOutcome.BUSY, [])
            rival.rollback()
        assert ask(store, *all_types(new_job())).outcome is ClaimOutcome.WORK

    def test_recovery_passes_over_what_a_rival_has_locked(self, store: MovableStore) -> None:
        """Recovery waits for nobody; what it could not touch is recovered by its next round."""
        start(store, new_job(), 2, range_count=2)
        claim_one(store, tasks_type(new_job()))
        with psycopg.connect(self._dsn) as rival:
            rival.execute(_LOCK)
            assert let_leases_expire(store).returned == 0
            rival.rollback()
        assert let_leases_expire(store).returned == 1


class TestPostgresSchema(SchemaConformance):
    """The schema on a real server."""

    @pytest.fixture
    def unmigrated_store(self, postgres_dsn: str) -> Iterator[MovableStore]:
        """Give a store on an empty database."""
        store = PostgresStore(postgres_dsn)
        yield store
        store.close()
