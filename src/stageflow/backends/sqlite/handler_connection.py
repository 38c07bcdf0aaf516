"""The connection that a handler gets: a plain one of the driver, but for the end of its transaction."""

import sqlite3
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, Final, NoReturn, Self

from stageflow.backends.sqlite.failure import primary_code
from stageflow.errors import TransactionMisuseError

_AUTHORIZED_TRANSACTION: Final = 22
"""SQLite's action code of BEGIN, COMMIT and ROLLBACK; the driver of Python 3.11 has no name for it."""
_INTERRUPT_SECONDS: Final = 0.05
_ASKING: Final = ("_info", "_list", "_check")
"""How pragmas end that have an argument and set nothing."""

ROLLED_BACK: Final = (
    "the transaction of context.transaction() is no longer open: SQLite rolled it back after a failed statement "
    "(`on conflict rollback`, a full disk); let the error of that statement pass"
)


class HandlerConnection(sqlite3.Connection):
    """Its transaction is begun and ended by the engine alone; savepoints are the handler's.

    A handler may be left alone with it. So each statement has its turn, in which the engine does not end the transaction, and
    none has one afterwards: outside of a transaction SQLite would commit it by itself.

    Attributes:
        work_ready: What the transaction commits makes work ready.
        job_ended: What it commits ends a job.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.work_ready = False
        self.job_ended = False
        self._turn = threading.RLock()
        self._in_hand = False
        self._ended = False

    def hand_out(self) -> None:
        """From now on only :meth:`end` ends the transaction."""
        self._in_hand = True
        self.set_authorizer(self._authorize)

    def end(self, statement: str) -> None:
        """Run the transaction's last statement, and let nothing be run after it; waits for the one that runs."""
        with self._turn:
            self._ended, self._in_hand = True, False
            sqlite3.Cursor(self).execute(statement)

    def abandon(self) -> None:
        """Roll back and close, whatever a handler does with it at the time."""
        self._ended = True
        while not self._turn.acquire(timeout=_INTERRUPT_SECONDS):
            self.interrupt()
        try:
            self._in_hand = False
            if self.in_transaction:
                sqlite3.Cursor(self).execute("rollback")
        finally:
            super().close()
            self._turn.release()

    @contextmanager
    def turn(self) -> Generator[None]:
        """Let a statement run."""
        with self._turn:
            if self._ended:
                msg = "the task whose transaction this was is over, and nothing can be written in it; end the thread"
                raise TransactionMisuseError(msg)
            if self._in_hand and not self.in_transaction:
                raise TransactionMisuseError(ROLLED_BACK)
            try:
                yield
            except sqlite3.DatabaseError as error:
                if primary_code(error) == sqlite3.SQLITE_AUTH:
                    _refuse("a pragma that sets something, or a statement that begins or ends a transaction,")
                raise

    def cursor(self, factory: object = None) -> "HandlerCursor":  # type: ignore[override]
        """Return a cursor whose statements take turns."""
        if factory is not None:
            msg = "the connection of context.transaction() makes its own cursors; call cursor() without a factory"
            raise TransactionMisuseError(msg)
        return super().cursor(HandlerCursor)

    def execute(self, sql: str, parameters: Any = (), /) -> "HandlerCursor":
        """Run a statement on a new cursor."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> "HandlerCursor":
        """Run a statement on a new cursor, once for each row of parameters."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> NoReturn:  # noqa: ARG002  as the driver has it
        """Refuse, because the driver commits before a script.

        Raises:
            TransactionMisuseError: Always.
        """
        _refuse("executescript()")

    def commit(self) -> NoReturn:
        """Refuse.

        Raises:
            TransactionMisuseError: Always.
        """
        _refuse("commit()")

    def rollback(self) -> NoReturn:
        """Refuse.

        Raises:
            TransactionMisuseError: Always.
        """
        _refuse("rollback()")

    def close(self) -> NoReturn:
        """Refuse.

        Raises:
            TransactionMisuseError: Always.
        """
        _refuse("close()")

    def __enter__(self) -> Self:
        """Refuse, because the driver would commit at the end of the block."""
        _refuse("`with connection`")

    def take_back(self) -> None:
        """Let the engine find the rows of its own statements as it knows them, whatever the handler made of its own."""
        self.row_factory = None
        self.text_factory = str

    def _authorize(self, action: int, name: str | None, value: str | None, *_: object) -> int:
        ends = action == _AUTHORIZED_TRANSACTION
        sets = action == sqlite3.SQLITE_PRAGMA and value is not None and not str(name).endswith(_ASKING)
        return sqlite3.SQLITE_DENY if self._in_hand and (ends or sets) else sqlite3.SQLITE_OK


class HandlerCursor(sqlite3.Cursor):
    """A cursor of a handler's connection."""

    connection: HandlerConnection

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        """Run a statement in its turn."""
        with self.connection.turn():
            return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Self:
        """Run a statement in its turn, once for each row of parameters."""
        with self.connection.turn():
            return super().executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> NoReturn:  # noqa: ARG002  as the driver has it
        """Refuse, because the driver commits before a script.

        Raises:
            TransactionMisuseError: Always.
        """
        _refuse("executescript()")

    def fetchone(self) -> Any:
        """Return the next row, in its turn."""
        with self.connection.turn():
            return super().fetchone()

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """Return the next rows, in their turn."""
        with self.connection.turn():
            return super().fetchmany(size)

    def fetchall(self) -> list[Any]:
        """Return all rows that are left, in their turn."""
        with self.connection.turn():
            return super().fetchall()

    def __next__(self) -> Any:
        """Return the next row, in its turn."""
        with self.connection.turn():
            return super().__next__()


def _refuse(what: str) -> NoReturn:
    msg = (
        f"{what} is not the handler's on the connection of context.transaction(): the engine commits it when the handler "
        "returns, and rolls it back when the handler raises; to take back a part of it, use a savepoint"
    )
    raise TransactionMisuseError(msg)
