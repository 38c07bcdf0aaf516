"""The event loop on which a worker awaits async handlers. Loaded when the first of them runs."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from stageflow.contracts.context import TaskExecutionContext
from stageflow.worker.call_threads import LeftAloneError
from stageflow.worker.limit import CHECK_SECONDS, TimeLimit, stopped


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


async def _contained(coroutine: Coroutine[Any, Any, object]) -> _Outcome:
    """Await a handler whatever it raises: ``sys.exit`` and Ctrl-C would end the loop, and all handlers on it with it."""
    try:
        return _Outcome(value=await coroutine)
    except BaseException as error:  # noqa: BLE001  raised again in the slot that runs the task
        return _Outcome(error=error)


class HandlerLoop:
    """One loop in a thread of its own, for all slots."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="stageflow-async", daemon=True).start()

    def run(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: TaskExecutionContext,
        limit: TimeLimit,
        stop_seconds: float,
    ) -> object:
        """Await a handler and return what it returns; cancel it when its time is over or its work is no longer wanted.

        Raises:
            TaskCancelledError: It was cancelled, and has ended.
            LeftAloneError: It was cancelled, and had not ended after ``stop_seconds`` or, unwanted, the limit's grace.
        """
        answer: Future[_Outcome] = Future()
        tasks: list[asyncio.Task[_Outcome]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(_contained(coroutine)))
            tasks[0].add_done_callback(lambda ended: _pass_on(ended, answer))

        def cancel() -> None:
            tasks[0].cancel()

        limit.start()
        self._loop.call_soon_threadsafe(begin)
        while not answer.done() and not limit.stopping:
            wait([answer], timeout=min(limit.remaining_seconds, CHECK_SECONDS))
        if answer.done():
            return answer.result().returned()
        self._loop.call_soon_threadsafe(cancel)
        if not wait([answer], timeout=stop_seconds if limit.is_over else limit.grace_seconds).done:
            raise LeftAloneError
        raise stopped(context)

    def is_blocked(self, patience_seconds: float) -> bool:
        """Return whether a handler keeps the loop from running anything else."""
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return not turned.wait(patience_seconds)

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()


def _pass_on(ended: "asyncio.Task[_Outcome]", answer: "Future[_Outcome]") -> None:
    # What a handler raises is in its outcome; a cancellation here is one that came before the handler began.
    answer.set_result(_Outcome(error=asyncio.CancelledError()) if ended.cancelled() else ended.result())
