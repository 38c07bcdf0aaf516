"""The time that a handler has."""

import math
import time
from typing import Final

from stageflow.contracts.context import StopSignal, TaskExecutionContext
from stageflow.errors import TaskTimeoutError


class TimeLimit:
    """A stop signal that also fires when the handler's time is over; the clock is this process's own and never jumps."""

    def __init__(self, seconds: float, signal: StopSignal) -> None:
        self.seconds: Final = seconds
        self.signal: Final = signal
        self._end = math.inf

    @property
    def stopping(self) -> bool:
        """Whether the handler should stop: its time is over, or its work is no longer wanted."""
        return self.is_over or self.signal.stopping

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end

    @property
    def remaining_seconds(self) -> float:
        """How much time is left; never negative."""
        return max(0.0, self._end - time.monotonic())

    def start(self) -> None:
        """Count from now: what came before, such as the start of a process, is not the handler's time."""
        self._end = time.monotonic() + self.seconds

    def error(self, context: TaskExecutionContext) -> TaskTimeoutError:
        """Return the error of a task that took too long."""
        return TaskTimeoutError(
            f"task {context.task_index} of stage {context.stage_number} ran longer than its timeout of {self.seconds:g} s; "
            f"give it less to do, or raise timeout_seconds of its task {context.task_type!r}"
        )
