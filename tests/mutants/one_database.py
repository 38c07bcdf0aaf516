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


def share_one_database(base: str) -> Callable[[], None]:
    """Let every copy of a migrated database be the same one; returns what drops it in the end.

    Args:
        base: The DSN of a migrated database, of which every new one is a copy: a migration replaces the mutated function only.
    """
    create, drop = PostgresDatabases.create_database, PostgresDatabases.drop_database
    kept: list[tuple[PostgresDatabases, str]] = []

    def create_or_empty(databases: PostgresDatabases, template: str | None = None) -> str:
        if template is None:
            return create(databases, base)
        if kept:
            _empty(kept[0][1])
        else:
            kept.append((databases, create(databases, template)))
        return kept[0][1]

    def keep_or_drop(databases: PostgresDatabases, dsn: str) -> None:
        if not kept or dsn != kept[0][1]:
            drop(databases, dsn)

    def finish() -> None:
        for databases, dsn in kept:
            drop(databases, dsn)

    PostgresDatabases.create_database = create_or_empty  # type: ignore[assignment, method-assign]
    PostgresDatabases.drop_database = keep_or_drop  # type: ignore[assignment, method-assign]
    return finish


def _empty(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        tables = [sql.Identifier("stageflow", name) for (name,) in connection.execute(_TABLES).fetchall()]
        connection.execute(sql.SQL("truncate {} restart identity").format(sql.SQL(", ").join(tables)))
