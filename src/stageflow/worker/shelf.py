"""Messages that wait for a slot, and how many more may come."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from stageflow.contracts.queue import ReceivedMessage
from stageflow.worker.sizes import TARGET_SECONDS

_WEIGHT: Final = 0.3
_MOST_AHEAD: Final = 256


class Shelf:
    """Between the receivers and the slots; what lies here is hidden from other workers, so it holds little.

    A message is asked for when a slot is free for it, and ahead only while messages are known to be short: about 50 ms of
    work. So a long task never has messages waiting behind it that another worker could carry out.

    Args:
        slots: How many threads take messages.
        clock: Seconds that only grow.
    """

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, ReceivedMessage]] = deque()
        self._running: dict[int, float] = {}
        self._reserved = 0
        self._seconds: float | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing is handed out any more."""
        return self._closed

    def reserve(self, most: int, patience_seconds: float) -> int:
        """Return how many messages to ask for, as soon as there is room for one; 0 after the time, or when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._room() > 0, patience_seconds)
            wanted = 0 if self._closed else max(0, min(most, self._room()))
            self._reserved += wanted
            return wanted

    def put(self, messages: list[ReceivedMessage], reserved: int) -> None:
        """Take in what came of so many reserved ones."""
        now = self._clock()
        with self._changed:
            self._reserved -= reserved
            self._waiting.extend((now, message) for message in messages)
            self._changed.notify_all()

    def take(self, patience_seconds: float) -> ReceivedMessage | None:
        """Return the next message, for the slot that calls; ``None`` when none came in time, or when closed.

        The slot is at work until it calls :meth:`done`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting, patience_seconds)
            if self._closed or not self._waiting:
                return None
            self._running[threading.get_ident()] = self._clock()
            return self._waiting.popleft()[1]

    def done(self) -> None:
        """Note that the slot that calls is free, and learn how long its message took."""
        with self._changed:
            seconds = self._clock() - self._running.pop(threading.get_ident())
            known = seconds if self._seconds is None else self._seconds
            self._seconds = known + _WEIGHT * (seconds - known)
            self._changed.notify_all()

    def take_late(self, seconds: float) -> list[ReceivedMessage]:
        """Return the messages that have waited for longer than that, to be given back: what runs is slower than it was."""
        late = []
        with self._changed:
            while self._waiting and self._clock() - self._waiting[0][0] > seconds:
                late.append(self._waiting.popleft()[1])
        return late

    def take_all(self) -> list[ReceivedMessage]:
        """Return all messages that wait, to be given back."""
        with self._changed:
            waiting = [message for _, message in self._waiting]
            self._waiting.clear()
        return waiting

    def close(self) -> None:
        """Let nobody wait any longer, and hand out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _room(self) -> int:
        free = self._slots - len(self._running)
        return free + self._ahead() - len(self._waiting) - self._reserved

    def _ahead(self) -> int:
        """Return how many messages may wait while every slot is at work."""
        if self._seconds is None or self._seconds > TARGET_SECONDS:
            return 0
        now = self._clock()
        if any(now - started > TARGET_SECONDS for started in self._running.values()):
            return 0
        return min(_MOST_AHEAD, math.ceil(self._slots * TARGET_SECONDS / max(self._seconds, 0.001)))
