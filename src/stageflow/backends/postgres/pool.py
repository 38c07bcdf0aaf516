"""Connections: opened, checked, pooled, and replaced when the server went away."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Final, LiteralString, cast
from urllib.parse import quote
from weakref import WeakKeyDictionary

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow, tuple_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from stageflow.backends.postgres.failures import reason_of, translated, unreachable
from stageflow.backends.postgres.session import (
    SERVER,
    Connection,
    adapt,
    is_shared,
    move_clock,
    rows_of,
    settled,
    take_session,
)
from stageflow.backends.postgres.sql_text import query
from stageflow.errors import InvalidValueError, StageflowError, StoreError, StoreUnsuitableError

ConnectionFactory = Callable[[], psycopg.Connection[Any]]
"""Returns a new connection that the store may keep; for credentials that expire, for instance."""
Parameters = Sequence[object]

_OLDEST_SERVER: Final = 150_000
_READ_TRIES: Final = 4
_PATIENCE_SECONDS: Final = 15.0
"""How long a caller waits for a connection of the pool, a restart of the server included."""


class Connector:
    """Opens connections that are fit for the store.

    Attributes:
        url: The server's address, without secrets.
        is_shared: Whether a pooler that shares the server's sessions was seen there; see :func:`session.is_shared`.
    """

    def __init__(self, source: str | ConnectionFactory) -> None:
        self._source: Final = source
        self.is_shared = False
        self._secret: str | None = None
        self.url = "postgresql://(connection factory)"
        self.last_failure: StageflowError | None = None
        if isinstance(source, str):
            self.url, self._secret = _address_of(source)

    def open(self) -> Connection:
        """Return a new connection: autocommit, READ COMMITTED, in UTC, every name to be qualified.

        Raises:
            StoreUnreachableError: The server does not answer or refuses the credentials.
            StoreUnsuitableError: It is too old, a replica, or its database cannot hold all text.
        """
        return self._opened(self._prepare)

    def open_plain(self) -> Connection:
        """Return a new connection for statements of an application: READ COMMITTED on the primary, else as its server has it.

        Raises:
            StoreUnreachableError: The server does not answer or refuses the credentials.
        """
        return self._opened(self._pin_isolation)

    def _opened(self, prepare: Callable[[Connection], None]) -> Connection:
        try:
            connection = self._connect()
            try:
                prepare(connection)
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            self.last_failure = unreachable(self.url, reason_of(error, self._secret))
            raise self.last_failure from error
        except StageflowError as error:
            self.last_failure = error
            raise
        return connection

    def translated(self, error: psycopg.Error) -> StageflowError:
        """Return the stageflow error for a psycopg error of one of these connections."""
        return translated(error, self.url, self._secret)

    def _connect(self) -> Connection:
        if isinstance(self._source, str):
            return psycopg.connect(self._source, autocommit=True)
        connection = self._source()
        info = connection.info
        self.url, self._secret = address(info.host, str(info.port), info.dbname, info.user), info.password or None
        return connection

    def _prepare(self, connection: Connection) -> None:
        connection.autocommit = True
        connection.row_factory = tuple_row
        adapt(connection)
        row = psycopg.RawCursor(connection).execute(SERVER).fetchone()
        replica, backend_pid = row or (False, 0)
        info = connection.info
        encoding = info.parameter_status("server_encoding") or ""
        require_suitable(version=info.server_version, encoding=encoding, replica=replica, url=self.url)
        take_session(connection, backend_pid)
        self.is_shared = is_shared(connection)

    def _pin_isolation(self, connection: Connection) -> None:
        connection.autocommit = True
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        if self.is_shared:
            connection.prepare_threshold = None


def require_suitable(*, version: int, encoding: str, replica: bool, url: str) -> None:
    """Do nothing if a server can keep the store's guarantees.

    Args:
        version: As in ``server_version_num``: 150018.
        encoding: Of the database.
        replica: The server is in recovery and takes no writes.
        url: For the message.

    Raises:
        StoreUnsuitableError: It cannot; the message says what to do.
    """
    if version < _OLDEST_SERVER:
        msg = f"PostgreSQL at {url} is version {version // 10_000}; stageflow needs 15 or newer, upgrade the server"
        raise StoreUnsuitableError(msg)
    if encoding == "SQL_ASCII":
        msg = f"the database at {url} has the encoding SQL_ASCII, which checks no text; create it with encoding UTF8"
        raise StoreUnsuitableError(msg)
    if replica:
        msg = f"PostgreSQL at {url} is a read replica; connect to the primary (target_session_attrs=read-write in the address)"
        raise StoreUnsuitableError(msg)


class Database:
    """Runs single statements, each its own transaction, on pooled connections.

    Connections are opened when the first statement needs them.
    """

    def __init__(self, source: str | ConnectionFactory, *, pool_size: int) -> None:
        self.connector: Final = Connector(source)
        self._pool_size: Final = pool_size
        self._pool: ConnectionPool[Connection] | None = None
        self._closed = False
        self._opening: Final = Lock()
        self._offset = timedelta()
        self._offsets: Final = WeakKeyDictionary[Connection, timedelta]()

    @property
    def url(self) -> str:
        """The server's address, without secrets."""
        return self.connector.url

    def move_clock(self, seconds: float) -> None:
        """Move the store's time, for all later statements of this object."""
        self._offset += timedelta(seconds=seconds)

    @property
    def clock_offset(self) -> str:
        """The moved clock as an interval literal, empty where it was not moved."""
        return f"{self._offset / timedelta(microseconds=1):.0f} microseconds" if self._offset else ""

    def read(self, statement: LiteralString, parameters: Parameters = ()) -> list[TupleRow]:
        """Run a statement that writes nothing; tried again on other connections where the server went away.

        More than once, because an administrator ends all of them, one after the other.
        """
        for _ in range(_READ_TRIES - 1):
            try:
                return self._run(statement, parameters)
            except _ConnectionLostError:
                continue
        return self.write(statement, parameters)

    def write(self, statement: LiteralString, parameters: Parameters = ()) -> list[TupleRow]:
        """Run a statement.

        Raises:
            StoreUnreachableError: The connection was lost; whether the statement took effect is unknown.
        """
        try:
            return self._run(statement, parameters)
        except _ConnectionLostError as lost:
            raise self.connector.translated(lost.cause) from lost.cause

    def now(self) -> datetime:
        """Return the store's time."""
        ((time,),) = self.read(query("now"))
        return cast("datetime", time).astimezone(UTC)

    def close(self) -> None:
        """Close all connections."""
        with self._opening:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _run(self, statement: LiteralString, parameters: Parameters) -> list[TupleRow]:
        pool = self._opened()
        connection = self._checked_out(pool)
        lost = False
        try:
            if is_shared(connection):
                with settled(connection, self.clock_offset):
                    return rows_of(connection, statement, parameters)
            if self._offset or self._offsets:
                self._set_clock(connection)
            return rows_of(connection, statement, parameters)
        except psycopg.Error as error:
            lost = connection.closed or (error.sqlstate or "").startswith("57P")
            if lost:
                raise _ConnectionLostError(error) from error
            raise self.connector.translated(error) from error
        finally:
            if lost:
                connection.close()
            pool.putconn(connection)
            if lost:
                pool.check()

    def _opened(self) -> ConnectionPool[Connection]:
        if self._pool is not None:
            return self._pool
        with self._opening:
            if self._closed:
                msg = f"the store at {self.url} was closed; make a new one"
                raise StoreError(msg)
            if self._pool is None:
                self.connector.open().close()
                self._pool = ConnectionPool(
                    connection_class=_pooled(self.connector),
                    min_size=1,
                    max_size=self._pool_size,
                    open=True,
                    timeout=_PATIENCE_SECONDS,
                    num_workers=2,
                    name="stageflow",
                )
            return self._pool

    def _checked_out(self, pool: ConnectionPool[Connection]) -> Connection:
        try:
            return pool.getconn()
        except PoolTimeout as error:
            failure = self.connector.last_failure
            reason = "no connection was free in time; raise pool_size" if failure is None else str(failure)
            raise unreachable(self.url, reason) from error
        except PoolClosed as error:
            msg = f"the store at {self.url} was closed; make a new one"
            raise StoreError(msg) from error

    def _set_clock(self, connection: Connection) -> None:
        if self._offsets.get(connection) != self._offset:
            move_clock(psycopg.RawCursor(connection), self.clock_offset, in_transaction=False)
            self._offsets[connection] = self._offset


