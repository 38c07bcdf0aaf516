"""Databases whose settings were made for somebody else."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from stageflow.testing.pgbouncer_server import PgBouncer

_END_OTHERS = (
    "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
)
Alter = Callable[[str, str], None]


@pytest.fixture
def alter(postgres_dsn: str) -> Alter:
    """Give a function that sets a default of the test's own database, as for all that connect from now on."""
    database = sql.Identifier(str(conninfo_to_dict(postgres_dsn)["dbname"]))

    def change(name: str, value: str) -> None:
        statement = sql.SQL("alter database {} set {} = " + value).format(database, sql.Identifier(name))
        with psycopg.connect(postgres_dsn, autocommit=True) as operator:
            operator.execute("set default_transaction_read_only = off")
            operator.execute(statement)
            operator.execute(_END_OTHERS)  # a pooler would go on with sessions of before

    return change


@pytest.fixture(params=["direct", "pooled"])
def address(request: pytest.FixtureRequest, postgres_dsn: str) -> Iterator[str]:
    """Give the way to the database: to the server itself, and through a pooler in transaction mode."""
    if request.param == "direct":
        yield postgres_dsn
    else:
        pooler: PgBouncer = request.getfixturevalue("pgbouncer")
        yield pooler.dsn
