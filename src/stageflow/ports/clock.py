"""Time, as tests can move it."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests move it."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...
