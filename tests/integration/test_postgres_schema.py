"""The schema on a server: migrated once however many try, and every drift named."""

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.backends.postgres.migrations import migrations
from stageflow.contracts.schema import SCHEMA_VERSION, SchemaState
from stageflow.errors import SchemaVersionError
from stageflow.testing.conformance.builders import create, new_job
from stageflow.testing.conformance.crowd import crowd


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[PostgresStore]:
    """Give a store on an empty database."""
    store = PostgresStore(postgres_dsn)
    yield store
    store.close()


def _change(dsn: str, statement: LiteralString) -> None:
    with psycopg.connect(dsn, autocommit=True) as operator:
        operator.execute(statement)


def test_eight_migrate_at_once_and_one_does_it(store: PostgresStore, postgres_dsn: str) -> None:
    """Every process may migrate at start; each migration is applied once."""
    stores = [PostgresStore(postgres_dsn) for _ in range(8)]
    reports = crowd(8, lambda number: stores[number].migrate())
    assert {(report.state, report.version) for report in reports} == {(SchemaState.CURRENT, SCHEMA_VERSION)}
    with psycopg.connect(postgres_dsn) as connection:
        applied = connection.execute("select version, name from stageflow.migrations order by version").fetchall()
    assert applied == [(each.version, each.name) for each in migrations()]
    assert store.verify().up_to_date


def test_migrating_again_changes_nothing(store: PostgresStore, postgres_dsn: str) -> None:
    """A second run touches neither rows nor functions."""
    store.migrate()
    create(store, new_job())
    ages = "select oid, xmin from pg_proc where pronamespace = 'stageflow'::regnamespace order by oid"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        before = connection.execute(ages).fetchall()
        store.migrate()
        assert connection.execute(ages).fetchall() == before
    assert len(store.get_jobs([new_job().job_id])) == 1


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("drop index stageflow.ranges_ready", "index ranges_ready is missing"),
        ("create index mine on stageflow.jobs (stage)", "index mine is no part of the schema"),
        ("alter table stageflow.jobs add column note text", "column jobs.note is no part of the schema"),
        ("alter table stageflow.tasks drop column key", "column tasks.key is missing"),
        ("alter table stageflow.stages alter column range_count type bigint", "column stages.range_count is bigint"),
        ("alter table stageflow.jobs alter column metadata drop default", "column jobs.metadata is text not null"),
        ("alter table stageflow.stages drop constraint stages_sound", "constraint stages.stages_sound is missing"),
        ("alter table stageflow.ranges set (fillfactor = 90)", "table ranges is"),
        ("create table stageflow.mine (id integer)", "table mine is no part of the schema"),
        ("drop table stageflow.dead_letters", "table dead_letters is missing"),
        ("drop function stageflow.next_due", "function next_due(p_work_types text[]) is missing"),
        (
            "create function stageflow.mine() returns integer language sql as 'select 1'",
            "function mine() is no part of the schema",
        ),
        (
            "create or replace function stageflow.require_read_committed() returns void language sql as ''",
            "function require_read_committed() was changed",
        ),
        ("update stageflow.migrations set checksum = 'other'", "migration 1 (tables) was changed after it was applied"),
    ],
)
def test_verify_names_the_drift(store: PostgresStore, postgres_dsn: str, statement: LiteralString, sentence: str) -> None:
    """Whatever somebody changed by hand is named, and only that."""
    store.migrate()
    _change(postgres_dsn, statement)
    report = store.verify()
    assert report.state is SchemaState.CURRENT
    assert [drift for drift in report.drifts if drift.startswith(sentence)], report.drifts
    assert store.verify() == report, "verify changed something"


def test_a_disabled_guard_is_refused_at_start_and_restored_by_migrate(store: PostgresStore, postgres_dsn: str) -> None:
    """A function that is not this code's is found by check_schema and put back by migrate."""
    store.migrate()
    _change(postgres_dsn, "create or replace function stageflow.require_read_committed() returns void language sql as ''")
    with pytest.raises(SchemaVersionError, match=r"require_read_committed.*stageflow migrate"):
        store.check_schema()
    store.migrate()
    store.check_schema()
    assert store.verify().up_to_date


def test_a_function_with_other_arguments_or_results_is_replaced(store: PostgresStore, postgres_dsn: str) -> None:
    """An older release's function leaves no overload behind."""
    store.migrate()
    _change(postgres_dsn, "drop function stageflow.next_due; drop function stageflow.clock")
    _change(postgres_dsn, "create function stageflow.next_due(p_types text) returns text language sql as 'select p_types'")
    _change(postgres_dsn, "create function stageflow.clock() returns integer language sql as 'select 1'")
    store.migrate()
    assert store.verify().up_to_date


def test_a_schema_from_the_future_is_refused(store: PostgresStore, postgres_dsn: str) -> None:
    """Old code neither works on nor migrates a newer schema."""
    store.migrate()
    _change(postgres_dsn, "insert into stageflow.migrations (version, name, checksum) values (99, 'later', 'x')")
    for call in (store.check_schema, store.migrate):
        with pytest.raises(SchemaVersionError, match="upgrade stageflow"):
            call()
    assert store.verify().state is SchemaState.NEWER


def test_a_migration_that_was_changed_is_refused(store: PostgresStore, postgres_dsn: str) -> None:
    """A database that another text made is not migrated further on top of it."""
    store.migrate()
    _change(postgres_dsn, "update stageflow.migrations set checksum = 'other'")
    with pytest.raises(SchemaVersionError, match=r"1 \(tables\).* was applied with another text"):
        store.migrate()


def test_a_call_on_an_empty_database_says_to_migrate(store: PostgresStore) -> None:
    """A missing schema is no mystery about a missing function."""
    with pytest.raises(SchemaVersionError, match="stageflow migrate"):
        store.get_jobs([new_job().job_id])


def test_the_applications_own_tables_are_left_alone(store: PostgresStore, postgres_dsn: str) -> None:
    """The store lives in its schema and looks at no other."""
    _change(postgres_dsn, "create table jobs (mine integer)")
    store.migrate()
    create(store, new_job())
    assert store.verify().up_to_date
