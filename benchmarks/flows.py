"""The work: a fan-out and fan-in of two stages (W1). Many small jobs (W2) are the same workflow with three tasks a stage."""

import os
from collections.abc import Iterator
from typing import Any

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)

registry = JobRegistry()


class Width(Contract):
    """How many tasks each stage has; the tag makes a job of its own of each request."""

    width: int
    tag: str

    @classmethod
    def fresh(cls, width: int) -> "Width":
        """Return the parameters of a job that nobody asked for before."""
        return cls(width=width, tag=os.urandom(12).hex())


class Index(Contract):
    """Which task of its stage it is."""

    index: int


class Square(Contract):
    """An index and its square."""

    index: int
    value: int


class Total(Contract):
    """The sum of the squares."""

    total: int


@task("square")
def square(parameters: Index, context: TaskExecutionContext) -> Square:  # noqa: ARG001  the shape of a handler
    """Square the index."""
    return Square(index=parameters.index, value=parameters.index * parameters.index)


@task("keep")
def keep(parameters: Square, context: TaskExecutionContext) -> Square:  # noqa: ARG001  the shape of a handler
    """Hand the square on."""
    return parameters


@workflow("fanout", registry=registry)
class FanOut(BaseController[Width]):
    """N squares, a barrier, N tasks that each get a square, a barrier, the sum."""

    squares = stage(1, "square", task=square)
    kept = stage(2, "keep", task=keep, after=squares)

    @squares.plan
    def plan_squares(self, job: JobExecutionContext[Width]) -> Iterator[Index]:
        """One task per index."""
        for index in range(job.parameters.width):
            yield Index(index=index)

    @kept.plan
    def plan_kept(self, job: JobExecutionContext[Width], squares: StageResults[Square]) -> Iterator[Square]:  # noqa: ARG002
        """One task per square."""
        yield from squares

    def aggregate_job_results(self, job: JobExecutionContext[Width], stage_results: dict[int, StageResults[Any]]) -> Total:  # noqa: ARG002
        """Add the squares up."""
        return Total(total=sum(kept.value for kept in self.kept.of(stage_results)))


def expected_total(width: int) -> int:
    """Return what a job of this width must answer: the sum of the squares below ``width``, in closed form."""
    return (width - 1) * width * (2 * width - 1) // 6
