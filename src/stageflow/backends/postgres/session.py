"""The settings under which the store's statements run, and how they are had where a pooler owns the session."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8Dumper

from stageflow.backends.postgres.arrays import Doubles, DoublesDumper
from stageflow.backends.postgres.times import TIMESTAMPTZ_OID, StoredTimeLoader

Connection = psycopg.Connection[Any]

# The first statements of a session run with the search path of the role or database, so they name the schema of all they call.
SERVER: Final[LiteralString] = "select pg_catalog.pg_is_in_recovery(), pg_catalog.pg_backend_pid()"

_LOCAL: Final[LiteralString] = """
select pg_catalog.set_config('search_path', 'pg_catalog', $1), pg_catalog.set_config('TimeZone', 'UTC', $1),
    pg_catalog.set_config('enable_seqscan', 'off', $1), pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', $1),
    pg_catalog.set_config('jit', 'off', $1)"""
"""Sequential scans and fresh plans would win on small tables and lose on large ones (a session warmed on small tables kept its
plan: 29 ms a completion where 0.3 do)."""

# No timeouts: those that a database has for its web requests would cut a migration, or a claim behind a lock, again and again;
# and a session that listens is idle.
_OWN: Final[LiteralString] = (
    _LOCAL
    + """,
    pg_catalog.set_config('client_encoding', 'UTF8', $1), pg_catalog.set_config('application_name', 'stageflow', $1),
    pg_catalog.set_config('default_transaction_isolation', 'read committed', $1),
    pg_catalog.set_config('statement_timeout', '0', $1), pg_catalog.set_config('lock_timeout', '0', $1),
    pg_catalog.set_config('idle_session_timeout', '0', $1)"""
)

_CLOCK: Final[LiteralString] = "select pg_catalog.set_config('stageflow.clock_offset', $1, $2)"


def adapt(connection: Connection | psycopg.Cursor[Any]) -> None:
    """Send numbers as the statements expect them, and let no time spoil an answer.

    One size for all integers: psycopg's own choice by value would make a new prepared statement for each size.
    """
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(Doubles, DoublesDumper)
    connection.adapters.register_loader(TIMESTAMPTZ_OID, StoredTimeLoader)


def is_shared(connection: Connection) -> bool:
    """Return whether a pooler may run the next transaction in another session of the server.

    There nothing that belongs to a session can be used: no prepared statement, no setting, no LISTEN. The mark is what psycopg
    has for it, so that a connection factory can set it too.
    """
    return connection.prepare_threshold is None


def take_session(connection: Connection, backend_pid: int) -> None:
    """Make a new connection fit for the store's statements: READ COMMITTED, in UTC, every name to be qualified.

    Args:
        connection: In autocommit.
        backend_pid: Of the process that answered the first statement. A server tells a client the same number at the start; a
            pooler tells one of its own.
    """
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    if backend_pid != connection.info.backend_pid:
        connection.prepare_threshold = None
    if not is_shared(connection):
        psycopg.RawCursor(connection).execute(_OWN, (False,))


@contextmanager
def settled(connection: Connection, clock_offset: str = "") -> Iterator[None]:
    """Hold a transaction with the store's settings, which end with it, where the session is shared; else do nothing."""
    if not is_shared(connection):
        yield
        return
    with connection.transaction():
        cursor = psycopg.RawCursor(connection)
        cursor.execute(_OWN, (True,))
        if clock_offset:
            cursor.execute(_CLOCK, (clock_offset, True))
        yield


def settle_rest(cursor: psycopg.RawCursor[TupleRow]) -> None:
    """Give the rest of another's transaction the settings by which the store's statements are planned."""
    cursor.execute(_LOCAL, (True,))


def move_clock(cursor: psycopg.RawCursor[Any], clock_offset: str, *, in_transaction: bool) -> None:
    """Let the store's time be moved, for the rest of the transaction or of the session."""
    cursor.execute(_CLOCK, (clock_offset, in_transaction))


def rows_of(connection: Connection, statement: LiteralString, parameters: Sequence[object]) -> list[TupleRow]:
    """Execute one of the store's statements and return its rows."""
    cursor = psycopg.RawCursor(connection)
    cursor.execute(statement, parameters, prepare=True, binary=True)
    result = cursor.pgresult
    # Not cursor.description: it makes an object of every column, a fifth of a worker's time on small jobs.
    return cursor.fetchall() if result is not None and result.status == psycopg.pq.ExecStatus.TUPLES_OK else []
