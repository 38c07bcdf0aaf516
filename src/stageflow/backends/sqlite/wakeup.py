"""Waiting for the store: woken within the process, polling for what other processes commit."""

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from typing import Final

from stageflow.backends.sqlite.connection import Database, Row
from stageflow.backends.sqlite.failure import translate
from stageflow.contracts.status import TERMINAL_JOB_STATUSES

_POLL_SECONDS: Final = 0.02
_MEMORY_SLICE_SECONDS: Final = 0.1


class _Wakeup(ABC):
    """Sleeps in short slices: each looks whether the file changed, and a signal handler's interrupt is never slept over."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._slice = _MEMORY_SLICE_SECONDS if database.in_memory else _POLL_SECONDS
        self._interrupted = False
        self._connection: sqlite3.Connection | None = None
        self._guard = threading.Lock()
        self._closed = False
        self._data_version = -1
        self._row: Row | None = None

    def wait(self, timeout_seconds: float) -> bool:
        """Return ``True`` as soon as there may be something new, ``False`` after the timeout or an interrupt."""
        give_up_at = time.monotonic() + timeout_seconds
        while True:
            count = self._database.signals.count
            if self._interrupted:
                self._interrupted = False
                return False
            if self._fired():
                return True
            left = give_up_at - time.monotonic()
            if left <= 0:
                return False
            self._database.signals.wait_beyond(count, min(left, self._slice))

    def interrupt(self) -> None:
        """Make a waiting thread, or the next one to wait, return at once; callable from signal handlers."""
        self._interrupted = True
        self._database.signals.fire()

    def close(self) -> None:
        """Free the connection; a waiting thread returns."""
        self.interrupt()
        with self._guard:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @abstractmethod
    def _fired(self) -> bool: ...

    def _look(self, sql: str, parameters: tuple[str, ...] = ()) -> Row | None:
        """Return a row as it is now; a file is only read again when another connection has committed to it."""
        if self._database.in_memory:
            with self._database.reading() as tx:
                return tx.row(sql, parameters)
        with self._guard:
            if self._closed:
                return self._row
            try:
                if self._connection is None:
                    self._connection = self._database.open_reader()
                version = self._connection.execute("pragma data_version").fetchone()[0]
                if version != self._data_version:
                    self._row = self._connection.execute(sql, parameters).fetchone()
                    self._data_version = version
            except sqlite3.Error as error:
                raise translate(error, self._database.url) from error
            return self._row


class WorkWakeup(_Wakeup):
    """Fires when work became ready since it was made, or since it last fired."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._seen = self._signal()

    def _signal(self) -> int:
        row = self._look("select work_signal from stageflow_counters")
        return 0 if row is None else int(row[0])

    def _fired(self) -> bool:
        signal = self._signal()
        if signal == self._seen:
            return False
        self._seen = signal
        return True


class JobWakeup(_Wakeup):
    """Fires when the job has ended."""

    def __init__(self, database: Database, job_id: str) -> None:
        super().__init__(database)
        self._job_id = job_id

    def _fired(self) -> bool:
        row = self._look("select status from stageflow_jobs where job_id = ?", (self._job_id,))
        return row is not None and row[0] in TERMINAL_JOB_STATUSES
