"""What every part of the store stands on."""

from pathlib import Path

from stageflow.backends.sqlite.clock import StoreClock
from stageflow.backends.sqlite.connection import Database
from stageflow.ports import Clock


class StorePart:
    """One noun of the store; the parts of a store share its database and clock."""

    def __init__(self, path: str | Path, *, clock: Clock | None = None, busy_seconds: float = 30.0) -> None:
        self._clock = StoreClock(clock)
        self._database = Database(path, self._clock, busy_seconds)
