"""Child processes that run handlers. Loaded when the first of them is needed; only plain text goes in and out."""

import asyncio
import importlib
import inspect
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any, Final, cast

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext
from stageflow.errors import StageflowError
from stageflow.telemetry import running_task
from stageflow.worker.child_answer import Answer, NeedsSlot, answer_of, taken
from stageflow.worker.child_line import LineHost, answer
from stageflow.worker.limit import CHECK_SECONDS, SHORTEST_WAIT, TimeLimit
from stageflow.workflow.task import Task

_KILL: Final = signal.SIGTERM if os.name == "nt" else signal.SIGKILL
"""What ends a process at once, also one that is busy in native code."""

_line: "Connection[Any, Any] | None" = None
"""In a child: its line to the worker."""


class ChildDiedError(StageflowError):
    """The process that ran a handler is gone."""


class Child:
    """One child process, in a pool of its own, so that its death is nobody else's."""

    def __init__(self) -> None:
        processes = get_context("spawn")
        self._line, self._far_end = processes.Pipe()
        self._pool = ProcessPoolExecutor(1, mp_context=processes, initializer=_begin, initargs=(self._far_end,))
        self._pid: int | None = None
        self.usable = True

    def run(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext, limit: TimeLimit) -> object:
        """Call the handler and return what it returns; kill the child when its time, or the grace of unwanted work, is over.

        The time begins when the child is up and has imported the handler's module. The child is of further use if it is
        ``usable`` afterwards.

        Raises:
            TaskTimeoutError: The child was killed, because its time was over.
            TaskCancelledError: It was killed, because its work was not wanted any more and it did not stop.
            ChildDiedError: The child died by itself.
        """
        self.usable = False
        with _deaths(context):
            pid = self._started(task.function.__module__)
            limit.start()
            called = self._call(task, parameters, context)
            if self._serve(context, limit):
                return taken(task, self._result(called))
        with suppress(ProcessLookupError):
            os.kill(pid, _KILL)
        self._pool.shutdown()
        limit.killed = True
        raise limit.ending(context)

    def close(self) -> None:
        """Stop the child."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._line.close()
        self._far_end.close()

    def _started(self, module: str) -> int:
        if self._pid is None:
            self._pid = self._pool.submit(_import_in_child, module).result()
            self._far_end.close()  # the child alone has that end now, so that its death ends the line
        return self._pid

    def _call(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext) -> "Future[Answer]":
        function = task.function
        return self._pool.submit(
            _call_in_child,
            function.__module__,
            function.__qualname__,
            parameters.to_json(),
            context.to_json(),
        )

    def _serve(self, context: TaskExecutionContext, limit: TimeLimit) -> bool:
        """Answer what the handler asks until its call ends or the child dies; ``False`` when it is to be killed before."""
        while not limit.is_grace_over:
            if not self._line.poll(min(limit.remaining_seconds, CHECK_SECONDS, limit.grace_seconds + SHORTEST_WAIT)):
                if limit.is_over:
                    return False
                continue
            try:
                request = self._line.recv()
            except EOFError:
                return True
            if request is None:
                return True
            self._line.send(answer(request, context))
        return False

    def _result(self, called: "Future[Answer]") -> Answer:
        try:
            return called.result()
        finally:
            self.usable = not isinstance(called.exception(), BrokenProcessPool)


class Children:
    """As many children as may run at a time, started when they are needed and used again."""

    def __init__(self, processes: int) -> None:
        self._free = threading.Semaphore(processes)
        self._idle: SimpleQueue[Child] = SimpleQueue()

    def run(self, task: Task[Any, Any], parameters: Contract, context: TaskExecutionContext, limit: TimeLimit) -> object:
        """Call the handler in a child as soon as one is free; see :meth:`Child.run`."""
        with self._free:
            child = self._idle_child()
            try:
                return child.run(task, parameters, context, limit)
            finally:
                if child.usable:
                    self._idle.put(child)
                else:
                    child.close()

    def close(self) -> None:
        """Stop the idle children."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def _idle_child(self) -> Child:
        try:
            return self._idle.get_nowait()
        except Empty:
            return Child()


@contextmanager
def _deaths(context: TaskExecutionContext) -> Iterator[None]:
    try:
        yield
    except (BrokenProcessPool, BrokenPipeError, ConnectionResetError) as error:
        msg = f"the child process that ran task {context.task_index} of stage {context.stage_number} died"
        raise ChildDiedError(msg) from error


def _begin(line: "Connection[Any, Any]") -> None:
    """Run in the child, first: keep its end of the line, end with the worker, and leave Ctrl-C to it."""
    global _line  # noqa: PLW0603  a process has one worker
    _line = line
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="stageflow-orphan", daemon=True).start()


def _import_in_child(module: str) -> int:
    """Run in the child: import the handler's module, and return the child's process id."""
    importlib.import_module(module)
    return os.getpid()


def _call_in_child(module: str, qualname: str, parameters: str, context: str) -> Answer:
    """Run in the child: find the task by where its own code stands, and call it."""
    task = cast("Task[Any, Any]", attrgetter(qualname)(importlib.import_module(module)))
    host = LineHost(cast("Connection[Any, Any]", _line), task)

    def call() -> object:
        given = TaskExecutionContext.from_json(context).model_copy(update={"signal": host})
        running_task.set(given)
        called: object = task.function(task.parameter_model.from_json(parameters), given)
        return asyncio.run(called) if task.is_async and inspect.iscoroutine(called) else called

    try:
        answer = answer_of(task, call)
        return NeedsSlot() if host.needs_slot else answer
    finally:
        host.end()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
