"""Handlers that write in their tasks' transactions, where child processes find them too."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    RetryPolicy,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)

registry = JobRegistry()
TOO_MUCH = "x" * (1 << 20)


class Item(Contract):
    """What a task is to do; a result that says nothing more."""

    number: int
    deed: str = ""
    folder: str = ""


class Items(Contract):
    """Job parameters."""

    deeds: list[str]
    folder: str


class Answer(Contract):
    """A result of any size, and which process wrote it."""

    text: str
    process: int


def note_call(parameters: Item) -> None:
    """Leave a file for each call, with the process it was in, past all transactions."""
    folder = Path(parameters.folder)
    call = folder.joinpath(f"{parameters.number}.{len(list(folder.iterdir()))}")
    # Under its name only when it is whole: who waits for the call reads it at once.
    unfinished = folder.parent.joinpath(f"{folder.name}.{os.getpid()}.{call.name}")
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(call)


def calls(folder: Path, number: int) -> list[int]:
    """Return in which processes the handler of a task was called, in order."""
    return [int(path.read_text()) for path in sorted(folder.glob(f"{number}.*"), key=lambda path: int(path.suffix[1:]))]


@task("writing", retry=RetryPolicy(max_attempts=2, initial_seconds=0.01, cap_seconds=0.02))
def writing(parameters: Item, context: TaskExecutionContext) -> Answer:
    """Write a row, then do as told."""
    note_call(parameters)
    connection = context.transaction()
    connection.execute(f"insert into ledger (number) values ({parameters.number})")  # noqa: S608  a number
    text = ""
    match parameters.deed:
        case "orphan":
            connection.execute("insert into children (parent) values (7)")
        case "orphan at first" if context.attempt == 1:
            connection.execute("insert into children (parent) values (7)")
        case "too much":
            text = TOO_MUCH
        case "wait for the cancel":
            while True:
                context.check()
                time.sleep(0.01)
        case _:
            pass
    return Answer(text=text, process=os.getpid())


@task("computing", cpu_bound=True, retry=RetryPolicy(max_attempts=1))
def computing(parameters: Item, context: TaskExecutionContext) -> Item:
    """Ask for what a child cannot have."""
    context.transaction()
    return parameters


@workflow("writes", registry=registry)
class Writes(BaseController[Items]):
    """One stage of handlers that write."""

    only = stage(1, "writes", task=writing, policy=FailurePolicy.any_may_fail())

    @only.plan
    def plan_only(self, job: JobExecutionContext[Items]) -> Iterator[Item]:
        """One task a deed."""
        for number, deed in enumerate(job.parameters.deeds):
            yield Item(number=number, deed=deed, folder=job.parameters.folder)


@workflow("computes", registry=registry)
class Computes(BaseController[Items]):
    """One stage of a handler in a child process."""

    only = stage(1, "computes", task=computing, policy=FailurePolicy.any_may_fail())

    @only.plan
    def plan_only(self, job: JobExecutionContext[Items]) -> Iterator[Item]:
        """One task a deed."""
        for number, deed in enumerate(job.parameters.deeds):
            yield Item(number=number, deed=deed, folder=job.parameters.folder)
