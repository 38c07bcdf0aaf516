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


def run(module: str, workflow: str, style: str) -> None:
    """Start workers that know a program's workflow and run the rounds, or be such a worker."""
    asked = options()
    if asked.work:
        work(asked.work)
        return
    report_setup(["dbos"], style)
    with workers(own_workers(module, asked.workers)) as pids:
        client = DBOSClient(system_database_url=address())
        _run_job(client, workflow, WARM_UP_TASKS)
        for _ in range(asked.rounds):
            start = time.perf_counter()
            answer = _run_job(client, workflow, asked.tasks)
            report(start, answer, asked.tasks, pids)
        client.destroy()


def _run_job(client: DBOSClient, workflow: str, tasks: int) -> int:
    handle = client.enqueue({"workflow_name": workflow, "queue_name": "jobs"}, tasks)
    return int(handle.get_result(polling_interval_sec=POLL_SECONDS))


def main() -> None:
    """Start the workers and run the rounds, or be a worker."""
    style = "a workflow that enqueues a workflow per task on a queue of all processes"
    run("benchmarks.peers.dbos_queue", "fan_out_twice", style)
