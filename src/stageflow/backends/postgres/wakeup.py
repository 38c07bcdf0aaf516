"""Waiting for NOTIFY on a connection of its own."""

import selectors
import socket
from threading import Lock
from time import monotonic
from typing import Final

import psycopg
from psycopg import sql

from stageflow.backends.postgres.pool import Connector
from stageflow.backends.postgres.session import Connection, is_shared
from stageflow.errors import StoreError

WORK_CHANNEL: Final = "stageflow_work"
JOB_CHANNEL: Final = "stageflow_jobs"

_RECONNECT_SECONDS: Final = 1.0
_IDLE_LISTENERS: Final = 2
_SHARED: Final = "a pooler shares the server's sessions, so that LISTEN cannot be used; wait for the next poll"


class Listeners:
    """Connections that listen, opened for the first wakeup and used again by the next."""

    def __init__(self, connector: Connector) -> None:
        self._connector: Final = connector
        self._idle: Final[list[Connection]] = []

    def listening(self, channel: str) -> Connection:
        """Return a connection that listens on a channel from now on.

        Raises:
            StoreError: None can be opened, or a pooler shares the server's sessions: it would listen for another client.
            psycopg.Error: It was lost at once.
        """
        if self._connector.is_shared:
            raise StoreError(_SHARED)
        statement = sql.SQL("listen {}").format(sql.Identifier(channel))
        while self._idle:
            used = self._idle.pop()
            try:
                used.execute(statement)
            except psycopg.Error:
                used.close()  # the server went away in the meantime; a new one says whether it is back
            else:
                return used
        fresh = self._connector.open()
        if is_shared(fresh):
            fresh.close()
            raise StoreError(_SHARED)
        try:
            fresh.execute(statement)
        except psycopg.Error:
            fresh.close()
            raise
        return fresh

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next wakeup. It stops listening: what nobody reads would pile up in the server."""
        try:
            connection.execute("unlisten *")
            for _ in connection.notifies(timeout=0):
                pass  # what had arrived before
        except psycopg.Error:
            connection.close()
            return
        if len(self._idle) >= _IDLE_LISTENERS:
            connection.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close what is kept."""
        while self._idle:
            self._idle.pop().close()


class ListenWakeup:
    """Satisfies ``stageflow.ports.Wakeup``.

    LISTEN only accelerates: where it cannot work (a pooler in transaction mode) or the server is away, ``wait`` times out
    and its caller polls. A connection that was lost is opened again, at most once a second, and then counts as news,
    because notifications may have been missed.
    """

    def __init__(self, listeners: "Listeners", channel: str, payload: str | None = None) -> None:
        self._listeners: Final = listeners
        self._channel: Final = channel
        self._payload: Final = payload
        self._connection: Connection | None = None
        self._next_attempt = 0.0
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._writer.settimeout(0)
        self._lock: Final = Lock()
        self._closed = False
        self._listen()

    def wait(self, timeout_seconds: float) -> bool:
        """Return ``True`` as soon as there is news or :meth:`interrupt` was called, ``False`` after the timeout."""
        deadline = monotonic() + timeout_seconds
        with self._lock:
            while not self._closed:
                remaining = deadline - monotonic()
                if self._connection is None:
                    if self._listen():
                        return True
                    remaining = min(remaining, max(0.0, self._next_attempt - monotonic()))
                if self._heard(max(0.0, remaining)):
                    return True
                if monotonic() >= deadline:
                    return False
        return True

    def interrupt(self) -> None:
        """Make a waiting thread return at once; the next ``wait`` where none waits now.

        Callable from any thread and from signal handlers: it only sends a byte to itself.
        """
        if not self._closed:
            try:
                self._writer.send(b"!")
            except OSError:
                return  # full of interrupts already, or closed just now

    def close(self) -> None:
        """Free what the wakeup holds; a waiting thread returns."""
        self.interrupt()
        self._closed = True
        with self._lock:
            if self._connection is not None:
                self._listeners.give_back(self._connection)
                self._connection = None
            self._reader.close()
            self._writer.close()

    def _listen(self) -> bool:
        now = monotonic()
        if now < self._next_attempt:
            return False
        self._next_attempt = now + _RECONNECT_SECONDS
        try:
            self._connection = self._listeners.listening(self._channel)
        except (StoreError, psycopg.Error):
            return False
        return True

    def _heard(self, timeout_seconds: float) -> bool:
        """Wait for the connection or an interrupt, and say whether there is news."""
        connection = self._connection
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            if connection is not None:
                selector.register(connection.fileno(), selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(timeout_seconds)]
        if self._reader in ready:
            self._reader.recv(4096)
            return True
        if not ready or connection is None:
            return False
        try:
            heard = [notify.payload for notify in connection.notifies(timeout=0)]
        except psycopg.Error:
            self._drop()
            return True
        return bool(heard) if self._payload is None else self._payload in heard

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
