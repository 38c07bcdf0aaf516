"""Wakes the idle slots of a worker: one listener for all of them."""

import threading

from stageflow.errors import StoreError
from stageflow.ports import Wakeup


class WorkSignal:
    """A counter that grows whenever there may be new work.

    A slot notes the counter before it claims, and waits for it to differ after an empty claim: what became ready in
    between is not missed.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def seen(self) -> int:
        """Return the counter."""
        with self._changed:
            return self._count

    def fire(self) -> None:
        """Wake everyone."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait(self, seen: int, timeout_seconds: float) -> bool:
        """Return ``True`` when the counter is no longer ``seen``, ``False`` after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count != seen, timeout_seconds)

    def follow(self, wakeup: Wakeup, stopping: threading.Event, poll_seconds: float) -> None:
        """Pass on what a store's wakeup says, until told to stop; blocks."""
        while not stopping.is_set():
            try:
                if wakeup.wait(poll_seconds):
                    self.fire()
            except StoreError:
                stopping.wait(poll_seconds)
