"""A workflow whose one task waits in a child process until it is told to end."""

import os
from collections.abc import Iterator
from pathlib import Path

from stageflow import BaseController, Contract, JobExecutionContext, JobRegistry, TaskExecutionContext, stage, task, workflow

registry = JobRegistry()


class Place(Contract):
    """Parameters: a folder with a pipe ``pid``, to which the child writes who it is, and a pipe ``end``, which it reads."""

    folder: str


class Done(Contract):
    """The result."""

    pid: int


@task("wait_in_child", cpu_bound=True)
def wait_in_child(parameters: Place, context: TaskExecutionContext) -> Done:  # noqa: ARG001  the shape of a handler
    """Say who runs this, and wait."""
    (Path(parameters.folder) / "pid").write_text(str(os.getpid()))
    (Path(parameters.folder) / "end").read_text()
    return Done(pid=os.getpid())


@workflow("waiting", registry=registry)
class WaitingController(BaseController[Place]):
    """One task."""

    waits = stage(1, "wait", task=wait_in_child)

    @waits.plan
    def plan_waits(self, job: JobExecutionContext[Place]) -> Iterator[Place]:
        """Plan the task."""
        yield job.parameters
