"""Statements of the store in a transaction that is not its own."""

from collections.abc import Sequence
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow, tuple_row

from stageflow.backends.postgres.pool import Database
from stageflow.backends.postgres.session import adapt, move_clock, settle_rest
from stageflow.errors import InvalidValueError


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
    adapt(cursor)
    try:
        if database.clock_offset:
            move_clock(cursor, database.clock_offset, in_transaction=True)
        if last:
            settle_rest(cursor)
        return cursor.execute(statement, parameters, binary=True if last else None).fetchall()
    except psycopg.Error as error:
        raise database.connector.translated(error) from error
