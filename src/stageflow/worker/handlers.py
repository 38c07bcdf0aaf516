"""Calls handlers where they belong: in the slot's thread, on an event loop, or in a child process."""

import asyncio
import importlib
import inspect
import threading
from collections.abc import Coroutine
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from operator import attrgetter
from typing import Any, cast

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext
from stageflow.errors import PermanentTaskError, RetryableTaskError, TaskCancelledError
from stageflow.workflow.task import Task

_CHECK_SECONDS = 0.5


class HandlerRunner:
    """One event loop and one process pool for all slots of a worker, each started when it is first needed."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: ProcessPoolExecutor | None = None

    def run(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
        """Call the handler and return what it returns; what it raises passes through."""
        if task.is_async:
            return self._on_loop(task.function(parameters, context), context)
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
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                return self._in_child(pool, task, parameters, context)
            except BrokenProcessPool as error:
                msg = (
                    f"the process of task {context.task_index} of stage {context.stage_number} died again, alone in a child "
                    "process, and workers died over it before; look for exhausted memory, a crash in native code, or a kill"
                )
                raise PermanentTaskError(msg) from error

    def close(self) -> None:
        """Stop the loop and the child processes."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None

    def _on_loop(self, coroutine: Coroutine[Any, Any, object], context: TaskExecutionContext) -> object:
        running = asyncio.run_coroutine_threadsafe(coroutine, self._started_loop())
        while True:
            try:
                return running.result(timeout=_CHECK_SECONDS)
            except TimeoutError:
                if running.done():
                    raise
                if context.cancelled:
                    running.cancel()
                    msg = f"task {context.task_index} of stage {context.stage_number} was stopped: it is no longer wanted"
                    raise TaskCancelledError(msg) from None

    def _in_pool(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
        pool = self._started_pool()
        try:
            return self._in_child(pool, task, parameters, context)
        except BrokenProcessPool as error:
            with self._lock:
                if self._pool is pool:
                    self._pool = None
            msg = f"the child process that ran task {context.task_index} died; it ran out of memory or was killed"
            raise RetryableTaskError(msg) from error

    def _in_child(
        self,
        pool: ProcessPoolExecutor,
        task: Task[Any, Any],
        parameters: Contract,
        context: TaskExecutionContext,
    ) -> object:
        function = task.function
        running = pool.submit(
            _call_in_child,
            function.__module__,
            function.__qualname__,
            parameters.to_json(),
            context.to_json(),
        )
        text = running.result()
        return None if text is None or task.result_model is None else task.result_model.from_json(text)

    def _started_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run_loop, args=(self._loop,), name="stageflow-async", daemon=True).start()
            return self._loop

    def _started_pool(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._processes, mp_context=get_context("spawn"))
            return self._pool


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


def _call_in_child(module: str, qualname: str, parameters: str, context: str) -> str | None:
    """Run in the child: find the task by where its own code stands, and call it; only JSON text goes in and out."""
    task = cast("Task[Any, Any]", attrgetter(qualname)(importlib.import_module(module)))
    called = task.function(task.parameter_model.from_json(parameters), TaskExecutionContext.from_json(context))
    result = asyncio.run(called) if inspect.iscoroutine(called) else called
    if result is None:
        return None
    if not isinstance(result, Contract) or type(result) is not task.result_model:
        wanted = "None" if task.result_model is None else task.result_model.__name__
        msg = f"task {task.task_type!r} must return {wanted}, it returned {type(result).__name__}; correct {task.where}"
        raise PermanentTaskError(msg)
    return result.to_json()
