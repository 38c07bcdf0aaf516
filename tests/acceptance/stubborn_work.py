"""A module that child processes can import: tasks that do not stop when they are told to."""

import os
import time
from pathlib import Path

from stageflow import Contract, TaskExecutionContext, task


class Stubborn(Contract):
    """Where to leave the process id; a task that finds it there does not hang."""

    file: str
    obeys: bool = False


class Done(Contract):
    """The result: the process that ran the task."""

    pid: int


@task("stubborn_in_child", cpu_bound=True)
def stubborn_in_child(parameters: Stubborn, context: TaskExecutionContext) -> Done:
    """Go on for ever, or until told to stop, if this is the first call."""
    file = Path(parameters.file)
    if not file.exists():
        draft = file.with_suffix(".draft")
        draft.write_text(str(os.getpid()))
        draft.rename(file)
        while not (parameters.obeys and context.cancelled):
            time.sleep(0.02)
    return Done(pid=os.getpid())
