"""PgQueuer on PostgreSQL, with a barrier table of the user's own.

As its guide on performance says: its autovacuum settings, a direct connection for the queue manager, large batches for short
jobs, jobs enqueued in bulk; durable tables. Handlers that run at once commit their results together.
"""

import asyncio
import json
import signal
import time
from datetime import timedelta
from typing import Any, Final

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

from benchmarks.peers.barrier import FINISH, OPEN_STAGE, RECORD, RESULTS, TABLES, TOTAL, Done, columns
from benchmarks.peers.batching import GroupCommit
from benchmarks.peers.driving import WARM_UP_TASKS, address, options, own_workers, report, report_setup, tell_ready, workers

BATCH: Final = 200


class Barrier:
    """Writes results and opens what follows, on a connection of its own."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._queries = Queries(AsyncpgDriver(connection))

    async def open_stage(self, job: int, stage: int, values: list[int]) -> None:
        """Open a stage and enqueue its tasks, in one transaction."""
        payloads = [json.dumps({"job": job, "index": index, "value": value}).encode() for index, value in enumerate(values)]
        async with self._connection.transaction():
            await self._connection.execute(OPEN_STAGE, job, stage, len(values))
            names = ["square" if stage == 1 else "keep"] * len(values)
            await self._queries.enqueue(names, list(payloads), [0] * len(values))

    async def record(self, done: list[Done]) -> None:
        """Record results; the last of a stage opens the next, or ends the job."""
        async with self._connection.transaction():
            for job, stage, remaining in await self._connection.fetch(RECORD, *columns(done)):
                if remaining == 0 and stage == 1:
                    rows = await self._connection.fetch(RESULTS, job)
                    await self.open_stage(job, 2, [row["value"] for row in rows])
                elif remaining == 0:
                    await self._connection.execute(FINISH, job)


async def work() -> None:
    """Be a worker until SIGTERM."""
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(address())))
    results = GroupCommit(Barrier(await asyncpg.connect(address())).record)

    @queue.entrypoint("square")
    async def square(job: Job) -> None:
        given = json.loads(job.payload or b"")
        await results.add((given["job"], 1, given["index"], given["index"] * given["index"]))

    @queue.entrypoint("keep")
    async def keep(job: Job) -> None:
        given = json.loads(job.payload or b"")
        await results.add((given["job"], 2, given["index"], given["value"]))

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
    tell_ready()
    await queue.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=1))


async def drive(tasks: int, rounds: int, pids: list[int]) -> None:
    """Run the rounds."""
    connection = await asyncpg.connect(address())
    barrier = Barrier(await asyncpg.connect(address()))
    done: asyncio.Queue[int] = asyncio.Queue()
    await connection.add_listener("w1_done", lambda *notice: done.put_nowait(int(notice[3])))
    for job, width in enumerate([WARM_UP_TASKS, *[tasks] * rounds]):
        start = time.perf_counter()
        await barrier.open_stage(job, 1, [0] * width)
        while await done.get() != job:
            pass
        total = await connection.fetchval(TOTAL, job)
        if job > 0:
            report(start, total, width, pids)


async def prepare() -> None:
    """Make the tables."""
    connection = await asyncpg.connect(address())
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.optimize_autovacuum()
    await connection.execute(TABLES)
    await connection.close()


def main() -> None:
    """Start the workers and run the rounds, or be a worker."""
    asked = options()
    if asked.work:
        uvloop.run(work())
        return
    uvloop.run(prepare())
    report_setup(["pgqueuer", "asyncpg", "uvloop"], "own barrier table; handlers that run at once commit together")
    with workers(own_workers("benchmarks.peers.pgqueuer_barrier", asked.workers)) as pids:
        uvloop.run(drive(asked.tasks, asked.rounds, pids))
