"""When to ask a queue again that was empty: soon after traffic, ever more seldom without."""

import threading
import time
from typing import Final

SHORTEST_SECONDS: Final = 0.015
_GROWTH: Final = 1.5


class Pace:
    """The pauses between requests that find nothing.

    Args:
        longest_seconds: The pause that they grow to.
    """

    def __init__(self, longest_seconds: float) -> None:
        self._shortest = min(SHORTEST_SECONDS, longest_seconds)
        self._longest = longest_seconds
        self._changed = threading.Condition()
        self._pause = self._shortest
        self._due = 0.0
        self._arrived = False
        self._expected = False

    def arrived(self) -> None:
        """Say that messages are there: the next request is due at once."""
        with self._changed:
            self._arrived = True
            self._changed.notify_all()

    def expect(self) -> None:
        """Say that messages will be there in a moment: somebody has made work ready and is about to announce it."""
        with self._changed:
            self._expected = True
            self._changed.notify_all()

    def wait(self, patience_seconds: float) -> bool:
        """Return ``True`` when the next request is due, ``False`` after the time; what was said before is answered by it."""
        end = time.monotonic() + patience_seconds
        with self._changed:
            while True:
                if self._expected:
                    self._expected = False
                    self._pause = self._shortest
                    self._due = min(self._due, time.monotonic() + self._pause)
                now = time.monotonic()
                if self._arrived or now >= self._due:
                    self._arrived = False
                    return True
                if now >= end:
                    return False
                self._changed.wait(min(self._due, end) - now)

    def found(self, messages: int) -> None:
        """Take in what a request found."""
        with self._changed:
            if messages:
                self._pause = self._shortest
                self._due = 0.0
            else:
                self._due = time.monotonic() + self._pause
                self._pause = min(self._pause * _GROWTH, self._longest)
