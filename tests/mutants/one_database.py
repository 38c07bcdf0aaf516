"""One database for all tests of a mutant: emptied between them, which is far quicker than to copy one for each."""

from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import sql

from stageflow.testing.postgres_server import PostgresDatabases

_TABLES: Final = (
    "select table_name from information_schema.tables where table_schema = 'stageflow'"
    " and table_name not in ('migrations', 'functions')"
)
_RESTART: Final = (
    "select setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) from pg_sequences"
    " where schemaname = 'stageflow' and last_value is not null"
)


def share_one_database(base: str) -> Callable[[], None]:
    """Let every copy of a migrated database be the same one; returns what drops it in the end.

    Args:
        base: The DSN of a migrated database, of which every new one is a copy: a migration replaces the mutated function only.
    """
    create, drop = PostgresDatabases.create_database, PostgresDatabases.drop_database
    kept: list[tuple[PostgresDatabases, str, _Broom]] = []

    def create_or_empty(databases: PostgresDatabases, template: str | None = None) -> str:
        if template is None:
            return create(databases, base)
        if kept:
            kept[0][2].sweep()
        else:
            dsn = create(databases, template)
            kept.append((databases, dsn, _Broom(dsn)))
        return kept[0][1]

    def keep_or_drop(databases: PostgresDatabases, dsn: str) -> None:
        if not kept or dsn != kept[0][1]:
            drop(databases, dsn)

    def finish() -> None:
        for databases, dsn, _ in kept:
            drop(databases, dsn)

    PostgresDatabases.create_database = create_or_empty  # type: ignore[assignment, method-assign]
    PostgresDatabases.drop_database = keep_or_drop  # type: ignore[assignment, method-assign]
    return finish


class _Broom:
    """Deletes what a test left, on a connection that stays: a truncation, or a new connection, takes ten times as long."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn)
        tables = [sql.Identifier("stageflow", name) for (name,) in self._connection.execute(_TABLES).fetchall()]
        self._deletions = sql.SQL("; ").join(sql.SQL("delete from {}").format(table) for table in tables)
        self._connection.commit()

    def sweep(self) -> None:
        """Leave the tables empty, and every number to be given from 1 again."""
        with self._connection.transaction():
            self._connection.execute(self._deletions)
            self._connection.execute(_RESTART)
