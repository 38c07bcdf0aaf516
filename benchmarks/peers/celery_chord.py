"""Celery on Redis: two chords, the second sent by the body of the first.

As the guide on optimising says for short tasks: a large prefetch multiplier. The solo pool, because each worker process then
receives, runs and answers by itself, with no pipe to a child between; and no gossip, mingling or heartbeats among workers.
"""

import sys
import time
from typing import Final
from uuid import uuid4

from celery import Celery, chord
from celery.signals import worker_ready

from benchmarks.peers.driving import WARM_UP_TASKS, address, options, report, report_setup, tell_ready, workers

WAIT_SECONDS: Final = 600

app = Celery("w1", broker=address(), backend=address())
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=128,
    worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
)


@worker_ready.connect
def announce(**_: object) -> None:
    """Tell the driver that this worker consumes."""
    tell_ready()


@app.task(name="w1.square")
def square(index: int) -> dict[str, int]:
    """Square the index."""
    return {"index": index, "value": index * index}


@app.task(name="w1.keep")
def keep(result: dict[str, int]) -> dict[str, int]:
    """Hand the square on."""
    return result


@app.task(name="w1.fan_out_again", ignore_result=True)
def fan_out_again(results: list[dict[str, int]], final_id: str) -> None:
    """Fan in, and fan out again: a task per result, whose sum is stored under an id that the caller waits for."""
    chord(keep.s(result) for result in results)(total.s().set(task_id=final_id))


@app.task(name="w1.total")
def total(results: list[dict[str, int]]) -> int:
    """Add the squares up."""
    return sum(result["value"] for result in results)


def run_job(tasks: int) -> int:
    """Run one job and return its sum."""
    final_id = str(uuid4())
    chord(square.s(index) for index in range(tasks))(fan_out_again.s(final_id))
    return int(app.AsyncResult(final_id).get(timeout=WAIT_SECONDS))


def main() -> None:
    """Start the workers and run the rounds."""
    asked = options()
    words = ["--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    command = [sys.executable, "-m", "celery", "--quiet", "--app", "benchmarks.peers.celery_chord", "worker", *words]
    report_setup(["celery", "redis", "kombu"], "two chords, the second sent by the body of the first; solo pool")
    with workers([[*command, f"--hostname=worker-{number}@%h"] for number in range(asked.workers)]) as pids:
        run_job(WARM_UP_TASKS)
        for _ in range(asked.rounds):
            start = time.perf_counter()
            answer = run_job(asked.tasks)
            report(start, answer, asked.tasks, pids)
