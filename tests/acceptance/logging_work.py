"""A module that child processes can import: its task logs to a file, with the filter."""

import logging
from contextlib import closing

from stageflow import Contract, TaskExecutionContext, TaskLogFilter, task


class Note(Contract):
    """Where to log."""

    file: str


@task("log_in_child", cpu_bound=True)
def log_in_child(parameters: Note, context: TaskExecutionContext) -> None:  # noqa: ARG001  the shape of a handler
    """Log one line that says whose it is."""
    with closing(logging.FileHandler(parameters.file)) as output:
        output.addFilter(TaskLogFilter())
        output.setFormatter(logging.Formatter("%(job_id)s %(stage)s %(task_index)s %(attempt)s %(message)s"))
        logger = logging.getLogger("child")
        logger.addHandler(output)
        logger.warning("at work")
