"""Procrastinate on PostgreSQL, with a barrier table of the user's own.

As its guides say: async tasks with a concurrency, a pool of connections, jobs deferred in bulk, finished jobs deleted. Handlers
that run at once commit their results together.
"""

import asyncio
import time
from typing import Any, Final

import psycopg
from procrastinate import App, PsycopgConnector

from benchmarks.peers.barrier import FINISH, OPEN_STAGE, RECORD, RESULTS, TABLES, TOTAL, Done, columns
from benchmarks.peers.batching import GroupCommit
from benchmarks.peers.driving import WARM_UP_TASKS, address, options, own_workers, report, report_setup, tell_ready, workers

AT_ONCE: Final = 20
CONNECTIONS: Final = 8

app = App(connector=PsycopgConnector(conninfo=address(), min_size=2, max_size=CONNECTIONS))


class Barrier:
    """Writes results and opens what follows, on a connection of its own."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self.results: Final = GroupCommit(self.record)

    async def open_stage(self, job: int, stage: int, values: list[int]) -> None:
        """Open a stage and defer its tasks, in one transaction."""
        async with self._connection.transaction():
            await self.ask(OPEN_STAGE, job, stage, len(values))
            name = "square" if stage == 1 else "keep"
            given = [{"job": job, "index": index, "value": value} for index, value in enumerate(values)]
            await app.configure_task(name, connection=self._connection).batch_defer_async(*given)

    async def record(self, done: list[Done]) -> None:
        """Record results; the last of a stage opens the next, or ends the job."""
        async with self._connection.transaction():
            for job, stage, remaining in await self.ask(RECORD, *columns(done)):
                if remaining == 0 and stage == 1:
                    rows = await self.ask(RESULTS, job)
                    await self.open_stage(job, 2, [value for _, value in rows])
                elif remaining == 0:
                    await self.ask(FINISH, job)

    async def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        cursor = psycopg.AsyncRawCursor(self._connection)
        await cursor.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []


async def connect() -> psycopg.AsyncConnection[Any]:
    """Return a new connection."""
    return await psycopg.AsyncConnection.connect(address(), autocommit=True)


async def work() -> None:
    """Be a worker until SIGTERM, which the worker handles."""
    barrier = Barrier(await connect())

    @app.task(name="square")
    async def square(job: int, index: int, value: int) -> None:  # noqa: ARG001  both stages take the same
        await barrier.results.add((job, 1, index, index * index))

    @app.task(name="keep")
    async def keep(job: int, index: int, value: int) -> None:
        await barrier.results.add((job, 2, index, value))

    async with app.open_async():
        tell_ready()
        await app.run_worker_async(concurrency=AT_ONCE, delete_jobs="always")


async def drive(tasks: int, rounds: int, pids: list[int]) -> None:
    """Run the rounds."""
    barrier = Barrier(await connect())
    connection = await connect()
    await connection.execute("listen w1_done")
    async with app.open_async():
        for job, width in enumerate([WARM_UP_TASKS, *[tasks] * rounds]):
            start = time.perf_counter()
            await barrier.open_stage(job, 1, [0] * width)
            async for notice in connection.notifies():
                if notice.payload == str(job):
                    break
            ((total,),) = await barrier.ask(TOTAL, job)
            if job > 0:
                report(start, total, width, pids)


async def prepare() -> None:
    """Make the tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
    async with await connect() as connection:
        await connection.execute(TABLES)


def main() -> None:
    """Start the workers and run the rounds, or be a worker."""
    asked = options()
    if asked.work:
        asyncio.run(work())
        return
    asyncio.run(prepare())
    report_setup(["procrastinate", "psycopg"], "own barrier table; handlers that run at once commit together")
    with workers(own_workers("benchmarks.peers.procrastinate_barrier", asked.workers)) as pids:
        asyncio.run(drive(asked.tasks, asked.rounds, pids))
