"""Waiting for something new."""

from typing import Protocol


class Wakeup(Protocol):
    """Waits for the store to say that there is something new."""

    def wait(self, timeout_seconds: float) -> bool:
        """Return ``True`` as soon as there may be something new, ``False`` after the timeout."""
        ...

    def interrupt(self) -> None:
        """Make a waiting thread return at once; callable from any thread and from signal handlers."""
        ...

    def close(self) -> None:
        """Free what the wakeup holds."""
        ...
