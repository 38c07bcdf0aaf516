"""A task: a plain function, with what its annotations say about it."""

import inspect
import re
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from types import NoneType
from typing import Any, Final, Generic, TypeVar, overload

from stageflow.contracts.base import Contract, type_name_pattern
from stageflow.contracts.context import TaskExecutionContext
from stageflow.contracts.limits import FASTEST_RATE, MOST_RUNNING, SLOWEST_RATE
from stageflow.contracts.preview import preview
from stageflow.contracts.retry import RetryPolicy
from stageflow.errors import WorkflowDefinitionError
from stageflow.workflow.annotations import (
    RETURN,
    is_contract,
    parameter_names,
    place_of,
    place_of_caller,
    require_annotations,
    type_text,
)

P = TypeVar("P", bound=Contract)
R = TypeVar("R", bound=Contract | None)

_type_name = re.compile(type_name_pattern)
_longest_timeout = 604_800.0


class Task(Generic[P, R]):
    """A handler and its contract; called like the function it was made of.

    Attributes:
        task_type: The name under which its tasks are stored.
        function: The handler as written.
        parameter_model: What the handler takes.
        result_model: What it returns; ``None`` where it returns nothing.
        is_async: Whether calling it gives a coroutine.
        cpu_bound: Whether a worker may run it in another process.
        retry: Its retry policy, where the stage declares none.
        timeout_seconds: How long its handler may run, per attempt; ``None`` for as long as it takes.
        max_running: The most of its tasks that run at once, over all workers.
        max_per_second: The most of its tasks that start in a second, over all workers.
        predecessor: What its handler gets of the stage before, if it asks.
        where: ``module:qualname, file:line``, for messages.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[[P, TaskExecutionContext], R | Coroutine[Any, Any, R]],
        task_type: str,
        *,
        retry: RetryPolicy | None,
        cpu_bound: bool,
        timeout_seconds: float | None,
        predecessor: type[Contract] | None,
        max_running: int | None = None,
        max_per_second: float | None = None,
    ) -> None:
        self.where: Final = place_of(function)
        self.task_type: Final = task_type
        self.function: Final = function
        self.is_async: Final = inspect.iscoroutinefunction(function)
        self.cpu_bound: Final = cpu_bound
        self.retry: Final = retry
        self.timeout_seconds: Final = timeout_seconds
        self.predecessor: Final = predecessor
        self.max_running: Final = max_running
        self.max_per_second: Final = max_per_second
        parameter_model, result_model = _read_models(function, self.where)
        self.parameter_model: Final[type[P]] = parameter_model
        self.result_model: Final[type[R] | None] = result_model
        if cpu_bound:
            _require_process_ready(function, is_async=self.is_async, where=self.where)
        update_wrapper(self, function)

    def __call__(self, parameters: P, context: TaskExecutionContext) -> R | Coroutine[Any, Any, R]:
        """Call the handler."""
        return self.function(parameters, context)

    def __repr__(self) -> str:
        """Return the task type and where its handler is."""
        return f"<task {self.task_type!r} ({self.where})>"

    def __reduce__(self) -> str:
        """Pickle as the name of the module's attribute, so that a process pool finds the task by import."""
        return self.__qualname__


class SyncTask(Task[P, R]):
    """A task whose handler is a plain function."""

    def __call__(self, parameters: P, context: TaskExecutionContext) -> R:
        """Call the handler."""
        return self.function(parameters, context)  # type: ignore[return-value]  # ``task`` makes it of plain functions only


class AsyncTask(Task[P, R]):
    """A task whose handler is a coroutine function; it runs on the worker's event loop."""

    def __call__(self, parameters: P, context: TaskExecutionContext) -> Coroutine[Any, Any, R]:
        """Call the handler; the caller awaits it."""
        return self.function(parameters, context)  # type: ignore[return-value]  # ``task`` makes it of coroutine functions only


class TaskDecorator:
    """What ``@task(…)`` returns: turns a handler into a :class:`Task`."""

    def __init__(
        self,
        task_type: str,
        *,
        retry: RetryPolicy | None,
        cpu_bound: bool,
        timeout_seconds: float | None,
        predecessor: type[Contract] | None,
        max_running: int | None,
        max_per_second: float | None,
    ) -> None:
        self._task_type = task_type
        self._retry = retry
        self._cpu_bound = cpu_bound
        self._timeout_seconds = timeout_seconds
        self._predecessor = predecessor
        self._max_running = max_running
        self._max_per_second = max_per_second

    @overload
    def __call__(self, handler: Callable[[P, TaskExecutionContext], Coroutine[Any, Any, R]]) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, handler: Callable[[P, TaskExecutionContext], R]) -> SyncTask[P, R]: ...
    def __call__(self, handler: Callable[[P, TaskExecutionContext], Any]) -> Task[P, Any]:
        """Make the task.

        Raises:
            WorkflowDefinitionError: The handler's parameters or annotations are not those of a handler.
        """
        kind: type[Task[P, Any]] = AsyncTask if inspect.iscoroutinefunction(handler) else SyncTask
        return kind(
            handler,
            self._task_type,
            retry=self._retry,
            cpu_bound=self._cpu_bound,
            timeout_seconds=self._timeout_seconds,
            predecessor=self._predecessor,
            max_running=self._max_running,
            max_per_second=self._max_per_second,
        )


