"""A module that child processes can import: a task that asks its worker for all that a context gives."""

import os
import threading
from pathlib import Path

from stageflow import Contract, RetryPolicy, TaskCancelledError, TaskExecutionContext, task


class Number(Contract):
    """Parameters and results."""

    number: int


@task("first_number")
def first_number(parameters: Number, context: TaskExecutionContext) -> Number:  # noqa: ARG001  the shape of a handler
    """Give the stage after something to ask for."""
    return parameters


@task(
    "ask_from_child",
    cpu_bound=True,
    predecessor=Number,
    timeout_seconds=60,
    retry=RetryPolicy(max_attempts=2, initial_seconds=0, cap_seconds=0),
)
def ask_from_child(parameters: Number, context: TaskExecutionContext) -> Number:
    """Go on where the attempt before was, with the result of the stage before."""
    context.progress(context.attempt, 2)
    place = context.last_checkpoint(Number)
    if place is None:
        context.checkpoint(Number(number=context.predecessor(Number).number + parameters.number))
        context.check()
        msg = "after the checkpoint"
        raise ConnectionError(msg)
    return Number(number=100 * context.attempt + place.number)


@task("err_in_child", cpu_bound=True, retry=RetryPolicy(max_attempts=1))
def err_in_child(parameters: Number, context: TaskExecutionContext) -> None:
    """Ask for what cannot be had, or until told to stop."""
    match parameters.number:
        case 0:
            context.checkpoint(parameters.number)  # type: ignore[arg-type]
        case 1:
            context.predecessor()
        case 2:
            while not context.cancelled:
                context.progress(1, 2)
                threading.Event().wait(0.05)
            raise TaskCancelledError
        case _:
            context.checkpoint(parameters)


class Meeting(Contract):
    """Where the next attempt of a task that dies shows that it has begun."""

    file: str
    dies: bool


@task("die_in_child", cpu_bound=True, retry=RetryPolicy(max_attempts=2, initial_seconds=0, cap_seconds=0))
def die_in_child(parameters: Meeting, context: TaskExecutionContext) -> Number:
    """End the process at the first attempt; or wait, in another, until somebody did and began anew."""
    if parameters.dies and context.attempt == 1:
        os._exit(1)
    if parameters.dies:
        Path(parameters.file).touch()
    while not Path(parameters.file).exists():
        threading.Event().wait(0.02)
    return Number(number=context.attempt)