class _ConnectionLostError(Exception):
    """The server went away in the middle of a statement."""

    def __init__(self, cause: psycopg.Error) -> None:
        super().__init__(str(cause))
        self.cause: Final = cause


def _pooled(connector: Connector) -> type[Connection]:
    """Return a connection class by which the pool opens its connections through ``connector``."""

    class PooledConnection(psycopg.Connection[Any]):
        @classmethod
        def connect(cls, conninfo: str = "", **kwargs: Any) -> Connection:  # type: ignore[override]  # noqa: ARG003
            return connector.open()

    return PooledConnection


def _address_of(dsn: str) -> tuple[str, str | None]:
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        msg = "the PostgreSQL address cannot be read; write it as postgresql://user@host:port/database"
        raise InvalidValueError(msg) from None  # its cause would quote the address, password and all
    texts = {name: str(value) for name, value in parts.items() if value is not None}
    host = texts.get("host") or texts.get("hostaddr") or ""
    return address(host, texts.get("port") or "", texts.get("dbname") or "", texts.get("user") or ""), texts.get("password")


def address(host: str, port: str, database: str, user: str) -> str:
    """Return the address of a database, without secrets."""
    who = f"{quote(user)}@" if user else ""
    if host.startswith("/"):
        where = f"/{quote(database)}?host={quote(host)}" + (f"&port={port}" if port else "")
    else:
        where = host + (f":{port}" if port else "") + f"/{quote(database)}"
    return f"postgresql://{who}{where}"
