"""Ranges are claimed, results are appended by COPY, and no task's row is ever updated; stage 2 is planned by Python."""

import os
from multiprocessing.connection import Connection as Pipe
from typing import Final, LiteralString

from pydantic_core import from_json

from benchmarks.twins.handler import run_handler
from benchmarks.twins.scratch import PAGE_TASKS, Connection, PostgresTwin, Wakeup, connect

Range = tuple[int, int, int, int, int]
"""Id, job, stage, first and last of a range of tasks."""

_CLAIM: Final[LiteralString] = """
update ranges set state = 1
where range_id = (select range_id from ranges where state = 0 order by range_id limit 1 for update skip locked)
returning range_id, job_id, stage, first, last
"""
_READ: Final[LiteralString] = """
select task_index, payload from tasks where job_id = %s and stage = %s and task_index >= %s and task_index < %s
"""
_COUNT_DOWN: Final[LiteralString] = """
update stages set remaining = remaining - %s where job_id = %s and stage = %s returning remaining
"""
_ADD_RANGES: Final[LiteralString] = """
insert into ranges (job_id, stage, first, last, state)
select %s, %s, first, least(first + %s, %s), 0 from generate_series(0, %s - 1, %s) as first
"""
_RESULTS: Final[LiteralString] = "select task_index, result from results where job_id = %s and stage = %s order by task_index"


def work(ready: Pipe, dsn: str, batch: int) -> None:
    """Be a worker process, until SIGTERM or until nobody waits for it any more."""
    parent = os.getppid()
    connection, wakeup = connect(dsn), Wakeup(dsn)
    ready.send(os.getpid())
    held: Range | None = None
    lines = ""
    while os.getppid() == parent:
        held, tasks = _exchange(connection, held, lines, batch)
        if held is None:
            wakeup.wait()
        else:
            _, job, stage, _, _ = held
            lines = "".join([f"{job}\t{stage}\t{index}\t{run_handler(stage, payload)}\n" for index, payload in tasks])


class RangesTwin(PostgresTwin):
    """Ranges of tasks, claimed by one row each: what a design without updates of tasks can reach."""

    tables = """
    create table stageflow_twin.tasks (job_id bigint, stage integer, task_index integer, payload text not null);
    create index tasks_by_index on stageflow_twin.tasks (job_id, stage, task_index);
    create table stageflow_twin.results (job_id bigint, stage integer, task_index integer, result text not null);
    create index results_by_index on stageflow_twin.results (job_id, stage, task_index);
    create table stageflow_twin.ranges (
        range_id bigint generated always as identity, job_id bigint, stage integer, first integer, last integer,
        state smallint not null);
    create index ranges_ready on stageflow_twin.ranges (range_id) where state = 0;
    """
    work = staticmethod(work)

    def submit(self, connection: Connection, job_id: int, width: int) -> None:
        """Write a job with the tasks and ranges of its first stage, and wake the workers."""
        with connection.transaction():
            connection.execute("insert into jobs values (%s, 'processing', null)", (job_id,))
            connection.execute("insert into stages values (%s, 1, %s)", (job_id, width))
            with connection.cursor().copy("copy tasks from stdin") as copy:
                for first in range(0, width, PAGE_TASKS):
                    page = range(first, min(width, first + PAGE_TASKS))
                    copy.write("".join(f'{job_id}\t1\t{index}\t{{"index":{index}}}\n' for index in page))
            connection.execute(_ADD_RANGES, (job_id, 1, self.batch, width, width, self.batch))
            connection.execute("notify stageflow_twin_work")


def _exchange(
    connection: Connection,
    held: Range | None,
    lines: str,
    batch: int,
) -> tuple[Range | None, list[tuple[int, str]]]:
    """Append the results of the held range and take the next range with its tasks, in one transaction."""
    with connection.transaction():
        if held is not None:
            _, job, stage, first, last = held
            with connection.cursor().copy("copy results from stdin") as copy:
                copy.write(lines)
            row = connection.execute(_COUNT_DOWN, (last - first, job, stage)).fetchone()
            if row == (0,):
                _advance(connection, job, stage, batch)
        claimed: Range | None = connection.execute(_CLAIM).fetchone()
        if claimed is None:
            return None, []
        return claimed, connection.execute(_READ, claimed[1:]).fetchall()


def _advance(connection: Connection, job: int, stage: int, batch: int) -> None:
    with connection.cursor(name="results") as results:
        results.itersize = PAGE_TASKS
        results.execute(_RESULTS, (job, stage))
        if stage == 1:
            width = 0
            reader = results
            while page := reader.fetchmany(PAGE_TASKS):
                width += len(page)
                with connection.cursor().copy("copy tasks from stdin") as copy:
                    copy.write("".join([f"{job}\t2\t{index}\t{result}\n" for index, result in page]))
            connection.execute("insert into stages values (%s, 2, %s)", (job, width))
            connection.execute(_ADD_RANGES, (job, 2, batch, width, width, batch))
            connection.execute("notify stageflow_twin_work")
        else:
            total = sum(from_json(result)["value"] for _, result in results)
            connection.execute("update jobs set status = 'completed', total = %s where job_id = %s", (total, job))
            connection.execute("notify stageflow_twin_done")
