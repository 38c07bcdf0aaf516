"""Calls handlers where they belong: in the slot's thread, on an event loop, or in a child process."""

import threading
from typing import TYPE_CHECKING, Any

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext
from stageflow.errors import PermanentTaskError, RetryableTaskError
from stageflow.workflow.task import Task

if TYPE_CHECKING:
    from stageflow.worker.children import Children
    from stageflow.worker.event_loop import HandlerLoop


class HandlerRunner:
    """One event loop and one process pool for all slots of a worker, each loaded and started when it is first needed."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._loop: HandlerLoop | None = None
        self._children: Children | None = None

    def run(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
        """Call the handler and return what it returns; what it raises passes through."""
        if task.is_async:
            return self._started_loop().run(task.function(parameters, context), context)
        if task.cpu_bound:
            return self._in_pool(task, parameters, context)
        result: object = task.function(parameters, context)
        return result

    def run_alone(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
        """Call the handler in a child process of its own, because workers died over this task before.

        If it kills again, it kills the child only: the culprit is known, and no task that ran beside it is blamed. A handler
        that is defined inside a function cannot be found by a child, and runs here.

        Raises:
            PermanentTaskError: The child died.
        """
        if "<locals>" in task.function.__qualname__:
            return self.run(task, parameters, context)
        from stageflow.worker.children import ChildDiedError  # noqa: PLC0415  loaded on first need

        try:
            return _run_in_own_child(task, parameters, context)
        except ChildDiedError as error:
            msg = (
                f"{error} alone, and workers died over it before; look for exhausted memory, a crash in native code, or a kill"
            )
            raise PermanentTaskError(msg) from error

    def close(self) -> None:
        """Stop the loop and the child processes."""
        with self._lock:
            if self._loop is not None:
                self._loop.close()
                self._loop = None
            if self._children is not None:
                self._children.close()
                self._children = None

    def _in_pool(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
        """Call the handler in the pool, and once more where the pool died, which may have been a neighbour's fault.

        Raises:
            RetryableTaskError: The child that ran this task and nothing else died too.
        """
        from stageflow.worker.children import ChildDiedError  # noqa: PLC0415  loaded on first need

        children = self._started_children()
        try:
            return children.run(task, parameters, context)
        except ChildDiedError:
            with self._lock:
                if self._children is children:
                    self._children = None
        try:
            # One after another: those that together need too much memory must not be found guilty together.
            with self._one_at_a_time:
                return _run_in_own_child(task, parameters, context)
        except ChildDiedError as error:
            msg = f"{error}, and it ran nothing else: it ran out of memory, crashed in native code, or was killed"
            raise RetryableTaskError(msg) from error

    def _started_loop(self) -> "HandlerLoop":
        from stageflow.worker.event_loop import HandlerLoop  # noqa: PLC0415  loaded on first need

        with self._lock:
            if self._loop is None:
                self._loop = HandlerLoop()
            return self._loop

    def _started_children(self) -> "Children":
        from stageflow.worker.children import Children  # noqa: PLC0415  loaded on first need

        with self._lock:
            if self._children is None:
                self._children = Children(self._processes)
            return self._children


def _run_in_own_child(task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
    from stageflow.worker.children import Children  # noqa: PLC0415  loaded on first need

    child = Children(1)
    try:
        return child.run(task, parameters, context)
    finally:
        child.close()
