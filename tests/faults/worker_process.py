"""A worker in a process of its own, to be killed: run as a script with a store's URL and the ledger's path."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)

registry = JobRegistry()


class Batch(Contract):
    """Job parameters: how many tasks, how long each takes, and where handlers write that they ran."""

    count: int
    seconds: float
    ledger: str
    killer: int = -1
    planner_dies_at: int = -1


class Item(Contract):
    """Task parameters."""

    index: int
    seconds: float
    ledger: str
    kills: bool


class Done(Contract):
    """Task result."""

    index: int


class Total(Contract):
    """Job result."""

    total: int


@task("work")
def work(parameters: Item, context: TaskExecutionContext) -> Done:
    """Take a while, note the call in the ledger; one chosen task kills its own process instead."""
    if parameters.kills:
        signal.raise_signal(signal.SIGKILL)
    time.sleep(parameters.seconds)
    with Path(parameters.ledger).open("a") as ledger:
        ledger.write(f"{context.task_index}\n")
    return Done(index=parameters.index)


@task("check")
def check(parameters: Done, context: TaskExecutionContext) -> Done:  # noqa: ARG001  the shape of a handler
    """Pass the number on."""
    return parameters


def die_once(mark: Path) -> None:
    """Kill this process, unless another one died so before."""
    if not mark.exists():
        mark.touch()
        signal.raise_signal(signal.SIGKILL)


@workflow("batch", registry=registry)
class BatchController(BaseController[Batch]):
    """Two stages; the answer is the sum over the second."""

    works = stage(1, "work", task=work)
    checks = stage(2, "check", task=check, after=works)

    @works.plan
    def plan_works(self, job: JobExecutionContext[Batch]) -> Iterator[Item]:
        """One task per index."""
        batch = job.parameters
        for index in range(batch.count):
            if index == batch.planner_dies_at:
                die_once(Path(f"{batch.ledger}.died"))
            yield Item(index=index, seconds=batch.seconds, ledger=batch.ledger, kills=index == batch.killer)

    @checks.plan
    def plan_checks(self, job: JobExecutionContext[Batch], works: StageResults[Done]) -> Iterator[Done]:  # noqa: ARG002
        """One task per result."""
        yield from works

    def aggregate_job_results(self, job: JobExecutionContext[Batch], stage_results: dict[int, StageResults[Any]]) -> Total:  # noqa: ARG002
        """Add the numbers up."""
        return Total(total=sum(done.index for done in self.checks.of(stage_results)))


def make_app(store: str) -> Stageflow:
    """Return an app whose leases are short."""
    options = WorkerOptions(slots=3, lease_seconds=1.5, beat_seconds=0.4, recover_seconds=0.3, poll_seconds=0.3)
    return Stageflow(store, registry=registry, options=options)


if __name__ == "__main__":
    worker = make_app(sys.argv[1]).worker()
    signal.signal(signal.SIGTERM, lambda *_: worker.request_stop())
    worker.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not worker.stopping:
        signal.pause()
    worker.stop()
