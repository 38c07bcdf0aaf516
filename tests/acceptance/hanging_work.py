"""A module that child processes can import: a task that never comes back by itself."""

import os
import signal
from pathlib import Path

from stageflow import Contract, RetryPolicy, TaskExecutionContext, task


class Hang(Contract):
    """Where to leave the process id, and until which attempt to hang."""

    file: str
    hangs_until: int


class Answer(Contract):
    """The result."""

    attempt: int


@task("hang_in_child", cpu_bound=True, timeout_seconds=0.5, retry=RetryPolicy(max_attempts=2, initial_seconds=0, cap_seconds=0))
def hang_in_child(parameters: Hang, context: TaskExecutionContext) -> Answer:
    """Wait for a signal that nobody sends, on the first attempts."""
    if context.attempt <= parameters.hangs_until:
        Path(parameters.file).write_text(str(os.getpid()))
        signal.pause()
    return Answer(attempt=context.attempt)
