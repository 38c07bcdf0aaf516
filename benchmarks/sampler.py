"""Looks at the database again and again while something else is measured."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import psycopg

from benchmarks.server import is_postgres
from stageflow.errors import InvalidValueError

T = TypeVar("T")


def require_postgres(store: str) -> None:
    """Do nothing if the store is a PostgreSQL.

    Raises:
        InvalidValueError: It is not, so that nobody can look at its tables while it works.
    """
    if not is_postgres(store):
        msg = "this benchmark looks into PostgreSQL while it runs; give --store postgresql://..., or leave --store out"
        raise InvalidValueError(msg)


class Sampler(Generic[T]):
    """Asks a question at an interval until the block ends, on a connection and in a thread of its own.

    Args:
        store: The PostgreSQL that is asked.
        interval: Seconds between two questions.
        ask: The question; the connection commits by itself.

    Attributes:
        samples: The answers, each with the monotonic clock's time just before its question.
    """

    def __init__(self, store: str, interval: float, ask: Callable[[psycopg.Connection[Any]], T]) -> None:
        self._store = store
        self._interval = interval
        self._ask = ask
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self.samples: Final[list[tuple[float, T]]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            with psycopg.connect(self._store, autocommit=True) as connection:
                while True:
                    now = time.monotonic()
                    self.samples.append((now, self._ask(connection)))
                    if self._stopping.wait(max(0.0, now + self._interval - time.monotonic())):
                        return
        except Exception as error:  # noqa: BLE001  raised where the block ends
            self._error = error
