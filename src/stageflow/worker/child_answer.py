"""What a handler in a child process came to, as plain text on its way to the worker."""

import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Self

from stageflow.contracts.base import Contract
from stageflow.contracts.preview import preview
from stageflow.errors import ContractViolationError, StageflowError
from stageflow.workflow.task import Task


class HandlerTraceback(Exception):  # noqa: N818  the cause of an error, never raised by itself
    """Where in the child a handler raised; the cause of the error that stands in for it here."""

    def __str__(self) -> str:
        """Return the child's traceback as a block of its own."""
        return f"in the child process:\n{self.args[0]}"


@dataclass(frozen=True)
class Returned:
    """A result as JSON text; ``None`` for no result."""

    text: str | None


@dataclass(frozen=True)
class Wrong:
    """A result that is not what the handler's annotation says."""

    kind: str
    picture: str


@dataclass(frozen=True)
class Raised:
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


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001  a user's own __str__; the handler's error matters, not this one
        return f"<its str() raised {type(failure).__name__}>"


@dataclass(frozen=True)
class NeedsSlot:
    """The handler asked for what only a slot of the worker can give; how it ended does not matter."""


class SlotNeededError(StageflowError):
    """A handler is to be called in the worker itself."""


Answer = Returned | Wrong | Raised | NeedsSlot
"""How a call in a child ended."""


def answer_of(task: Task[Any, Any], call: Callable[[], object]) -> Answer:
    """Run in the child: call the handler, and return what came of it."""
    try:
        result = call()
        if result is None and task.result_model is None:
            return Returned(None)
        if isinstance(result, Contract) and type(result) is task.result_model:
            return Returned(result.to_json())
        wrong = Wrong(type(result).__name__, preview(result))
        if inspect.iscoroutine(result):
            result.close()
    except BaseException as error:  # noqa: BLE001  the parent judges it, as it judges what a thread raises
        return Raised.from_error(error)
    return wrong


def taken(task: Task[Any, Any], answer: Answer) -> object:
    """Return what a handler in a child returned, or raise what it raised.

    Raises:
        ContractViolationError: It returned something else than its annotation says.
        SlotNeededError: It is to be called again in the worker.
    """
    match answer:
        case Returned(text):
            return None if text is None or task.result_model is None else task.result_model.from_json(text)
        case Wrong():
            raise _violation(task, answer)
        case Raised():
            raise answer.to_error()
        case NeedsSlot():
            msg = "the handler asked for context.transaction(), which a child process cannot give"
            raise SlotNeededError(msg)


def _violation(task: Task[Any, Any], wrong: Wrong) -> ContractViolationError:
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
