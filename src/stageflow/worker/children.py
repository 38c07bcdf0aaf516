"""Child processes that run handlers. Loaded when the first of them is needed; only JSON text goes in and out."""

import asyncio
import importlib
import inspect
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from operator import attrgetter
from typing import Any, cast

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext
from stageflow.errors import PermanentTaskError, StageflowError
from stageflow.workflow.task import Task


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
        function = task.function
        try:
            text = self._pool.submit(
                _call_in_child,
                function.__module__,
                function.__qualname__,
                parameters.to_json(),
                context.to_json(),
            ).result()
        except BrokenProcessPool as error:
            msg = f"the child process that ran task {context.task_index} of stage {context.stage_number} died"
            raise ChildDiedError(msg) from error
        return None if text is None or task.result_model is None else task.result_model.from_json(text)

    def close(self) -> None:
        """Stop the children."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _call_in_child(module: str, qualname: str, parameters: str, context: str) -> str | None:
    """Run in the child: find the task by where its own code stands, and call it."""
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
