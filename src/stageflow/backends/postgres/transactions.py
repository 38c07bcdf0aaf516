"""Transactions of handlers, each on a connection of its own."""

import os
import secrets
import socket
from contextlib import suppress
from typing import Final

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.rows import tuple_row

from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.pool import Database
from stageflow.backends.postgres.session import Connection
from stageflow.errors import RetryableTaskError, TransactionMisuseError

_MARK: Final = "select pg_catalog.set_config('stageflow.handler', %s, true)"
_MARKED: Final = "select pg_catalog.current_setting('stageflow.handler', true)"
_STATEMENT_SECONDS: Final = 0.5
"""How long a handler that was left alone may take for the statement that it is at, before its connection is cut."""
_CANCEL_SECONDS: Final = 2.0


class Transactions(Part):
    """Satisfies ``stageflow.ports.TransactionStore``."""

    def begin_transaction(self) -> "PostgresTransaction":
        """Open a connection beside the pool, so that handlers never starve heartbeats and completions, and begin."""
        return PostgresTransaction(self._database)


class PostgresTransaction:
    """Satisfies ``stageflow.ports.transactions.HandlerTransaction``.

    The handler is inside of psycopg's ``transaction()`` block, where its own ``commit()``, ``rollback()`` and
    ``with connection`` raise. What it ends by a bare statement is found by a setting that lasts as long as the transaction.
    """

    def __init__(self, database: Database) -> None:
        self._connector: Final = database.connector
        self._over = False
        self._mark = secrets.token_hex(8)
        self.connection: Final[Connection] = self._connector.open_plain()
        self._block = self.connection.transaction()
        try:
            self._block.__enter__()  # left in commit(), by another function and perhaps another thread
            psycopg.Cursor(self.connection).execute(_MARK, (self._mark,))
        except psycopg.Error as error:
            self.connection.close()
            raise self._connector.translated(error) from error

    def require_open(self) -> None:
        """Do nothing if the transaction that was begun here is still open, and can be committed."""
        if self.connection.broken:
            raise self._connector.translated(psycopg.OperationalError("the connection of the handler's transaction was lost"))
        match self.connection.info.transaction_status:
            case TransactionStatus.INERROR:
                msg = (
                    "a statement in the transaction of context.transaction() failed, and PostgreSQL commits nothing of it; let "
                    "the error of that statement pass, or try it in a block `with connection.transaction():`"
                )
                raise RetryableTaskError(msg)
            case TransactionStatus.INTRANS if self._is_marked():
                return
            case _:
                msg = (
                    "the handler ended the transaction of context.transaction(), or closed its connection: the engine commits "
                    "it when the handler returns; take `commit`, `rollback` and `close` out, and undo parts by "
                    "`with connection.transaction():`"
                )
                raise TransactionMisuseError(msg)

    def commit(self) -> None:
        """Commit, and close the connection.

        Raises:
            StoreUnreachableError: The connection was lost; whether the transaction was committed is unknown.
            psycopg.Error: The server, or the driver, refused it; nothing was committed.
        """
        try:
            self._block.__exit__(None, None, None)
            if not self._is_idle():  # the block does not say so where the connection was lost before
                raise self._connector.translated(psycopg.OperationalError("the connection was lost before the commit"))
        except psycopg.Error as error:
            if self._is_lost(error):
                raise self._connector.translated(error) from error
            raise
        finally:
            self.roll_back()

    def roll_back(self) -> None:
        """Take everything back that was not committed, and close the connection; never raises.

        Not by a statement: the connection may be lost, or in the hands of a handler that was left alone.
        """
        if self._over:
            return
        self._over = True
        if not self.connection.lock.acquire(timeout=_STATEMENT_SECONDS):
            self._cut_off()
            return
        try:
            self.connection.close()
        finally:
            self.connection.lock.release()

    def _is_marked(self) -> bool:
        try:
            row = psycopg.RawCursor(self.connection, row_factory=tuple_row).execute(_MARKED).fetchone()
        except psycopg.Error as error:
            raise self._connector.translated(error) from error
        return row is not None and row[0] == self._mark

    def _is_idle(self) -> bool:
        healthy = self.connection.pgconn.status == ConnStatus.OK
        return healthy and self.connection.info.transaction_status == TransactionStatus.IDLE

    def _is_lost(self, error: psycopg.Error) -> bool:
        return self.connection.closed or (error.sqlstate or "").startswith("57P")

    def _cut_off(self) -> None:
        """End the statement and then the connection, of which libpq must not be freed while another thread is in it."""
        with suppress(psycopg.Error, OSError):
            self.connection.cancel_safe(timeout=_CANCEL_SECONDS)
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
