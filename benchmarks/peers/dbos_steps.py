"""DBOS on PostgreSQL: a workflow that runs a step per task, at once but all in its own process.

The other way that its documentation has to run many things: less work for the database, but no more than one process.
"""

import asyncio

from dbos import DBOS

from benchmarks.peers.dbos_queue import Square, run


@DBOS.step(name="square_step")
async def square(index: int) -> Square:
    """Square the index."""
    return {"index": index, "value": index * index}


@DBOS.step(name="keep_step")
async def keep(result: Square) -> Square:
    """Hand the square on."""
    return result


@DBOS.workflow(name="steps_twice")
async def steps_twice(tasks: int) -> int:
    """Fan out, in, out again, and add up."""
    squares = await asyncio.gather(*(square(index) for index in range(tasks)))
    kept = await asyncio.gather(*(keep(result) for result in squares))
    return sum(result["value"] for result in kept)


def main() -> None:
    """Start the workers and run the rounds, or be a worker."""
    run("benchmarks.peers.dbos_steps", "steps_twice", "a workflow with a step per task, all in the process of the workflow")
