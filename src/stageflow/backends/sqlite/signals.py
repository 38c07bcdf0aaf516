"""How the threads of a process tell each other that something was committed."""

import threading


class Signals:
    """A counter that rises with every signal, and a way to wait for it.

    The condition's lock is reentrant, so that a signal handler may fire while its thread holds it. Such a handler can still
    run between a waiter's look and its sleep: waiters sleep in short slices.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._count = 0

    @property
    def count(self) -> int:
        """How many signals there were."""
        return self._count

    def fire(self) -> None:
        """Wake every waiter."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait_beyond(self, count: int, timeout_seconds: float) -> None:
        """Return as soon as there were more signals than ``count``, or after the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._count != count, timeout_seconds)
