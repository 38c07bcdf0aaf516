"""Transactions of handlers: the write lock of the file, or the whole of the memory, until the handler has ended."""

import sqlite3
from contextlib import suppress
from typing import Final

from stageflow.backends.sqlite.connection import Database
from stageflow.backends.sqlite.failure import is_busy, primary_code, translate
from stageflow.backends.sqlite.handler_connection import ROLLED_BACK
from stageflow.backends.sqlite.part import StorePart
from stageflow.errors import TransactionMisuseError


class SqliteTransactions(StorePart):
    """Satisfies ``stageflow.ports.TransactionStore``."""

    def begin_transaction(self) -> "SqliteTransaction":
        """Open one more connection, and take the write lock with it.

        At once, not with the first write: a transaction that has read what another changes since can never write.
        """
        return SqliteTransaction(self._database)


class SqliteTransaction:
    """Satisfies ``stageflow.ports.transactions.HandlerTransaction``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._over = False
        self.connection: Final = database.lend()

    def require_open(self) -> None:
        """Do nothing if the transaction is open: nobody but this object can end it, SQLite itself excepted."""
        if not self.connection.in_transaction:
            raise TransactionMisuseError(ROLLED_BACK)
        self.connection.take_back()

    def commit(self) -> None:
        """Commit, and close the connection.

        Raises:
            StoreError: SQLite cannot commit; nothing was.
            sqlite3.IntegrityError: A deferred constraint refused it; nothing was committed.
            TransactionMisuseError: The handler left a statement unfinished; nothing was committed.
        """
        try:
            self.connection.end("commit")
        except sqlite3.Error as error:
            if primary_code(error) == sqlite3.SQLITE_CONSTRAINT:
                raise
            if is_busy(error):
                msg = (
                    f"the handler's transaction cannot be committed ({error}): a statement that writes and returns rows is "
                    "unfinished; fetch all its rows"
                )
                raise TransactionMisuseError(msg) from error
            raise translate(error, self._database.url) from error
        changed = self.connection.work_ready or self.connection.job_ended
        self.roll_back()
        if changed:
            self._database.signals.fire()

    def roll_back(self) -> None:
        """Take everything back that was not committed, and close the connection; never raises."""
        if self._over:
            return
        self._over = True
        try:
            with suppress(sqlite3.Error):
                self.connection.abandon()
        finally:
            self._database.take_back(self.connection)
