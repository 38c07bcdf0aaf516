"""Calls handlers where they belong: in the slot's thread, on an event loop, or in a child process."""

import math
import threading
from typing import TYPE_CHECKING, Any

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext
from stageflow.engine.hooks import let_interrupt_pass
from stageflow.errors import PermanentTaskError, RetryableTaskError
from stageflow.telemetry import Telemetry
from stageflow.worker.limit import TimeLimit
from stageflow.workflow.task import Task

if TYPE_CHECKING:
    from stageflow.worker.call_threads import CallThreads
    from stageflow.worker.children import Children
    from stageflow.worker.event_loop import HandlerLoop


class HandlerRunner:
    """One event loop and some child processes for all slots of a worker, each loaded and started when it is first needed."""

    def __init__(
        self,
        processes: int,
        *,
        telemetry: Telemetry | None = None,
        stop_seconds: float = 5.0,
        cancel_grace_seconds: float = 10.0,
    ) -> None:
        self._processes = processes
        self._telemetry = telemetry if telemetry is not None else Telemetry()
        self._stop_seconds = stop_seconds
        self._cancel_grace_seconds = cancel_grace_seconds
        self._lock = threading.Lock()
        self._loop: HandlerLoop | None = None
        self._children: Children | None = None
        self._threads: CallThreads | None = None

    def run(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
        """Call the handler and return what it returns; what it raises passes through.

        Raises:
            TaskTimeoutError: Its task has a timeout, and it ran longer.
            TaskCancelledError: Its work is no longer wanted, and it was stopped.
        """
        if task.timeout_seconds is not None or task.is_async or self.in_child(task):
            return self._run_limited(task, parameters, context)
        result: object = task.function(parameters, context)
        return result

    def run_alone(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
        """Call the handler in a child process of its own, because workers died over this task before.

        If it kills again, it kills the child only: the culprit is known, and no task that ran beside it is blamed. A handler
        that is defined inside a function cannot be found by a child, and runs here; one that asks for a
        transaction is called again here.

        Raises:
            PermanentTaskError: The child died.
            TaskTimeoutError: Its task has a timeout, and it ran longer.
        """
        if "<locals>" in task.function.__qualname__:
            return self.run(task, parameters, context)
        from stageflow.worker.child_answer import SlotNeededError  # noqa: PLC0415  loaded on first need
        from stageflow.worker.children import Child, ChildDiedError  # noqa: PLC0415  likewise

        child, limit = Child(), self._limit_of(task, context)
        try:
            return child.run(task, parameters, context, limit)
        except ChildDiedError as error:
            msg = (
                f"{error} alone, and workers died over it before; look for exhausted memory, a crash in native code, or a kill"
            )
            raise PermanentTaskError(msg) from error
        except SlotNeededError:
            return self.run(task, parameters, context)
        finally:
            child.close()
            self._tell_of_kill(context, limit)

    def in_child(self, task: Task[Any, Any]) -> bool:
        """Return whether a handler runs in a child process."""
        return task.cpu_bound

    def close(self) -> None:
        """Stop the loop, the child processes and the idle threads."""
        with self._lock:
            started = (self._loop, self._children, self._threads)
            self._loop = self._children = self._threads = None
        for each in started:
            if each is not None:
                each.close()

    def _run_limited(
        self,
        task: Task[Any, Any],
        parameters: Contract,
        context: TaskExecutionContext,
    ) -> object:
        """Call a handler that can be stopped; whatever it does after its time is a timeout, unless its work is not wanted."""
        limit = self._limit_of(task, context)
        try:
            result = self._call_limited(task, parameters, context.model_copy(update={"signal": limit}), limit)
        except BaseException as error:
            let_interrupt_pass(error)
            if limit.is_over and not context.cancelled:
                raise limit.error(context) from error
            raise
        if limit.is_over and not context.cancelled:
            raise limit.error(context)
        return result

    def _call_limited(
        self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext, limit: TimeLimit
    ) -> object:
        if self.in_child(task):
            return self._in_other_process(task, parameters, context, limit)
        from stageflow.worker.call_threads import LeftAloneError  # noqa: PLC0415  loaded on first need

        try:
            if task.is_async:
                return self._on_loop(task, parameters, context, limit)
            return self._started_threads().run(lambda: task.function(parameters, context), limit)
        except LeftAloneError:
            self._telemetry.emit(
                "handler_abandoned",
                context.job_id,
                stage=context.stage_number,
                task_index=context.task_index,
                task_type=context.task_type,
                timeout_seconds=None if math.isinf(limit.seconds) else limit.seconds,
            )
            self._drop_blocked_loop(context)
            raise limit.ending(context) from None

    def _on_loop(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext, limit: TimeLimit) -> object:
        """Await a handler; on another loop, if one that does not await keeps it from beginning on the present one."""
        from stageflow.worker.event_loop import LoopHeldError  # noqa: PLC0415  loaded on first need

        while True:
            loop = self._started_loop()
            try:
                return loop.run(lambda: task.function(parameters, context), context, limit, self._stop_seconds)
            except LoopHeldError:
                self._drop(loop, context)

    def _limit_of(self, task: Task[Any, Any], context: TaskExecutionContext) -> TimeLimit:
        seconds = math.inf if task.timeout_seconds is None else task.timeout_seconds
        return TimeLimit(seconds, context.signal, self._cancel_grace_seconds)

    def _in_other_process(
        self,
        task: Task[Any, Any],
        parameters: Contract,
        context: TaskExecutionContext,
        limit: TimeLimit,
    ) -> object:
        from stageflow.worker.children import ChildDiedError, Children  # noqa: PLC0415  loaded on first need

        with self._lock:
            if self._children is None:
                self._children = Children(self._processes)
            children = self._children
        try:
            return children.run(task, parameters, context, limit)
        except ChildDiedError as error:
            msg = f"{error}, and it ran nothing else: it ran out of memory, crashed in native code, or was killed"
            raise RetryableTaskError(msg) from error
        finally:
            self._tell_of_kill(context, limit)

    def _tell_of_kill(self, context: TaskExecutionContext, limit: TimeLimit) -> None:
        if limit.killed:
            self._telemetry.emit(
                "handler_killed",
                context.job_id,
                stage=context.stage_number,
                task_index=context.task_index,
                task_type=context.task_type,
                timeout_seconds=None if math.isinf(limit.seconds) else limit.seconds,
            )

    def _started_loop(self) -> "HandlerLoop":
        from stageflow.worker.event_loop import HandlerLoop  # noqa: PLC0415  loaded on first need

        with self._lock:
            if self._loop is None:
                self._loop = HandlerLoop()
            return self._loop

    def _drop_blocked_loop(self, context: TaskExecutionContext) -> None:
        """Let the next async handler have another loop, if the present one is held by a handler that does not await."""
        loop = self._loop
        if loop is not None and loop.is_blocked(self._stop_seconds):
            self._drop(loop, context)

    def _drop(self, loop: "HandlerLoop", context: TaskExecutionContext) -> None:
        # Not stopped: what has begun on it still ends there, if it ever turns again.
        with self._lock:
            if self._loop is not loop:
                return
            self._loop = None
        self._telemetry.emit("loop_held", context.job_id, held_by=loop.holder())

    def _started_threads(self) -> "CallThreads":
        from stageflow.worker.call_threads import CallThreads  # noqa: PLC0415  loaded on first need

        with self._lock:
            if self._threads is None:
                self._threads = CallThreads(self._stop_seconds)
            return self._threads
