"""Tasks that take a known time, and say when they ran and where: a workflow of one stage."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Final

from pydantic import Field

from benchmarks.crew import Crew, caller
from benchmarks.fleet import Fleet, work
from benchmarks.flows import registry
from benchmarks.request import Request
from benchmarks.stopwatch import PATIENCE_SECONDS, WrongAnswerError, warm_up
from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)

_SEED: Final = 12


class Timed(Contract):
    """How many tasks, and how long they take: spread evenly by chance between the shortest and the longest."""

    tasks: int = Field(ge=1)
    shortest: float = Field(gt=0)
    longest: float = Field(gt=0)
    tag: str

    @classmethod
    def fresh(cls, tasks: int, shortest: float, longest: float) -> "Timed":
        """Return the parameters of a job that nobody asked for before."""
        return cls(tasks=tasks, shortest=shortest, longest=longest, tag=os.urandom(12).hex())

    def durations(self) -> list[float]:
        """Return the seconds of each task, the same at every call."""
        chance = random.Random(_SEED)  # noqa: S311  the same work in every run, not a secret
        return [chance.uniform(self.shortest, self.longest) for _ in range(self.tasks)]


class Duration(Contract):
    """How long a task takes."""

    seconds: float


class Span(Contract):
    """When and where a task ran, by the machine's monotonic clock, which all processes share."""

    task_index: int
    started: float
    ended: float
    worker_id: str


class Spans(Contract):
    """All spans of a job."""

    spans: list[Span]


@task("wait")
def wait(parameters: Duration, context: TaskExecutionContext) -> Span:
    """Take the time: this is the work, and it needs no processor."""
    started = time.monotonic()
    time.sleep(parameters.seconds)
    return Span(task_index=context.task_index, started=started, ended=time.monotonic(), worker_id=context.worker_id)


@workflow("timed", registry=registry)
class TimedFlow(BaseController[Timed]):
    """One stage of timed tasks, whose spans are the job's result."""

    waits = stage(1, "wait", task=wait)

    @waits.plan
    def plan_waits(self, job: JobExecutionContext[Timed]) -> Iterator[Duration]:
        """One task per duration."""
        for seconds in job.parameters.durations():
            yield Duration(seconds=seconds)

    def aggregate_job_results(self, job: JobExecutionContext[Timed], stage_results: dict[int, StageResults[Any]]) -> Spans:  # noqa: ARG002
        """Collect the spans."""
        return Spans(spans=list(self.waits.of(stage_results)))


def work_timed(ready: Connection, store: str, queue: str | None, options: WorkerOptions) -> None:
    """Be a worker process that knows the timed tasks too, until SIGTERM."""
    work(ready, store, queue, options)


@contextmanager
def timed_crew(request: Request) -> Iterator[Crew]:
    """Give an app and workers that know the timed tasks, and have done a job already."""
    with (
        caller(request) as app,
        Fleet(request.workers, work_timed, request.store, request.queue, request.worker_options()) as fleet,
    ):
        warm_up(app)
        yield Crew(app=app, fleet=fleet)


def spans_of(app: Stageflow, job_id: str, parameters: Timed) -> list[Span]:
    """Wait for a job and return its spans in index order, checked: one of each task, none shorter than it must be.

    Raises:
        WrongAnswerError: The job's answer is not that.
    """
    answer = app.result(job_id, timeout=PATIENCE_SECONDS)
    spans = answer.spans if isinstance(answer, Spans) else []
    durations = parameters.durations()
    if [span.task_index for span in spans] != list(range(parameters.tasks)):
        msg = f"job {job_id} should have a span of each of {parameters.tasks} tasks, it has {len(spans)} spans"
        raise WrongAnswerError(msg)
    short = [span.task_index for span in spans if span.ended - span.started < durations[span.task_index]]
    if short:
        msg = f"tasks {short} of job {job_id} ended earlier than they can have; the clock cannot be trusted"
        raise WrongAnswerError(msg)
    return spans
