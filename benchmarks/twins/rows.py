"""A row per task: each transaction writes a batch of results, counts the stage down, and claims the next batch."""

import os
import time
from collections import Counter
from multiprocessing.connection import Connection as Pipe
from typing import Final, LiteralString

from benchmarks.flows import expected_total
from benchmarks.stopwatch import WrongAnswerError
from benchmarks.twins.handler import run_handler
from benchmarks.twins.scratch import PAGE_TASKS, Connection, PostgresTwin, Wakeup, connect

Done = tuple[int, int, int, str]
"""Job, stage, index and result of a task."""
Stage = tuple[int, int]

_SMALL: Final = 1000
_INSERT: Final[LiteralString] = """
insert into tasks (job_id, stage, task_index, status, payload)
select %s, 1, place - 1, 0, payload from unnest(%s::text[]) with ordinality as given (payload, place)
"""
_CLAIM: Final[LiteralString] = """
update tasks as t set status = 1
from (
    select job_id, stage, task_index from tasks where status = 0
    order by job_id, stage, task_index limit %s for update skip locked
) as c
where t.job_id = c.job_id and t.stage = c.stage and t.task_index = c.task_index
returning t.job_id, t.stage, t.task_index, t.payload
"""
_COMPLETE: Final[LiteralString] = """
update tasks as t set status = 2, result = d.result
from unnest(%s::bigint[], %s::integer[], %s::integer[], %s::text[]) as d (job_id, stage, task_index, result)
where t.job_id = d.job_id and t.stage = d.stage and t.task_index = d.task_index
"""
# In one order for all, so that finishers of many jobs cannot deadlock.
_COUNT_DOWN: Final[LiteralString] = """
with held as materialized (
    select s.job_id, s.stage, d.tasks
    from stages s join unnest(%s::bigint[], %s::integer[], %s::integer[]) as d (job_id, stage, tasks)
        on s.job_id = d.job_id and s.stage = d.stage
    order by 1, 2 for update of s
)
update stages as s set remaining = s.remaining - held.tasks from held
where s.job_id = held.job_id and s.stage = held.stage
returning s.job_id, s.stage, s.remaining
"""
_OPEN_SECOND: Final[LiteralString] = """
insert into tasks (job_id, stage, task_index, status, payload)
select job_id, 2, task_index, 0, result from tasks where job_id = any(%s) and stage = 1
"""
_COUNT_SECOND: Final[LiteralString] = """
insert into stages select job_id, 2, count(*) from tasks where job_id = any(%s) and stage = 2 group by job_id
"""
_END: Final[LiteralString] = """
update jobs as j set status = 'completed', total = s.total
from (
    select job_id, sum((result::json ->> 'value')::bigint)::bigint as total
    from tasks where job_id = any(%s) and stage = 2 group by job_id
) as s
where j.job_id = s.job_id
"""


def work(ready: Pipe, dsn: str, batch: int) -> None:
    """Be a worker process, until SIGTERM or until nobody waits for it any more."""
    parent = os.getppid()
    connection, wakeup = connect(dsn), Wakeup(dsn)
    ready.send(os.getpid())
    done: list[Done] = []
    while os.getppid() == parent:
        claimed = _exchange(connection, done, batch)
        done = [(job, stage, index, run_handler(stage, payload)) for job, stage, index, payload in claimed]
        if not done:
            wakeup.wait()


