"""Threads that run plain handlers with a timeout. Loaded when the first of them runs.

A thread cannot be killed. So the slot that owns the lease does not call such a handler itself: it waits for a thread that does,
and when that does not come back, the slot reports the timeout and goes on. What the thread returns later reaches nobody.
"""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue

from stageflow.worker.limit import TimeLimit

Call = Callable[[], object]


class LeftAloneError(Exception):
    """The handler did not stop when its time was over; its thread was left alone."""


class CallThreads:
    """As many threads as slots wait for one; each is used again until a handler keeps it."""

    def __init__(self, stop_seconds: float) -> None:
        self._stop_seconds = stop_seconds
        self._idle: SimpleQueue[_CallThread] = SimpleQueue()

    def run(self, call: Call, limit: TimeLimit) -> object:
        """Call it in another thread, and return what it returns; what it raises passes through.

        Raises:
            LeftAloneError: It was still running a while after its time was over.
        """
        thread = self._idle_thread()
        limit.start()
        answer = thread.begin(call)
        try:
            return answer.result(limit.remaining_seconds + self._stop_seconds)
        except TimeoutError:
            if answer.done():
                raise
            raise LeftAloneError from None
        finally:
            if answer.done():
                self._idle.put(thread)
            else:
                thread.leave()

    def _idle_thread(self) -> "_CallThread":
        try:
            return self._idle.get_nowait()
        except Empty:
            return _CallThread()

    def close(self) -> None:
        """Let the idle threads end."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().leave()


class _CallThread:
    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[contextvars.Context, Call, Future[object]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="stageflow-handler", daemon=True).start()

    def begin(self, call: Call) -> Future[object]:
        """Start a call, with the context variables of the caller."""
        answer: Future[object] = Future()
        self._calls.put((contextvars.copy_context(), call, answer))
        return answer

    def leave(self) -> None:
        """Let the thread end as soon as its call does."""
        self._calls.put(None)

    def _run(self) -> None:
        while (given := self._calls.get()) is not None:
            _answer(*given)
            del given


def _answer(variables: contextvars.Context, call: Call, answer: Future[object]) -> None:
    try:
        result = variables.run(call)
    except BaseException as error:  # noqa: BLE001  it is raised again where the call was asked for
        answer.set_exception(error)
    else:
        answer.set_result(result)
