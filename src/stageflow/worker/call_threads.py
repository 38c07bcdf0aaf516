"""Threads that run plain handlers with a timeout. Loaded when the first of them runs.

A thread cannot be killed. So the slot that owns the lease does not call such a handler itself: it waits for a thread that does,
and when that does not come back in time, or in the grace after its work was not wanted any more, the slot says so and goes on.
What the thread returns later reaches nobody.
"""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import Empty, SimpleQueue

from stageflow.worker.limit import CHECK_SECONDS, SHORTEST_WAIT, TimeLimit

Call = Callable[[], object]


class LeftAloneError(Exception):
    """The handler did not stop when its time, or the grace of unwanted work, was over; it was left alone."""


class CallThreads:
    """As many threads as slots wait for one; each is used again until a handler keeps it."""

    def __init__(self, stop_seconds: float) -> None:
        self._stop_seconds = stop_seconds
        self._idle: SimpleQueue[_CallThread] = SimpleQueue()

    def run(self, call: Call, limit: TimeLimit) -> object:
        """Call it in another thread, and return what it returns; what it raises passes through.

        Raises:
            LeftAloneError: It was still running a while after its time was over, or its work was not wanted any more.
        """
        thread = self._idle_thread()
        limit.start()
        answer = thread.begin(call)
        try:
            while not limit.is_grace_over and (left := limit.seconds_until(self._stop_seconds)) > 0:
                if wait([answer], timeout=min(left, CHECK_SECONDS, limit.grace_seconds + SHORTEST_WAIT)).done:
                    break
            if not answer.done():
                raise LeftAloneError
            return answer.result()
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
