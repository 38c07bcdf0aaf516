"""What the twins on PostgreSQL share: a scratch schema, and a caller that submits a job and is told of its end."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Final, LiteralString, Self

import psycopg

from benchmarks.flows import expected_total
from benchmarks.stopwatch import WrongAnswerError

Connection = psycopg.Connection[Any]

PAGE_TASKS: Final = 5000
_TABLES: Final[LiteralString] = """
drop schema if exists stageflow_twin cascade;
create schema stageflow_twin;
create table stageflow_twin.jobs (job_id bigint primary key, status text not null, total bigint);
create table stageflow_twin.stages (
    job_id bigint, stage integer, remaining integer not null, primary key (job_id, stage)) with (fillfactor = 50);
"""


def connect(dsn: str) -> Connection:
    """Return a connection on which every statement is prepared at its first use and is its own transaction."""
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=0, options="-c search_path=stageflow_twin")


class PostgresTwin(ABC):
    """A hand-written fan-out on PostgreSQL; its tables exist inside the block only.

    Args:
        dsn: The server.
        batch: Tasks a transaction.
    """

    tables: ClassVar[LiteralString]
    work: ClassVar[Callable[..., None]]
    """What a worker process runs; called with a connection for its readiness, the address and the batch."""

    def __init__(self, dsn: str, batch: int) -> None:
        self.dsn: Final = dsn
        self.batch: Final = batch
        self._job_id = 0

    def __enter__(self) -> Self:
        with psycopg.connect(self.dsn) as connection:
            connection.execute(_TABLES)
            connection.execute(self.tables)
        self._connection = connect(self.dsn)
        self._listener = connect(self.dsn)
        self._listener.execute("listen stageflow_twin_done")
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._connection.execute("drop schema stageflow_twin cascade")
        self._connection.close()

    def time_job(self, width: int) -> float:
        """Submit a job and return the seconds until its result was read.

        Raises:
            WrongAnswerError: The result is not right.
        """
        self._job_id += 1
        start = time.perf_counter()
        self.submit(self._connection, self._job_id, width)
        for _ in self._listener.notifies(stop_after=1):
            pass
        row = self._connection.execute("select total from jobs where job_id = %s", (self._job_id,)).fetchone()
        seconds = time.perf_counter() - start
        if row != (expected_total(width),):
            msg = f"the twin's job of {width} tasks ended with {row}, but {expected_total(width)} is right"
            raise WrongAnswerError(msg)
        return seconds

    @abstractmethod
    def submit(self, connection: Connection, job_id: int, width: int) -> None:
        """Write a job with the tasks of its first stage, and wake the workers."""


class Wakeup:
    """A worker's ear: returns as soon as there may be work, within half a second in any case."""

    def __init__(self, dsn: str) -> None:
        self._connection = connect(dsn)
        self._connection.execute("listen stageflow_twin_work")

    def wait(self) -> None:
        """Wait for the next notification."""
        for _ in self._connection.notifies(timeout=0.5, stop_after=1):
            pass
