"""The event loop on which a worker awaits async handlers. Loaded when the first of them runs."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from stageflow.contracts.context import TaskExecutionContext
from stageflow.worker.call_threads import LeftAloneError
from stageflow.worker.limit import CHECK_SECONDS, TimeLimit, stopped


class LoopHeldError(Exception):
    """A handler was withdrawn before it began: the loop did not turn for as long as one has patience with it."""


@dataclass(frozen=True)
class _Outcome:
    """How a handler ended: what it returned, or what it raised."""

    value: object = None
    error: BaseException | None = None

    def returned(self) -> object:
        """Return what the handler returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


class _Call:
    """One handler: it begins on the loop, or its slot withdraws it; never both."""

    def __init__(self, handler: Callable[[], Coroutine[Any, Any, object]], limit: TimeLimit) -> None:
        self.answer: Future[_Outcome] = Future()
        self.begun = threading.Event()
        self._handler = handler
        self._limit = limit

    async def run(self) -> None:
        """Await the handler whatever it raises: ``sys.exit`` and Ctrl-C would end the loop, and all handlers on it with it."""
        if not self.answer.set_running_or_notify_cancel():
            return
        self._limit.start()
        self.begun.set()
        try:
            outcome = _Outcome(value=await self._handler())
        except BaseException as error:  # noqa: BLE001  raised again in the slot that runs the task
            outcome = _Outcome(error=error)
        self.answer.set_result(outcome)


class HandlerLoop:
    """One loop in a thread of its own, for all slots."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="stageflow-async", daemon=True).start()

    def run(
        self,
        handler: Callable[[], Coroutine[Any, Any, object]],
        context: TaskExecutionContext,
        limit: TimeLimit,
        stop_seconds: float,
    ) -> object:
        """Await a handler and return what it returns; cancel it when its time is over or its work is no longer wanted.

        Its time counts from when it begins: until then it waits for others that share the loop.

        Raises:
            LoopHeldError: It has not begun after ``stop_seconds``, and will not.
            TaskCancelledError: It was cancelled, and has ended, or it has not begun and will not.
            LeftAloneError: It was cancelled, and had not ended after ``stop_seconds`` or, unwanted, the limit's grace.
        """
        call = _Call(handler, limit)
        tasks: list[asyncio.Task[None]] = []
        name = f"task {context.task_index} of stage {context.stage_number} ({context.task_type}) of job {context.job_id}"
        self._loop.call_soon_threadsafe(lambda: tasks.append(self._loop.create_task(call.run(), name=name)))
        _await_beginning(call, context, limit, stop_seconds)
        while not call.answer.done() and not limit.stopping:
            wait([call.answer], timeout=min(limit.remaining_seconds, CHECK_SECONDS))
        if call.answer.done():
            return call.answer.result().returned()
        end = time.monotonic() + (stop_seconds if limit.is_over else limit.grace_seconds)
        self._cancel(tasks[0], limit)
        if not wait([call.answer], timeout=max(0.0, end - time.monotonic())).done:
            raise LeftAloneError
        raise stopped(context)

    def is_blocked(self, patience_seconds: float) -> bool:
        """Return whether a handler keeps the loop from running anything else."""
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return not turned.wait(patience_seconds)

    def holder(self) -> str:
        """Return the name of the handler that has the loop at this moment."""
        task = asyncio.current_task(self._loop)
        return "a callback" if task is None else task.get_name()

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _cancel(self, task: "asyncio.Task[None]", limit: TimeLimit) -> None:
        """Cancel a handler; if the loop does not turn to hear of it, its limit learns who holds the loop."""
        turned = threading.Event()
        self._loop.call_soon_threadsafe(task.cancel)
        self._loop.call_soon_threadsafe(turned.set)
        if not turned.wait(CHECK_SECONDS) and asyncio.current_task(self._loop) is not task:
            limit.held_by = self.holder()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()


def _await_beginning(call: _Call, context: TaskExecutionContext, limit: TimeLimit, stop_seconds: float) -> None:
    patience_ends = time.monotonic() + max(stop_seconds, CHECK_SECONDS)
    while not call.begun.wait(CHECK_SECONDS):
        if limit.stopping and call.answer.cancel():
            raise stopped(context)
        if time.monotonic() >= patience_ends and call.answer.cancel():
            raise LoopHeldError
