"""What a user of any release runs, in a process of its own: ``python release.py STORE migrate|submit|work [LEDGER]``.

It says only what every release from 0.1.0 on understands; the release is the one on the path.
"""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    RetryableTaskError,
    RetryPolicy,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)

registry = JobRegistry()
NUMBERS = 60
SHAPES = ("plain", "retried", "partly_failed")


class Batch(Contract):
    """Job parameters."""

    shape: str
    ledger: str


class Item(Contract):
    """Task parameters."""

    index: int
    shape: str
    ledger: str


class Done(Contract):
    """Task result."""

    index: int


class Total(Contract):
    """Job result."""

    total: int


@task("upgrade_work", retry=RetryPolicy(max_attempts=3, initial_seconds=0.2, jitter=False))
def work(parameters: Item, context: TaskExecutionContext) -> Done:
    """Take a while, and note the call in the ledger; some fail once, some for good."""
    time.sleep(0.02)
    with Path(parameters.ledger).open("a") as ledger:
        ledger.write(f"{context.job_id} {context.stage_number} {context.task_index}\n")
    if parameters.shape == "retried" and parameters.index % 7 == 0 and context.attempt == 1:
        msg = "not yet"
        raise RetryableTaskError(msg)
    if parameters.shape == "partly_failed" and parameters.index == 3:
        raise ValueError(parameters.index)
    return Done(index=parameters.index)


@workflow("upgrade", registry=registry)
class UpgradeController(BaseController[Batch]):
    """Two stages; the answer is the sum over the second."""

    works = stage(1, "work", task=work, policy=FailurePolicy.at_least(50))
    again = stage(2, "again", task=work, after=works, policy=FailurePolicy.at_least(50))

    @works.plan
    def plan_works(self, job: JobExecutionContext[Batch]) -> Iterator[Item]:
        """One task per number."""
        for index in range(NUMBERS):
            yield Item(index=index, shape=job.parameters.shape, ledger=job.parameters.ledger)

    @again.plan
    def plan_again(self, job: JobExecutionContext[Batch], works: StageResults[Done]) -> Iterator[Item]:
        """One task per result."""
        for done in works:
            yield Item(index=done.index, shape="plain", ledger=job.parameters.ledger)

    def aggregate_job_results(self, job: JobExecutionContext[Batch], stage_results: dict[int, StageResults[Any]]) -> Total:  # noqa: ARG002
        """Add the numbers up."""
        return Total(total=sum(done.index for done in self.again.of(stage_results)))


def make_app(store: str) -> Stageflow:
    """Return an app whose leases are short."""
    options = WorkerOptions(slots=2, lease_seconds=3.0, beat_seconds=0.5, recover_seconds=0.5, poll_seconds=0.3)
    return Stageflow(store, registry=registry, options=options)


def be_worker(app: Stageflow) -> None:
    """Work until SIGTERM comes."""
    worker = app.worker()
    signal.signal(signal.SIGTERM, lambda *_: worker.request_stop())
    worker.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not worker.stopping:
        signal.pause()
    worker.stop()


def main(store: str, command: str, *arguments: str) -> None:
    """Do what is asked."""
    with make_app(store) as app:
        match command:
            case "migrate":
                app.migrate()
            case "submit":
                requests = [Batch(shape=shape, ledger=arguments[0]) for shape in SHAPES]
                for submission in app.submit_many(UpgradeController, requests, new_run=True):
                    sys.stdout.write(f"{submission.job.job_id}\n")
            case "work":
                be_worker(app)


if __name__ == "__main__":
    main(*sys.argv[1:])
