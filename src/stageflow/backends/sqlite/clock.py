"""The store's time: microseconds since the epoch, movable by tests."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from stageflow.errors import MalformedRowError
from stageflow.ports import Clock

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Return an aware datetime as microseconds since the epoch, exactly."""
    past = moment - _EPOCH
    return (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds


def unix_micros(seconds: float) -> int:
    """Return seconds of Unix time as microseconds; exact to the microsecond."""
    return round(seconds * 1_000_000)


def from_micros(micros: int) -> datetime:
    """Return microseconds since the epoch as an aware datetime in UTC, exactly.

    Raises:
        MalformedRowError: They are beyond the years 1 to 9999.
    """
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError as error:
        msg = f"a stored time of {micros} microseconds is in no year that there is; correct the row that has it"
        raise MalformedRowError(msg) from error


def stored_time(micros: int | None) -> Any:
    """Return a stored time for a contract: one that no datetime holds as its number, which the field refuses by name."""
    if micros is None:
        return None
    try:
        return from_micros(micros)
    except MalformedRowError:
        return micros


def span_micros(seconds: float) -> int:
    """Return a duration in microseconds."""
    return round(seconds * 1_000_000)


class StoreClock:
    """What the store goes by: the system's clock or a given one, plus an offset."""

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock
        self._offset = 0

    def micros(self) -> int:
        """Return the time in microseconds since the epoch."""
        base = time.time_ns() // 1000 if self._clock is None else to_micros(self._clock.now())
        return base + self._offset

    def move(self, seconds: float) -> None:
        """Add to the offset."""
        self._offset += span_micros(seconds)
