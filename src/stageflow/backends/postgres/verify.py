"""Drift: what a schema is, compared with what the migrations make."""

from secrets import token_hex
from typing import Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from stageflow.backends.postgres.migrations import BOOKKEEPING, SCHEMA, UNRECORDED, Applied, functions, migrations
from stageflow.backends.postgres.session import Connection
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.schema import SchemaState

Catalog = dict[tuple[str, str], str]
"""Definition by sort and name."""


UNCOMPARED: Final = (
    "the tables, because this role may not make a schema beside them or writes nothing at all; ask the owner to run "
    "`stageflow verify`"
)


def may_compare(connection: Connection) -> bool:
    """Return whether this role may build the reference with which :func:`find_drifts` compares."""
    return psycopg.RawCursor(connection, row_factory=tuple_row).execute(query("may_build_reference")).fetchone() == (True,)


def recorded_drifts(applied: Applied) -> list[str]:
    """Return one sentence for each difference that the schema's own records show, without a reference."""
    if applied.state is SchemaState.MISSING:
        return [UNRECORDED] if applied.unrecorded else []
    stale = applied.stale_functions if applied.state is SchemaState.CURRENT else []
    functions_changed = [f"function {name} was changed; run `stageflow migrate` to restore it" for name in stale]
    return _changed_migrations(applied) + functions_changed


def find_drifts(connection: Connection, applied: Applied) -> list[str]:
    """Return one sentence for each difference between a schema and what its migrations make; changes nothing.

    The reference is built beside it, in a schema of its own, in a transaction that is rolled back.
    """
    if applied.state is SchemaState.MISSING:
        return [UNRECORDED] if applied.unrecorded else []
    drifts = _changed_migrations(applied)
    actual = _catalog(connection, SCHEMA)
    with_functions = applied.state is SchemaState.CURRENT
    expected = _reference(connection, applied.version, with_functions=with_functions)
    if not with_functions:
        actual = {key: text for key, text in actual.items() if key[0] != "function"}
    return drifts + compared(expected, actual)


def _changed_migrations(applied: Applied) -> list[str]:
    return [
        f"migration {item.version} ({item.name}) was changed after it was applied; install the release that it came with"
        for item in applied.changed_migrations()
    ]


def compared(expected: Catalog, actual: Catalog) -> list[str]:
    """Return one sentence for each difference between two catalogs, in order of sort and name."""
    sentences = []
    for sort, name in sorted(expected.keys() | actual.keys()):
        wanted, found = expected.get((sort, name)), actual.get((sort, name))
        if found is None:
            sentences.append(f"{sort} {name} is missing; it should be: {_short(wanted)}")
        elif wanted is None:
            sentences.append(f"{sort} {name} is no part of the schema; drop it, or move it to a schema of your own")
        elif wanted != found and sort == "function":
            sentences.append(f"function {name} was changed; run `stageflow migrate` to restore it")
        elif wanted != found:
            sentences.append(f"{sort} {name} is {_short(found)} but should be {_short(wanted)}")
    return sentences


def _short(text: str | None) -> str:
    return " ".join((text or "").split())[:200]


def _catalog(connection: Connection, schema: str) -> Catalog:
    cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
    rows = cursor.execute(query("list_catalog"), (schema,)).fetchall()
    return {(sort, name): definition for sort, name, definition in rows}


def _reference(connection: Connection, version: int, *, with_functions: bool) -> Catalog:
    scratch = f"{SCHEMA}_{token_hex(8)}"
    texts = [BOOKKEEPING, *(item.text for item in migrations() if item.version <= version)]
    texts += functions().values() if with_functions else []
    with connection.transaction(force_rollback=True):
        connection.execute("set local check_function_bodies = off")
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(scratch)))
        for text in texts:
            connection.execute(_in_schema(text, scratch))
        return _catalog(connection, scratch)


def _in_schema(text: LiteralString, schema: str) -> LiteralString:
    """Return a text of this package with the schema's name replaced by another of our own making."""
    return text.replace(f"{SCHEMA}.", f"{schema}.")
