"""Connections: one that writes, guarded by a lock, and some that read."""

import os
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from stageflow.backends.sqlite.clock import StoreClock
from stageflow.backends.sqlite.failure import is_busy, schema_missing, translate
from stageflow.backends.sqlite.handler_connection import HandlerConnection
from stageflow.backends.sqlite.signals import Signals
from stageflow.errors import (
    InvalidValueError,
    StoreStateError,
    StoreUnreachableError,
    StoreUnsuitableError,
    TransactionMisuseError,
)

Row = tuple[Any, ...]
Value = str | int | float | bytes | None
C = TypeVar("C", bound=sqlite3.Connection)

MEMORY: Final = ":memory:"
_OLDEST_SQLITE: Final = (3, 38, 0)
_FIRST_PAUSE_SECONDS: Final = 0.000_5
_LONGEST_PAUSE_SECONDS: Final = 0.02


class Transaction:
    """One open transaction, and what is to be told when it has committed.

    Attributes:
        now: The store's time in microseconds, the same throughout.
        work_ready: A range became ready: wake whoever waits for work.
        job_ended: A job became terminal: wake whoever waits for one.
    """

    __slots__ = ("_cursor", "job_ended", "now", "work_ready")

    def __init__(self, cursor: sqlite3.Cursor, now: int) -> None:
        self._cursor = cursor
        self.now: Final = now
        self.work_ready = False
        self.job_ended = False

    def rows(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run a statement to its end and return its rows."""
        return self._cursor.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Value] = ()) -> Row | None:
        """Run a statement to its end and return its first row."""
        rows = self._cursor.execute(sql, parameters).fetchall()
        return rows[0] if rows else None

    def run(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        return self._cursor.execute(sql, parameters).rowcount

    def insert(self, sql: str, parameters: Sequence[Value]) -> int:
        """Run an insert and return the row's id."""
        identity = self._cursor.execute(sql, parameters).lastrowid
        if identity is None:
            msg = f"SQLite gave no id for an inserted row: {sql[:60]}; run `stageflow verify`"
            raise StoreStateError(msg)
        return identity

    def run_many(self, sql: str, parameters: Iterable[Sequence[Value]]) -> None:
        """Run a statement once for each row of parameters."""
        self._cursor.executemany(sql, parameters)


class Database:
    """The file, or the memory, behind a store; safe to share between threads, not to inherit over a fork."""

    def __init__(self, path: str | Path, clock: StoreClock, busy_seconds: float) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            msg = f"SQLite {sqlite3.sqlite_version} is too old; use a Python that brings SQLite 3.38 or newer"
            raise StoreUnsuitableError(msg)
        self.in_memory: Final = str(path) == MEMORY
        self.path: Final = Path(path) if self.in_memory else Path(path).absolute()
        self.url: Final = f"sqlite:///{path}" if self.in_memory else f"sqlite:///{self.path.as_posix()}"
        self.signals: Final = Signals()
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        self._process = os.getpid()
        self._lent: Final[dict[int, HandlerConnection]] = {}
        # SQLite's own VFS for memory that several connections of a process share, as they share a file.
        self._address: Final = (
            f"file:/stageflow-{secrets.token_hex(16)}?vfs=memdb" if self.in_memory else f"{self.path.as_uri()}?mode="
        )

    @contextmanager
    def transaction(self, *, create: bool = False) -> Generator[Transaction]:
        """Hold the write lock from beginning to commit; an error rolls everything back.

        Args:
            create: Make the file where it is missing.

        Raises:
            StoreUnreachableError: The file cannot be opened or written, or stayed locked.
            StoreUnsuitableError: The file is no database, or read-only.
            SchemaVersionError: The file or its tables are missing.
        """
        with self._writing_turn():
            try:
                connection = self._writing_connection(create=create)
                self._insist(connection, "begin immediate")
                try:
                    transaction = Transaction(connection.cursor(), self._clock.micros())
                    yield transaction
                    if transaction.work_ready:
                        transaction.run("update stageflow_counters set work_signal = work_signal + 1")
                    connection.execute("commit")
                except BaseException:
                    _roll_back(connection)
                    raise
            except sqlite3.Error as error:
                raise translate(error, self.url) from error
        if transaction.work_ready or transaction.job_ended:
            self.signals.fire()

    @contextmanager
    def reading(self) -> Generator[Transaction]:
        """See one state of the database throughout; a file's readers neither wait for its writer nor hold it up."""
        try:
            if self.in_memory:
                yield from self._reading_memory()
            else:
                yield from self._reading_file()
        except sqlite3.Error as error:
            raise translate(error, self.url) from error

    def _reading_memory(self) -> Generator[Transaction]:
        lent = self._lent.get(threading.get_ident())
        if lent is not None:
            cursor = lent.cursor()
            cursor.row_factory = None
            yield Transaction(cursor, self._clock.micros())
            return
        with self._writing_turn():
            yield Transaction(self._writing_connection(create=False).cursor(), self._clock.micros())

    def _reading_file(self) -> Generator[Transaction]:
        self._require_usable()
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self.open_reader()
        try:
            connection.execute("begin")
            yield Transaction(connection.cursor(), self._clock.micros())
        finally:
            _roll_back(connection)
            if self._closed:
                connection.close()
            else:
                self._readers.append(connection)

    @contextmanager
    def inside(self, connection: object) -> Generator[Transaction]:
        """Work in an application's own transaction, under a savepoint; it commits, and what is awake polls."""
        if not isinstance(connection, sqlite3.Connection):
            msg = f"connection must be a sqlite3.Connection to {self.url}, got {type(connection).__name__}; pass that one"
            raise StoreUnsuitableError(msg)
        cursor = self._cursor_of(connection)
        try:
            if not connection.in_transaction:
                cursor.execute("begin immediate")
            cursor.execute("savepoint stageflow")
            try:
                transaction = Transaction(cursor, self._clock.micros())
                yield transaction
                if transaction.work_ready:
                    transaction.run("update stageflow_counters set work_signal = work_signal + 1")
                if isinstance(connection, HandlerConnection):
                    connection.work_ready = connection.work_ready or transaction.work_ready
                    connection.job_ended = connection.job_ended or transaction.job_ended
            except BaseException:
                cursor.execute("rollback to stageflow")
                raise
            finally:
                cursor.execute("release stageflow")
        except sqlite3.Error as error:
            raise translate(error, self.url) from error

    def _cursor_of(self, connection: sqlite3.Connection) -> sqlite3.Cursor:
        """Return a cursor of an application's connection, which is refused where it is closed or leads to another database.

        Raises:
            InvalidValueError: It is; nothing was written.
        """
        try:
            cursor = connection.cursor()
        except sqlite3.ProgrammingError as error:
            msg = f"the connection cannot be used ({error}); pass one that is open, in the thread that opened it"
            raise InvalidValueError(msg) from error
        cursor.row_factory = None
        if not any(lent is connection for lent in self._lent.values()):
            self._require_own(cursor)
        return cursor

    def _require_own(self, cursor: sqlite3.Cursor) -> None:
        files = [file for _, _, file in cursor.execute("pragma database_list")]
        if not any(map(self._is_own, files)):
            led_to = files[0] or "a database in memory"
            msg = (
                f"the connection leads to {led_to}, and the app's store is {self.url}: the jobs would go where nobody works on "
                "them; pass a connection to the store's own file, or submit without one"
            )
            raise InvalidValueError(msg)

    def _is_own(self, file: str) -> bool:
        if self.in_memory:
            return f"file:{file}?vfs=memdb" == self._address
        return os.path.exists(file) and self.path.exists() and os.path.samefile(file, self.path)  # noqa: PTH110, PTH121  text

    def lend(self) -> HandlerConnection:
        """Return a new connection for a handler of the calling thread, with a transaction open that holds the write lock.

        Other writers wait for it, and in memory readers too. Whoever asks for it gives it to :meth:`take_back`.

        Raises:
            StoreUnreachableError: The file cannot be opened, or stayed locked.
        """
        self._require_usable()
        if self.in_memory:
            self._take_turn()
        try:
            connection = self._connect(create=False, prepare=self._prepare_to_write, factory=HandlerConnection)
            try:
                self._insist(connection, "begin immediate")
                connection.hand_out()
            except BaseException:
                connection.abandon()
                raise
        except BaseException as error:
            if self.in_memory:
                self._lock.release()
            if isinstance(error, sqlite3.Error):
                raise translate(error, self.url) from error
            raise
        self._lent[threading.get_ident()] = connection
        return connection

    def take_back(self, connection: HandlerConnection) -> None:
        """Let others write again; the connection is closed."""
        for thread in [thread for thread, lent in self._lent.items() if lent is connection]:
            del self._lent[thread]
        if self.in_memory:
            self._lock.release()

    @contextmanager
    def _writing_turn(self) -> Generator[None]:
        if threading.get_ident() in self._lent:
            msg = (
                "this handler holds the store's one write lock by its context.transaction(), and would wait for itself; pass "
                "`connection=` to what it calls, or call that before context.transaction() or outside of the handler"
            )
            raise TransactionMisuseError(msg)
        self._take_turn()
        try:
            yield
        finally:
            self._lock.release()

    def _take_turn(self) -> None:
        while not self._lock.acquire(timeout=self._busy_seconds):
            if self.in_memory and self._lent:
                msg = (
                    f"the store {self.url} was held by a handler's context.transaction() for {self._busy_seconds:g} s; "
                    "call that as late as the handler can"
                )
                raise StoreUnreachableError(msg)

    def exists(self) -> bool:
        """Return whether there is something to open; where that cannot be told, opening will."""
        if self.in_memory:
            return True
        try:
            self.path.stat()
        except FileNotFoundError:
            return not self.path.parent.is_dir()
        except OSError:
            return True
        return True

    def open_reader(self) -> sqlite3.Connection:
        """Open one more connection that cannot write; the caller closes it."""
        return self._connect(create=False, prepare=_refuse_writes, factory=sqlite3.Connection)

    def close(self) -> None:
        """Close all connections; the database cannot be used afterwards."""
        with self._lock:
            self._closed = True
            while self._readers:
                self._readers.pop().close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self.signals.fire()

    def _require_usable(self) -> None:
        if self._closed:
            msg = f"the store {self.url} was closed; open a new SqliteStore"
            raise StoreUnreachableError(msg)
        if os.getpid() != self._process:
            msg = f"the store {self.url} was opened before a fork, which SQLite does not survive; open a new one in the child"
            raise StoreUnsuitableError(msg)

    def _writing_connection(self, *, create: bool) -> sqlite3.Connection:
        self._require_usable()
        if self._writer is None:
            self._writer = self._connect(create=create, prepare=self._prepare_to_write, factory=sqlite3.Connection)
        return self._writer

    def _prepare_to_write(self, connection: sqlite3.Connection) -> None:
        # Waiting for other processes is done in _insist, with jitter, which SQLite's own handler lacks.
        connection.execute("pragma busy_timeout = 0")
        if connection.execute("pragma journal_mode").fetchone()[0] not in {"wal", "memory"}:
            self._insist(connection, "pragma journal_mode = wal")

    def _connect(self, *, create: bool, prepare: Callable[[sqlite3.Connection], object], factory: type[C]) -> C:
        if not create and not self.exists():
            raise schema_missing(self.url, "there is no such file")
        connection = sqlite3.connect(
            self._address if self.in_memory else self._address + ("rwc" if create else "rw"),
            uri=True,
            factory=factory,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            timeout=self._busy_seconds,
        )
        try:
            connection.execute("pragma synchronous = full")
            connection.execute("pragma foreign_keys = on")
            connection.execute("pragma cache_size = -16000")
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _insist(self, connection: sqlite3.Connection, sql: str) -> None:
        """Run a statement that needs a lock again and again until no other process holds it."""
        give_up_at = time.monotonic() + self._busy_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                connection.execute(sql)
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                if time.monotonic() >= give_up_at:
                    msg = (
                        f"the store {self.url} was locked by another process for {self._busy_seconds:g} s; end what holds it, "
                        f"or use PostgreSQL where many processes write"
                    )
                    raise StoreUnreachableError(msg) from error
            else:
                return
            time.sleep(random.uniform(0, pause))  # noqa: S311  jitter, not a secret
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _refuse_writes(connection: sqlite3.Connection) -> None:
    connection.execute("pragma query_only = on")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("rollback")
