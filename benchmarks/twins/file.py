"""A row per task in one SQLite file, in batches, by one worker process; as durable as stageflow's SQLite store."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import ClassVar, Final, Self

from benchmarks.flows import expected_total
from benchmarks.stopwatch import WrongAnswerError
from benchmarks.twins.handler import run_handler

Done = tuple[str, int, int, int]
"""Result, job, stage and index of a task."""

LOOK_SECONDS: Final = 0.001
"""SQLite cannot notify, so a twin that waits looks again after this time."""
_TABLES: Final = """
create table jobs (job_id integer primary key, status text not null, total integer);
create table stages (job_id integer, stage integer, remaining integer not null, primary key (job_id, stage)) without rowid;
create table tasks (
    job_id integer, stage integer, task_index integer, status integer not null, payload text not null, result text,
    primary key (job_id, stage, task_index)) without rowid;
create index tasks_ready on tasks (job_id, stage, task_index) where status = 0;
"""
_CLAIM: Final = """
update tasks set status = 1 where (job_id, stage, task_index) in (
    select job_id, stage, task_index from tasks where status = 0 order by job_id, stage, task_index limit ?)
returning job_id, stage, task_index, payload
"""
_COMPLETE: Final = "update tasks set status = 2, result = ? where job_id = ? and stage = ? and task_index = ?"
_COUNT_DOWN: Final = "update stages set remaining = remaining - ? where job_id = ? and stage = ? returning remaining"
_OPEN_SECOND: Final = """
insert into tasks select job_id, 2, task_index, 0, result, null from tasks where job_id = ? and stage = 1
"""
_END: Final = """
update jobs set status = 'completed', total = (
    select sum(result ->> 'value') from tasks where job_id = ?1 and stage = 2) where job_id = ?1
"""


def work(ready: Pipe, path: str, batch: int) -> None:
    """Be the worker process, until SIGTERM or until nobody waits for it any more."""
    parent = os.getppid()
    connection = _connect(path)
    ready.send(os.getpid())
    done: list[Done] = []
    while os.getppid() == parent:
        claimed = _exchange(connection, done, batch)
        done = [(run_handler(stage, payload), job, stage, index) for job, stage, index, payload in claimed]
        if not done:
            time.sleep(LOOK_SECONDS)


class FileTwin:
    """A hand-written fan-out on a SQLite file of its own, which is gone after the block."""

    work: ClassVar[Callable[..., None]] = staticmethod(work)

    def __init__(self, path: str, batch: int) -> None:
        self.dsn: Final = path
        self.batch: Final = batch
        self._job_id = 0

    def __enter__(self) -> Self:
        self._remove()
        with closing(_connect(self.dsn)) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.executescript(_TABLES)
        self._connection = _connect(self.dsn)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._remove()

    def time_job(self, width: int) -> float:
        """Submit a job and return the seconds until its result was read.

        Raises:
            WrongAnswerError: The result is not right.
        """
        self._job_id += 1
        start = time.perf_counter()
        self._submit(width)
        while (row := self._ended()) is None:
            time.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - start
        if row != (expected_total(width),):
            msg = f"the twin's job of {width} tasks ended with {row}, but {expected_total(width)} is right"
            raise WrongAnswerError(msg)
        return seconds

    def _submit(self, width: int) -> None:
        job_id = self._job_id
        self._connection.execute("begin immediate")
        self._connection.execute("insert into jobs values (?, 'processing', null)", (job_id,))
        self._connection.execute("insert into stages values (?, 1, ?)", (job_id, width))
        rows = ((job_id, index, f'{{"index":{index}}}') for index in range(width))
        self._connection.executemany("insert into tasks values (?, 1, ?, 0, ?, null)", rows)
        self._connection.execute("commit")

    def _ended(self) -> tuple[int] | None:
        query = "select total from jobs where job_id = ? and status = 'completed'"
        row: tuple[int] | None = self._connection.execute(query, (self._job_id,)).fetchone()
        return row

    def _remove(self) -> None:
        for ending in ("", "-wal", "-shm"):
            Path(f"{self.dsn}{ending}").unlink(missing_ok=True)


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("pragma synchronous = full")
    connection.execute("pragma cache_size = -16000")
    return connection


def _exchange(connection: sqlite3.Connection, done: list[Done], batch: int) -> list[tuple[int, int, int, str]]:
    """Hand in what was done (all of one stage) and take what is next, in one transaction."""
    if not done and connection.execute("select 1 from tasks where status = 0 limit 1").fetchone() is None:
        return []
    connection.execute("begin immediate")
    if done:
        _, job, stage, _ = done[0]
        connection.executemany(_COMPLETE, done)
        ((remaining,),) = connection.execute(_COUNT_DOWN, (len(done), job, stage)).fetchall()
        if remaining == 0:
            _advance(connection, job, stage)
    claimed = connection.execute(_CLAIM, (batch,)).fetchall()
    connection.execute("commit")
    return claimed


def _advance(connection: sqlite3.Connection, job: int, stage: int) -> None:
    if stage == 1:
        opened = connection.execute(_OPEN_SECOND, (job,)).rowcount
        connection.execute("insert into stages values (?, 2, ?)", (job, opened))
    else:
        connection.execute(_END, (job,))
