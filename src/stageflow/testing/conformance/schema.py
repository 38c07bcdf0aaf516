"""The schema: made once, by whoever comes first, compared with what it should be, and never lost."""

from collections.abc import Iterator

import pytest

from stageflow.contracts.schema import SCHEMA_VERSION, SchemaState
from stageflow.errors import SchemaVersionError
from stageflow.testing.conformance.builders import MovableStore, create, new_job, run_all, start
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import drain, get_status


class SchemaConformance:
    """Migrating and verifying; a subclass gives a store whose database is empty."""

    @pytest.fixture
    def unmigrated_store(self) -> Iterator[MovableStore]:
        """Give a store on an empty database that nobody else uses, and close it afterwards."""
        msg = f"{type(self).__name__} needs a fixture `unmigrated_store`; define one that yields a store on an empty database"
        raise NotImplementedError(msg)

    def test_a_store_without_schema_says_what_to_do(self, unmigrated_store: MovableStore) -> None:
        """Nobody has to guess why nothing works."""
        with pytest.raises(SchemaVersionError, match=r"stageflow migrate|`migrate\(\)`"):
            unmigrated_store.check_schema()

    def test_a_store_without_schema_is_verified_as_missing(self, unmigrated_store: MovableStore) -> None:
        """Verifying changes nothing, least of all does it make a schema."""
        for _ in range(2):
            report = unmigrated_store.verify()
            assert (report.state, report.version, report.up_to_date) == (SchemaState.MISSING, 0, False)

    def test_a_migrated_store_is_up_to_date(self, unmigrated_store: MovableStore) -> None:
        """After a migration there is nothing to complain of, and the store works."""
        report = unmigrated_store.migrate()
        assert (report.state, report.version, report.drifts) == (SchemaState.CURRENT, SCHEMA_VERSION, [])
        assert unmigrated_store.verify() == report
        unmigrated_store.check_schema()
        start(unmigrated_store, new_job(), 2)
        run_all(unmigrated_store, new_job())
        drain(unmigrated_store, new_job())

    def test_a_second_migration_changes_nothing(self, unmigrated_store: MovableStore) -> None:
        """Migrating again keeps every row."""
        first = unmigrated_store.migrate()
        create(unmigrated_store, new_job())
        assert unmigrated_store.migrate() == first
        assert get_status(unmigrated_store, new_job()).value == "queued"
        assert unmigrated_store.verify().up_to_date

    def test_many_can_migrate_at_once(self, unmigrated_store: MovableStore) -> None:
        """Processes that start together each see the schema made, once."""
        reports = crowd(4, lambda _: unmigrated_store.migrate())
        assert all(report.up_to_date for report in reports)
        assert unmigrated_store.verify().up_to_date
