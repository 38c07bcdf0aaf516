"""Every function that writes and says so refuses a transaction that is not READ COMMITTED."""

from collections.abc import Iterator
from typing import Final

import psycopg
import pytest
from psycopg import sql

from stageflow.backends.postgres import PostgresStore
from stageflow.backends.postgres.migrations import functions
from stageflow.testing.postgres_server import PostgresDatabases

_HEADERS: Final = {name: text.partition("create or replace")[0] for name, text in functions().items()}
_REFUSING: Final = sorted(name for name, header in _HEADERS.items() if "SF001" in header and not name.startswith("require_"))
_ARGUMENTS: Final = """
select array(select format_type(a.type, null) from unnest(p.proargtypes) with ordinality as a (type, place) order by a.place)
from pg_proc p where p.pronamespace = 'stageflow'::regnamespace and p.proname = %s
"""


@pytest.fixture(scope="module")
def connection(postgres_server: PostgresDatabases) -> Iterator[psycopg.Connection]:
    """Give an application's connection to a migrated database."""
    dsn = postgres_server.create_database()
    store = PostgresStore(dsn)
    store.migrate()
    store.close()
    with psycopg.connect(dsn) as connection:
        yield connection
    postgres_server.drop_database(dsn)


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
@pytest.mark.parametrize("name", _REFUSING)
def test_a_function_refuses_a_transaction_that_is_not_read_committed(
    connection: psycopg.Connection, name: str, level: psycopg.IsolationLevel
) -> None:
    """Whatever the function's arguments, it raises before it looks at them."""
    row = connection.execute(_ARGUMENTS, (name,)).fetchone()
    assert row is not None
    connection.rollback()
    connection.isolation_level = level
    nulls = sql.SQL(", ").join(sql.SQL("null::" + kind) for kind in row[0])
    try:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(sql.SQL("select stageflow.{}({})").format(sql.Identifier(name), nulls))
    finally:
        connection.rollback()
        connection.isolation_level = None
    assert caught.value.sqlstate == "SF001"


def test_every_function_whose_header_says_so_is_among_them() -> None:
    """The list is made from the headers; those that call the check say it there."""
    calling = {name for name, text in functions().items() if "perform stageflow.require_read_committed();" in text}
    assert calling == set(_REFUSING)
