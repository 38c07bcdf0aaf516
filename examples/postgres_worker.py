"""Submit here, work in another process: two processes that share nothing but a PostgreSQL database.

The database's address comes from the environment, where other users of the machine cannot read it:

    STAGEFLOW_STORE=postgresql://user@host/database python examples/postgres_worker.py
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from pydantic import Field

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)


class Limits(Contract):
    """What the job is submitted with: count the primes below ``parts * width``, in parts."""

    parts: int = Field(default=8, ge=1)
    width: int = Field(default=1000, ge=1)


class Span(Contract):
    """What a task of stage 1 gets."""

    first: int
    last: int


class Primes(Contract):
    """What it returns, with the process that counted."""

    count: int
    process: int


class Total(Contract):
    """What stage 2 gets and returns."""

    count: int
    processes: list[int]


@task("primes_count")
def count_primes(parameters: Span, context: TaskExecutionContext) -> Primes:
    """Count the primes of ``[first, last)`` by trial division."""
    count = 0
    for number in range(max(2, parameters.first), parameters.last):
        context.check()
        count += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
    return Primes(count=count, process=os.getpid())


@task("primes_total")
def pass_on(parameters: Total, context: TaskExecutionContext) -> Total:
    """Pass the total on."""
    return parameters


@workflow("primes")
class PrimesController(BaseController[Limits]):
    """Count in parts, then add."""

    parts = stage(1, "count", task=count_primes)
    total = stage(2, "total", task=pass_on, after=parts)

    @parts.plan
    def plan_parts(self, job: JobExecutionContext[Limits]) -> Iterator[Span]:
        """Plan the parts."""
        width = job.parameters.width
        for part in range(job.parameters.parts):
            yield Span(first=part * width, last=(part + 1) * width)

    @total.plan
    def plan_total(self, job: JobExecutionContext[Limits], parts: StageResults[Primes]) -> Iterator[Total]:
        """Plan the sum."""
        counted = list(parts)
        yield Total(count=sum(part.count for part in counted), processes=sorted({part.process for part in counted}))

    def aggregate_job_results(self, job: JobExecutionContext[Limits], stage_results: dict[int, StageResults[Total]]) -> Total:
        """Answer with the total."""
        return self.total.of(stage_results)[0]


def work(store: str) -> None:
    """Be a worker until SIGTERM comes: what ``stageflow worker`` does."""
    with Stageflow(store) as app:
        worker = app.worker()
        signal.signal(signal.SIGTERM, lambda _number, _frame: worker.request_stop())
        worker.run()


def submit(store: str) -> None:
    """Submit a job, start a worker in another process, and wait for the answer."""
    with Stageflow(store) as app:
        app.migrate()
        job = app.submit(PrimesController, Limits(), new_run=True).job
        worker = subprocess.Popen([sys.executable, __file__, "work"])  # noqa: S603  this very program
        try:
            total = app.result(job.job_id, Total, timeout=60)
        finally:
            worker.terminate()
            worker.wait(60)
    print(f"{total.count} primes below 8000")
    print(f"counted in the worker's process: {total.processes == [worker.pid]}")
    print(f"the worker stopped cleanly: {worker.returncode == 0}")


if __name__ == "__main__":
    if "STAGEFLOW_STORE" not in os.environ:
        sys.exit("set STAGEFLOW_STORE to the address of a database, postgresql://user@host/database")
    if sys.argv[1:] == ["work"]:
        work(os.environ["STAGEFLOW_STORE"])
    else:
        submit(os.environ["STAGEFLOW_STORE"])
