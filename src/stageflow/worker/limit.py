"""The time that a handler has: its task's timeout, and a grace after its work is no longer wanted."""

import math
import time
from typing import Any, Final

from stageflow.contracts.base import Contract
from stageflow.contracts.context import StopSignal, TaskExecutionContext, TaskHost
from stageflow.errors import HostMissingError, TaskCancelledError, TaskTimeoutError

CHECK_SECONDS: Final = 0.5
"""How often to look whether a handler's work is still wanted."""

SHORTEST_WAIT: Final = 0.01
"""The shortest time between two such looks, where the grace is short."""


class TimeLimit(TaskHost):
    """A host that also says stop when the handler's time is over; the clock is this process's own and never jumps.

    Args:
        seconds: The task's timeout; infinite where it has none.
        signal: Says whether the work is still wanted.
        grace_seconds: How long the handler may go on after it is not.

    Attributes:
        killed: The handler's process was killed because of this.
        held_by: Who kept the event loop from turning when the handler's time was over; empty where nobody did.
    """

    def __init__(self, seconds: float, signal: StopSignal, grace_seconds: float) -> None:
        self.seconds: Final = seconds
        self.grace_seconds: Final = grace_seconds
        self._unwanted_since: float | None = None
        self.killed = False
        self.held_by = ""
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
    def is_grace_over(self) -> bool:
        """Whether the work has been unwanted for longer than the grace, as far as this was looked at."""
        if self._unwanted_since is None:
            if not self.signal.stopping:
                return False
            self._unwanted_since = time.monotonic()
        return time.monotonic() - self._unwanted_since >= self.grace_seconds

    def seconds_until(self, after_seconds: float) -> float:
        """Return how long it is until so many seconds after the end of the time; negative where that is past."""
        return self._end + after_seconds - time.monotonic()

    @property
    def remaining_seconds(self) -> float:
        """How much time is left; never negative."""
        return max(0.0, self._end - time.monotonic())

    def start(self) -> None:
        """Count from now: what came before, such as the start of a process, is not the handler's time."""
        self._end = time.monotonic() + self.seconds

    def note_progress(self, context: TaskExecutionContext, done: float, total: float) -> None:
        """Pass it on."""
        self._host.note_progress(context, done, total)

    def read_predecessor(self, context: TaskExecutionContext) -> Contract:
        """Pass it on."""
        return self._host.read_predecessor(context)

    def write_checkpoint(self, context: TaskExecutionContext, value: str) -> None:
        """Pass it on."""
        self._host.write_checkpoint(context, value)

    def read_checkpoint(self, context: TaskExecutionContext) -> str | None:
        """Pass it on."""
        return self._host.read_checkpoint(context)

    def open_transaction(self, context: TaskExecutionContext) -> Any:
        """Pass it on."""
        return self._host.open_transaction(context)

    @property
    def _host(self) -> TaskHost:
        if not isinstance(self.signal, TaskHost):
            msg = "no worker stands behind this context, so it can be stopped and no more; run the job with a worker"
            raise HostMissingError(msg)
        return self.signal

    def ending(self, context: TaskExecutionContext) -> TaskTimeoutError | TaskCancelledError:
        """Return the error of a task that was stopped by force: it took too long, or was not wanted any more."""
        return self.error(context) if self.is_over else stopped(context)

    def error(self, context: TaskExecutionContext) -> TaskTimeoutError:
        """Return the error of a task that took too long."""
        advice = f"give it less to do, or raise timeout_seconds of its task {context.task_type!r}"
        if self.held_by:
            advice = f"the event loop was held by {self.held_by}: let that one await, or make it a plain def"
        late = f"task {context.task_index} of stage {context.stage_number} ran longer than its timeout of {self.seconds:g} s"
        return TaskTimeoutError(f"{late}; {advice}")


def stopped(context: TaskExecutionContext) -> TaskCancelledError:
    """Return the error of a task that was stopped because its work is not wanted any more."""
    return TaskCancelledError(f"task {context.task_index} of stage {context.stage_number} was stopped: it is no longer wanted")
