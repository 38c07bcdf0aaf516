"""The store that is measured: the one that is given, or a throwaway PostgreSQL with full durability."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from benchmarks.measurement import say
from stageflow.contracts.base import JsonObject
from stageflow.testing.postgres_server import PostgresServer

DURABLE: Final = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "1GB"}
NO_STORE: Final = "none"
"""In place of an address, where no store takes part."""
_TOLD: Final = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "autovacuum_naptime")


@contextmanager
def given_or_throwaway(store: str | None, settings: Mapping[str, str]) -> Iterator[str]:
    """Give the store's address; where none is given, that of a new PostgreSQL, gone after the block."""
    if store is not None:
        yield store
        return
    with PostgresServer(durable=True, settings=DURABLE | dict(settings)) as server:
        say(f"a throwaway PostgreSQL {server.version} runs, with fsync and synchronous_commit on")
        yield server.create_database()


def is_postgres(store: str) -> bool:
    """Say whether a store's address is one of PostgreSQL."""
    return store.startswith(("postgresql://", "postgres://"))


def server_version(store: str) -> dict[str, str]:
    """Return the server's version for a measurement; nothing for SQLite, which has no server."""
    if not is_postgres(store):
        return {}
    with psycopg.connect(store) as connection:
        return {"postgres": ask(connection, "server_version")}


def server_settings(store: str) -> JsonObject:
    """Return the server's settings on which figures hang; nothing for SQLite."""
    if not is_postgres(store):
        return {}
    with psycopg.connect(store) as connection:
        return {name: ask(connection, name) for name in _TOLD}


def ask(connection: psycopg.Connection[Any], setting: str) -> str:
    """Return a setting of the server, as this session sees it."""
    row = connection.execute(sql.SQL("select current_setting({})").format(sql.Literal(setting))).fetchone()
    return str(row[0]) if row is not None else ""


def settle(store: str) -> None:
    """Write out what the last round left, where we may, so that its checkpoint does not fall into the next."""
    if not is_postgres(store):
        return
    with psycopg.connect(store, autocommit=True) as connection:
        row = connection.execute("select pg_has_role('pg_checkpoint', 'usage')").fetchone()
        if row == (True,):
            connection.execute("checkpoint")
