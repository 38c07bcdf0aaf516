"""Statements of the store in a transaction that is not its own."""

from collections.abc import Sequence
from typing import Final, LiteralString

import psycopg
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.numeric import Int8Dumper

from stageflow.backends.postgres.arrays import Doubles, DoublesDumper
from stageflow.backends.postgres.pool import Database
from stageflow.errors import InvalidValueError

_SETTINGS: Final[LiteralString] = """
select set_config('search_path', 'pg_catalog', true), set_config('TimeZone', 'UTC', true),
    set_config('enable_seqscan', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('jit', 'off', true)
"""
"""Those of the pool's connections, for the rest of the transaction."""


def run_inside(
    database: Database,
    connection: object,
    statement: LiteralString,
    parameters: Sequence[object],
    *,
    last: bool = False,
) -> list[TupleRow]:
    """Run a statement in another's transaction; its owner commits, or does not.

    Args:
        database: The store's.
        connection: On which the transaction is open.
        statement: One of the store's own.
        parameters: Its parameters.
        last: Nothing but the commit comes after it: the settings of the pool's connections hold from now on.
    """
    if not isinstance(connection, psycopg.Connection):
        got = type(connection).__name__
        msg = f"connection must be a psycopg.Connection, got {got}; pass the one that your transaction is open on"
        raise InvalidValueError(msg)
    cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
    cursor.adapters.register_dumper(int, Int8Dumper)
    cursor.adapters.register_dumper(Doubles, DoublesDumper)
    try:
        if database.clock_offset:
            cursor.execute("select set_config('stageflow.clock_offset', $1, true)", (database.clock_offset,))
        if last:
            cursor.execute(_SETTINGS)
        return cursor.execute(statement, parameters, binary=True if last else None).fetchall()
    except psycopg.Error as error:
        raise database.connector.translated(error) from error