class RowsTwin(PostgresTwin):
    """A row per task, claimed and completed in batches: the limit that we quote."""

    tables = """
    create table stageflow_twin.tasks (
        job_id bigint, stage integer, task_index integer, status smallint not null, payload text not null, result text,
        primary key (job_id, stage, task_index)) with (fillfactor = 60);
    create index tasks_ready on stageflow_twin.tasks (job_id, stage, task_index) where status = 0;
    """
    work = staticmethod(work)

    def submit(self, connection: Connection, job_id: int, width: int) -> None:
        """Write a job with the tasks of its first stage, and wake the workers; a small job in one round trip."""
        if width <= _SMALL:
            payloads = [f'{{"index":{index}}}' for index in range(width)]
            with connection.pipeline(), connection.transaction():
                connection.execute("insert into jobs values (%s, 'processing', null)", (job_id,))
                connection.execute("insert into stages values (%s, 1, %s)", (job_id, width))
                connection.execute(_INSERT, (job_id, payloads))
                connection.execute("notify stageflow_twin_work")
            return
        with connection.transaction():
            connection.execute("insert into jobs values (%s, 'processing', null)", (job_id,))
            connection.execute("insert into stages values (%s, 1, %s)", (job_id, width))
            with connection.cursor().copy("copy tasks (job_id, stage, task_index, status, payload) from stdin") as copy:
                for first in range(0, width, PAGE_TASKS):
                    page = range(first, min(width, first + PAGE_TASKS))
                    copy.write("".join(f'{job_id}\t1\t{index}\t0\t{{"index":{index}}}\n' for index in page))
            connection.execute("notify stageflow_twin_work")

    def time_jobs(self, count: int, width: int) -> float:
        """Submit many jobs at once and return the seconds until the last has ended.

        Raises:
            WrongAnswerError: A result is not right.
        """
        jobs = range(self._job_id + 1, self._job_id + 1 + count)
        self._job_id += count
        start = time.perf_counter()
        self._submit_many(jobs, width)
        while self._count_ended(jobs) < count:
            for _ in self._listener.notifies(timeout=1, stop_after=1):
                pass
        seconds = time.perf_counter() - start
        query = "select distinct total from jobs where job_id between %s and %s"
        totals = self._connection.execute(query, (jobs[0], jobs[-1])).fetchall()
        if totals != [(expected_total(width),)]:
            msg = f"the twin's jobs of {width} tasks ended with {totals}, but {expected_total(width)} is right for each"
            raise WrongAnswerError(msg)
        return seconds

    def _submit_many(self, jobs: range, width: int) -> None:
        with self._connection.transaction():
            cursor = self._connection.cursor()
            with cursor.copy("copy jobs (job_id, status) from stdin") as copy:
                copy.write("".join(f"{job}\tprocessing\n" for job in jobs))
            with cursor.copy("copy stages from stdin") as copy:
                copy.write("".join(f"{job}\t1\t{width}\n" for job in jobs))
            with cursor.copy("copy tasks (job_id, stage, task_index, status, payload) from stdin") as copy:
                copy.write("".join(f'{job}\t1\t{index}\t0\t{{"index":{index}}}\n' for job in jobs for index in range(width)))
            self._connection.execute("notify stageflow_twin_work")

    def _count_ended(self, jobs: range) -> int:
        query = "select count(*) from jobs where job_id between %s and %s and status = 'completed'"
        row = self._connection.execute(query, (jobs[0], jobs[-1])).fetchone()
        return int(row[0]) if row is not None else 0


def _exchange(connection: Connection, done: list[Done], batch: int) -> list[Done]:
    """Hand in what was done and take what is next, in one transaction of two round trips."""
    closed: list[Stage] = []
    if done:
        counts = Counter((job, stage) for job, stage, _, _ in done)
        jobs, stages = zip(*counts, strict=True)
        with connection.pipeline():
            connection.execute("begin")
            connection.execute(_COMPLETE, [list(column) for column in zip(*done, strict=True)])
            cursor = connection.execute(_COUNT_DOWN, [list(jobs), list(stages), list(counts.values())])
            closed = [(job, stage) for job, stage, remaining in cursor.fetchall() if remaining == 0]
    else:
        connection.execute("begin")
    opened = _advance(connection, closed) if closed else 0
    with connection.pipeline():
        if opened > batch:  # otherwise all that was opened is claimed here
            connection.execute("notify stageflow_twin_work")
        claimed = connection.execute(_CLAIM, (batch,))
        connection.execute("commit")
        return claimed.fetchall()


def _advance(connection: Connection, closed: list[Stage]) -> int:
    """Open the second stage of some jobs and end others, in their last completion's transaction; return the tasks opened."""
    to_second = [job for job, stage in closed if stage == 1]
    to_end = [job for job, stage in closed if stage == 2]  # noqa: PLR2004  there are two stages
    opened = None
    with connection.pipeline():
        if to_second:
            opened = connection.execute(_OPEN_SECOND, (to_second,))
            connection.execute(_COUNT_SECOND, (to_second,))
        if to_end:
            connection.execute(_END, (to_end,))
            connection.execute("notify stageflow_twin_done")
    return opened.rowcount if opened is not None else 0
