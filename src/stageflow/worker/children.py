"""Child processes that run handlers. Loaded when the first of them is needed; only plain text goes in and out."""

import importlib
import inspect
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from operator import attrgetter
from typing import Any, Self, cast

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext
from stageflow.contracts.preview import preview
from stageflow.errors import ContractViolationError, StageflowError
from stageflow.workflow.task import Task


class ChildDiedError(StageflowError):
    """The process that ran a handler is gone."""


class HandlerTraceback(Exception):  # noqa: N818  the cause of an error, never raised by itself
    """Where in the child a handler raised; the cause of the error that stands in for it here."""

    def __str__(self) -> str:
        """Return the child's traceback as a block of its own."""
        return f"in the child process:\n{self.args[0]}"


@dataclass(frozen=True)
class _Returned:
    """A result as JSON text; ``None`` for no result."""

    text: str | None


@dataclass(frozen=True)
class _Wrong:
    """A result that is not what the handler's annotation says."""

    kind: str
    picture: str


@dataclass(frozen=True)
class _Raised:
    """An error as text, because neither it nor what it holds need be picklable.

    Attributes:
        lineage: Module and qualified name of its class and of the classes above that, nearest first.
    """

    lineage: tuple[tuple[str, str], ...]
    message: str
    trace: str

    @classmethod
    def from_error(cls, error: BaseException) -> Self:
        """Return what is to be known of an error elsewhere."""
        kinds = [each for each in type(error).__mro__ if issubclass(each, BaseException)]
        return cls(
            lineage=tuple((kind.__module__, kind.__qualname__) for kind in kinds),
            message=_message_of(error),
            trace="".join(traceback.format_exception(error)).rstrip(),
        )

    def to_error(self) -> BaseException:
        """Return an error that stands in for the one in the child: of the nearest class that is known here and allows it."""
        for kind in _known_here(self.lineage):
            try:
                error = _stand_in(kind, self.message)
            except TypeError:  # a class that cannot be inherited, or that is not made without arguments
                continue
            error.__cause__ = HandlerTraceback(self.trace)
            return error
        msg = f"the handler raised what no class here stands for:\n{self.trace}"
        return StageflowError(msg)


class Children:
    """A pool of child processes; when one of them dies, all of it is gone."""

    def __init__(self, processes: int) -> None:
        self._pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_depend_on_the_worker)

    def run(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> object:
        """Call the handler in a child and return what it returns; what it raises is raised here, from its traceback there.

        Raises:
            ChildDiedError: A child of the pool died; the pool is of no further use.
            ContractViolationError: The handler returned something else than its annotation says.
        """
        function = task.function
        try:
            answer = self._pool.submit(
                _call_in_child,
                function.__module__,
                function.__qualname__,
                parameters.to_json(),
                context.to_json(),
            ).result()
        except BrokenProcessPool as error:
            msg = f"the child process that ran task {context.task_index} of stage {context.stage_number} died"
            raise ChildDiedError(msg) from error
        match answer:
            case _Returned(text):
                return None if text is None or task.result_model is None else task.result_model.from_json(text)
            case _Wrong():
                raise _violation(task, answer)
            case _Raised():
                raise answer.to_error()

    def close(self) -> None:
        """Stop the children."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001  a user's own __str__; the handler's error matters, not this one
        return f"<its str() raised {type(failure).__name__}>"


def _depend_on_the_worker() -> None:
    """Run in each child: leave Ctrl-C, which a terminal sends to every process, to the worker, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="stageflow-orphan", daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _call_in_child(module: str, qualname: str, parameters: str, context: str) -> _Returned | _Wrong | _Raised:
    """Run in the child: find the task by where its own code stands, and call it."""
    try:
        task = cast("Task[Any, Any]", attrgetter(qualname)(importlib.import_module(module)))
        result = task.function(task.parameter_model.from_json(parameters), TaskExecutionContext.from_json(context))
        if result is None and task.result_model is None:
            return _Returned(None)
        if isinstance(result, Contract) and type(result) is task.result_model:
            return _Returned(result.to_json())
        wrong = _Wrong(type(result).__name__, preview(result))
        if inspect.iscoroutine(result):
            result.close()
    except BaseException as error:  # noqa: BLE001  the parent judges it, as it judges what a thread raises
        return _Raised.from_error(error)
    return wrong


def _violation(task: Task[Any, Any], wrong: _Wrong) -> ContractViolationError:
    expected = "None" if task.result_model is None else task.result_model.__name__
    msg = (
        f"task {task.task_type!r} must return {expected}, it returned {wrong.kind}: {wrong.picture}; "
        f"correct the handler ({task.where})"
    )
    return ContractViolationError(
        msg,
        function=task.task_type,
        parameter=None,
        expected=expected,
        actual=wrong.kind,
        path="return value",
        preview=wrong.picture,
    )


def _known_here(lineage: tuple[tuple[str, str], ...]) -> list[type[BaseException]]:
    """Return those classes that stand in a module which is loaded here: a retry policy can name no others."""
    known: list[type[BaseException]] = []
    for module, qualname in lineage:
        try:
            kind = attrgetter(qualname)(sys.modules[module])
        except (KeyError, AttributeError):
            continue
        if isinstance(kind, type) and issubclass(kind, BaseException):
            known.append(kind)
    return known


def _stand_in(kind: type[BaseException], message: str) -> BaseException:
    """Return an error of a class, with another's message and without a call of its ``__init__``, whose arguments are not here.

    Raises:
        TypeError: The class allows no heirs, or cannot be made so.
    """
    body = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__str__": lambda _: message}
    heir: type[BaseException] = type(kind.__name__, (kind,), body)
    error = heir.__new__(heir)
    error.args = (message,)
    return error
