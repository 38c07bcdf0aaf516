"""A module that child processes can import: the task that runs in one of them says so."""

import os

from stageflow import Contract, TaskExecutionContext, task


class Power(Contract):
    """Parameters."""

    base: int
    exponent: int


class Powered(Contract):
    """The result, and who computed it."""

    value: int
    process: int


@task("cpu_bound_power", cpu_bound=True)
def power(parameters: Power, context: TaskExecutionContext) -> Powered:
    """Compute a power in a child process."""
    if parameters.exponent < 0:
        msg = f"task {context.task_index} has a negative exponent"
        raise ValueError(msg)
    return Powered(value=parameters.base**parameters.exponent, process=os.getpid())
