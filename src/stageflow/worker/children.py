"""Child processes that run handlers. Loaded when the first of them is needed; only JSON text goes in and out."""

import asyncio
import importlib
import inspect
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any, Final, cast

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext
from stageflow.errors import PermanentTaskError, StageflowError, TaskTimeoutError
from stageflow.telemetry import running_task
from stageflow.worker.limit import TimeLimit
from stageflow.workflow.task import Task

_KILL: Final = signal.SIGTERM if os.name == "nt" else signal.SIGKILL
"""What ends a process at once, also one that is busy in native code."""


class ChildDiedError(StageflowError):
    """The process that ran a handler is gone."""


class Children:
    """A pool of child processes, made anew when one of them dies."""

    def __init__(self, processes: int) -> None:
        self._pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))

    def run(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
        """Call the handler in a child and return what it returns.

        Raises:
            ChildDiedError: A child of the pool died; the pool is of no further use.
        """
        with _deaths(context):
            return _result(task, self._call(task, parameters, context).result())

    def run_limited(
        self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext, limit: TimeLimit
    ) -> object:
        """Call the handler in the one child of this pool; kill it when the time is over.

        The time begins when the child is up and has imported the handler's module.

        Raises:
            TaskTimeoutError: The child was killed; the pool is of no further use.
            ChildDiedError: The child died by itself; likewise.
        """
        with _deaths(context):
            pid = self._pool.submit(_import_in_child, task.function.__module__).result()
            limit.start()
            answer = self._call(task, parameters, context)
            wait([answer], timeout=limit.remaining_seconds)
            if answer.done():
                return _result(task, answer.result())
        os.kill(pid, _KILL)
        self._pool.shutdown()
        raise limit.error(context)

    def _call(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> "Future[str | None]":
        function = task.function
        return self._pool.submit(
            _call_in_child,
            function.__module__,
            function.__qualname__,
            parameters.to_json(),
            context.to_json(),
        )

    def close(self) -> None:
        """Stop the children."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class LimitedChildren:
    """Child processes for handlers that have a timeout: each a pool of one, so that its death is nobody else's."""

    def __init__(self, processes: int) -> None:
        self._free = threading.Semaphore(processes)
        self._idle: SimpleQueue[Children] = SimpleQueue()

    def run(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext, limit: TimeLimit) -> object:
        """Call the handler in a child as soon as one is free; see :meth:`Children.run_limited`."""
        with self._free:
            child = self._idle_child()
            try:
                result = child.run_limited(task, parameters, context, limit)
            except (ChildDiedError, TaskTimeoutError):
                child.close()
                raise
            except BaseException:
                self._idle.put(child)
                raise
            self._idle.put(child)
            return result

    def close(self) -> None:
        """Stop the idle children."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def _idle_child(self) -> Children:
        try:
            return self._idle.get_nowait()
        except Empty:
            return Children(1)


@contextmanager
def _deaths(context: TaskExecutionContext) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        msg = f"the child process that ran task {context.task_index} of stage {context.stage_number} died"
        raise ChildDiedError(msg) from error


def _result(task: Task[Any, Any], text: str | None) -> object:
    return None if text is None or task.result_model is None else task.result_model.from_json(text)


def _import_in_child(module: str) -> int:
    """Run in the child: import the handler's module, and return the child's process id."""
    importlib.import_module(module)
    return os.getpid()


def _call_in_child(module: str, qualname: str, parameters: str, context: str) -> str | None:
    """Run in the child: find the task by where its own code stands, and call it."""
    task = cast("Task[Any, Any]", attrgetter(qualname)(importlib.import_module(module)))
    given = TaskExecutionContext.from_json(context)
    running_task.set(given)
    called = task.function(task.parameter_model.from_json(parameters), given)
    result = asyncio.run(called) if inspect.iscoroutine(called) else called
    if result is None:
        return None
    if not isinstance(result, Contract) or type(result) is not task.result_model:
        wanted = "None" if task.result_model is None else task.result_model.__name__
        msg = f"task {task.task_type!r} must return {wanted}, it returned {type(result).__name__}; correct {task.where}"
        raise PermanentTaskError(msg)
    return result.to_json()
