"""The line between a handler in a child process and the worker that waits for it.

The child asks, the worker answers, one request at a time; the last word of a call is ``None``. Text, numbers and our own errors
go over it.
"""

import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext, TaskHost
from stageflow.errors import HostMissingError, InvalidValueError, StageflowError, TransactionMisuseError
from stageflow.workflow.task import Task

_STOP_SECONDS: Final = 0.1
"""How long an answer to "should I stop?" is good for, so that a handler may ask in a tight loop."""


@dataclass(frozen=True)
class Request:
    """What a handler asks for: a method of its host, by name."""

    verb: str
    value: str = ""
    done: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class Reply:
    """What the worker says: text, a yes or no, or the error that the handler is to get."""

    text: str | None = None
    stopping: bool = False
    error: StageflowError | None = None


class LineHost(TaskHost):
    """Stands behind the context of a handler in a child process, until its call ends.

    Attributes:
        needs_slot: It asked for what only a slot of the worker can give.
    """

    def __init__(self, line: "Connection[Any, Any]", task: Task[Any, Any]) -> None:
        self._line = line
        self._task = task
        self._lock = threading.Lock()
        self._ended = False
        self.needs_slot = False
        self._stopping = False
        self._asked = -_STOP_SECONDS

    @property
    def stopping(self) -> bool:
        """Whether the worker says that the handler should stop."""
        if not self._stopping and time.monotonic() - self._asked >= _STOP_SECONDS:
            self._stopping = self._ask(Request("stopping")).stopping
            self._asked = time.monotonic()
        return self._stopping

    def note_progress(self, context: TaskExecutionContext, done: float, total: float) -> None:  # noqa: ARG002  one call, one task
        """Tell the worker."""
        self._ask(Request("progress", done=done, total=total))

    def read_predecessor(self, context: TaskExecutionContext) -> Contract:
        """Ask the worker for it.

        Raises:
            PredecessorMissingError: There is none.
            InvalidValueError: The task declares no predecessor.
        """
        model: type[Contract] | None = self._task.predecessor
        if model is None:
            msg = f"task {context.task_type!r} declares no predecessor; write @task(…, predecessor=Model), then ask for it"
            raise InvalidValueError(msg)
        return model.from_json(self._ask(Request("predecessor")).text or "")

    def write_checkpoint(self, context: TaskExecutionContext, value: str) -> None:  # noqa: ARG002  one call, one task
        """Have the worker store it.

        Raises:
            PayloadTooLargeError: It is larger than a row may be.
            TaskCancelledError: The lease was lost.
        """
        self._ask(Request("write", value=value))

    def read_checkpoint(self, context: TaskExecutionContext) -> str | None:  # noqa: ARG002  one call, one task
        """Ask the worker for it."""
        return self._ask(Request("read")).text

    def open_transaction(self, context: TaskExecutionContext) -> Any:
        """Refuse: no connection goes from one process to another.

        Raises:
            TransactionMisuseError: Always; a handler that is here by chance is called again where it can have one.
        """
        if self._task.cpu_bound:
            msg = (
                f"task {context.task_type!r} is cpu_bound and runs in a child process, where context.transaction() cannot "
                "work; return what is to be written, and write it in a task of the next stage"
            )
            raise TransactionMisuseError(msg)
        self.needs_slot = True
        msg = "this handler was tried alone in a child process; it is called again in the worker, where it can have one"
        raise TransactionMisuseError(msg)

    def end(self) -> None:
        """Tell the worker that the call has ended; threads that the handler left behind can ask no more."""
        with self._lock:
            self._ended = True
            self._line.send(None)

    def _ask(self, request: Request) -> Reply:
        with self._lock:
            if self._ended:
                msg = "the handler has ended, and its context with it; wait for its threads before you return"
                raise HostMissingError(msg)
            self._line.send(request)
            reply: Reply = self._line.recv()
        if reply.error is not None:
            raise reply.error
        return reply


def answer(request: Request, context: TaskExecutionContext) -> Reply:
    """Do in the worker what a handler in a child asks for; our own errors go back to it."""
    try:
        match request.verb:
            case "stopping":
                return Reply(stopping=context.cancelled)
            case "progress":
                context.progress(request.done, request.total)
            case "predecessor":
                found: Contract = context.predecessor()
                return Reply(text=found.to_json())
            case "write":
                context.require_host("checkpoint").write_checkpoint(context, request.value)
            case _:
                return Reply(text=context.require_host("last_checkpoint").read_checkpoint(context))
    except StageflowError as error:
        return Reply(error=error)
    return Reply()
