"""The event loop on which a worker awaits async handlers. Loaded when the first of them runs."""

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from stageflow.contracts.context import TaskExecutionContext
from stageflow.errors import TaskCancelledError

_CHECK_SECONDS = 0.5


@dataclass(frozen=True)
class _Outcome:
    """How a handler ended: what it returned, or what it raised."""

    value: object = None
    error: BaseException | None = None


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

    def run(self, coroutine: Coroutine[Any, Any, object], context: TaskExecutionContext) -> object:
        """Await a handler and return what it returns; cancel it when its work is no longer wanted.

        Raises:
            TaskCancelledError: It was cancelled.
        """
        running = asyncio.run_coroutine_threadsafe(_contained(coroutine), self._loop)
        while True:
            try:
                outcome = running.result(timeout=_CHECK_SECONDS)
            except TimeoutError:
                if context.cancelled:
                    running.cancel()
                    msg = f"task {context.task_index} of stage {context.stage_number} was stopped: it is no longer wanted"
                    raise TaskCancelledError(msg) from None
            else:
                if outcome.error is not None:
                    raise outcome.error
                return outcome.value

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()
