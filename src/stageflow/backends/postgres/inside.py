"""Statements of the store in a transaction that is not its own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, LiteralString

import psycopg
from psycopg.rows import TupleRow, tuple_row

from stageflow.backends.postgres.failures import translated
from stageflow.backends.postgres.pool import Database, address
from stageflow.backends.postgres.session import adapt, move_clock, settle_rest
from stageflow.errors import InvalidValueError, StageflowError


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
    if connection.closed:
        msg = "the connection is closed; pass the one that your transaction is open on"
        raise InvalidValueError(msg)
    cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
    adapt(cursor)
    # Now, for a connection that broke has no address.
    meaning = database.connector.translated if last else _of_another(connection)
    try:
        if database.clock_offset:
            move_clock(cursor, database.clock_offset, in_transaction=True)
        if last:
            settle_rest(cursor)
        return cursor.execute(statement, parameters, binary=True if last else None).fetchall()
    except psycopg.Error as error:
        raise meaning(error) from error


def _of_another(connection: psycopg.Connection[Any]) -> Callable[[psycopg.Error], StageflowError]:
    """Return how errors on an application's connection are told: with its address, which need not be the store's."""
    info = connection.info
    where = address(info.host, str(info.port), info.dbname, info.user)
    return partial(translated, url=f"{where} (the connection that was passed)", secret=info.password or None)