def task(
    task_type: str,
    *,
    retry: RetryPolicy | None = None,
    cpu_bound: bool = False,
    timeout_seconds: float | None = None,
    predecessor: type[Contract] | None = None,
    max_running: int | None = None,
    max_per_second: float | None = None,
) -> TaskDecorator:
    """Declare a function ``(parameters, context) -> result`` as the handler of a task type.

    Args:
        task_type: The name under which its tasks are stored; unique within a workflow.
        retry: Policy for its tasks where their stage declares none.
        cpu_bound: A worker may run it in another process; the handler must be a plain function at module level.
        timeout_seconds: How long one attempt may run. What runs longer is stopped and fails with ``TaskTimeoutError``, which
            the retry policy treats like any other error.
        predecessor: What ``context.predecessor()`` gives: the result model of the stage that the task's stage follows.
        max_running: The most of its tasks that run at once, over all workers and all versions of the workflow.
        max_per_second: The most of its tasks that start in a second, likewise; every attempt counts.

    Raises:
        WorkflowDefinitionError: The task type is no type name, the timeout is not above 0 and at most a week, a limit is out of
            range, or the predecessor is no contract; or, at the handler, its signature is not a handler's.
    """
    if type(task_type) is not str or _type_name.fullmatch(task_type) is None:
        msg = (
            f"the task type at {place_of_caller()} must be a lower-case letter, then at most 99 of a-z 0-9 _ . - , "
            f'but is {preview(task_type)}; write @task("a_name") above the handler'
        )
        raise WorkflowDefinitionError(msg)
    if timeout_seconds is not None:
        _require_timeout(task_type, timeout_seconds)
    _require_limits(task_type, max_running, max_per_second)
    if predecessor is not None and not is_contract(predecessor):
        msg = f"the predecessor of task {task_type!r} must be a Contract, but is {type_text(predecessor)}"
        raise WorkflowDefinitionError(msg)
    return TaskDecorator(
        task_type,
        retry=retry,
        cpu_bound=cpu_bound,
        timeout_seconds=timeout_seconds,
        predecessor=predecessor,
        max_running=max_running,
        max_per_second=max_per_second,
    )


def _require_limits(task_type: str, max_running: int | None, max_per_second: float | None) -> None:
    if max_running is not None and (type(max_running) is not int or not 1 <= max_running <= MOST_RUNNING):
        msg = (
            f"the max_running of task {task_type!r} must be a whole number from 1 to {MOST_RUNNING}, but is {max_running!r}; "
            f"leave it out for no limit, and pause the task type to have none of it run"
        )
        raise WorkflowDefinitionError(msg)
    if max_per_second is not None and (
        type(max_per_second) not in {int, float} or not SLOWEST_RATE <= max_per_second <= FASTEST_RATE
    ):
        msg = (
            f"the max_per_second of task {task_type!r} must be a number from 1/86400 (one a day) to {FASTEST_RATE:.0f}, but is "
            f"{max_per_second!r}; leave it out for no limit"
        )
        raise WorkflowDefinitionError(msg)


def _require_timeout(task_type: str, timeout_seconds: float) -> None:
    if type(timeout_seconds) not in {int, float} or not 0 < timeout_seconds <= _longest_timeout:
        msg = (
            f"the timeout_seconds of task {task_type!r} must be a number above 0 and at most {_longest_timeout:.0f} (a week), "
            f"but is {timeout_seconds!r}; leave it out for a handler that may take as long as it takes"
        )
        raise WorkflowDefinitionError(msg)


def _read_models(function: Callable[..., Any], where: str) -> tuple[Any, Any]:
    names = parameter_names(function)
    if len(names) != 2:  # noqa: PLR2004  the two that the next line names
        msg = f"the handler {where} must take exactly (parameters, context), but takes ({', '.join(names)})"
        raise WorkflowDefinitionError(msg)
    hints = require_annotations(function, [*names, RETURN])
    parameters, context, result = hints[names[0]], hints[names[1]], hints[RETURN]
    if not is_contract(parameters):
        msg = f"the first parameter of the handler {where} must be a Contract, but is {type_text(parameters)}"
        raise WorkflowDefinitionError(msg)
    if context is not TaskExecutionContext:
        msg = f"the second parameter of the handler {where} must be TaskExecutionContext, but is {type_text(context)}"
        raise WorkflowDefinitionError(msg)
    if result is not NoneType and not is_contract(result):
        msg = f"the handler {where} must return one Contract or None, but returns {type_text(result)}"
        raise WorkflowDefinitionError(msg)
    return parameters, None if result is NoneType else result


def _require_process_ready(function: Callable[..., Any], *, is_async: bool, where: str) -> None:
    if is_async:
        msg = f"the handler {where} is async, so it cannot be cpu_bound; make it a plain function, or drop cpu_bound"
        raise WorkflowDefinitionError(msg)
    if function.__qualname__ != function.__name__:
        msg = f"the cpu_bound handler {where} must stand at module level, where another process can import it"
        raise WorkflowDefinitionError(msg)
