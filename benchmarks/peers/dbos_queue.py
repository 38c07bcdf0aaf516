"""DBOS on PostgreSQL: a workflow that enqueues a workflow per task, as its guide on queues shows, on two processes.

Its polling intervals, a second each by default, are lowered so that they do not decide the figure.
"""

import signal
import time
from typing import Final, TypedDict

from dbos import DBOS, DBOSClient, DBOSConfig

from benchmarks.peers.driving import WARM_UP_TASKS, address, options, own_workers, report, report_setup, tell_ready, workers

POLL_SECONDS: Final = 0.02
AT_ONCE: Final = 100


class Square(TypedDict):
    """An index and its square."""

    index: int
    value: int


@DBOS.workflow(name="square")
def square(index: int) -> Square:
    """Square the index."""
    return {"index": index, "value": index * index}


@DBOS.workflow(name="keep")
def keep(result: Square) -> Square:
    """Hand the square on."""
    return result


@DBOS.workflow(name="fan_out_twice")
def fan_out_twice(tasks: int) -> int:
    """Fan out, in, out again, and add up."""
    first = [DBOS.enqueue_workflow("tasks", square, index) for index in range(tasks)]
    squares = [handle.get_result(polling_interval_sec=POLL_SECONDS) for handle in first]
    second = [DBOS.enqueue_workflow("tasks", keep, result) for result in squares]
    return sum(handle.get_result(polling_interval_sec=POLL_SECONDS)["value"] for handle in second)


def work(name: str) -> None:
    """Be a worker until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before any thread, so that only sigwait takes it
    configuration: DBOSConfig = {
        "name": "fan-out",
        "system_database_url": address(),
        "executor_id": name,
        "application_version": "1",
        "log_level": "WARNING",
    }
    DBOS(config=configuration)
    DBOS.launch()
    DBOS.register_queue("jobs", polling_interval_sec=POLL_SECONDS)
    DBOS.register_queue("tasks", worker_concurrency=AT_ONCE, polling_interval_sec=POLL_SECONDS)
    tell_ready()
    signal.sigwait({signal.SIGTERM})
    DBOS.destroy()


def run_job(client: DBOSClient, tasks: int) -> int:
    """Run one job and return its sum."""
    handle = client.enqueue({"workflow_name": "fan_out_twice", "queue_name": "jobs"}, tasks)
    return int(handle.get_result(polling_interval_sec=POLL_SECONDS))


def main() -> None:
    """Start the workers and run the rounds, or be a worker."""
    asked = options()
    if asked.work:
        work(asked.work)
        return
    report_setup(["dbos"], "a workflow that enqueues a workflow per task on a queue of both processes")
    with workers(own_workers("benchmarks.peers.dbos_queue", asked.workers)) as pids:
        client = DBOSClient(system_database_url=address())
        run_job(client, WARM_UP_TASKS)
        for _ in range(asked.rounds):
            start = time.perf_counter()
            answer = run_job(client, asked.tasks)
            report(start, answer, asked.tasks, pids)
        client.destroy()
