"""Named events with one sink: logs, metrics, progress and tests hang on it."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import Field

from stageflow.contracts.base import JsonObject, LateContract

_logger = logging.getLogger("stageflow")

QUIET: Final = frozenset({"range_completed", "lease_claimed"})
"""Events of the hot path: logged at debug level."""

TROUBLES: Final = frozenset(
    {
        "acknowledgement_failed",
        "beat_failed",
        "message_parked",
        "receive_failed",
        "recovery_failed",
        "relay_failed",
        "release_failed",
        "renewal_failed",
        "slot_failed",
    }
)
"""What an operator has to know of: logged as warnings, which Python shows where nothing else is set up."""


class Event(LateContract):
    """Something that happened to a job.

    Attributes:
        name: What, such as ``stage_advanced``.
        job_id: To which job; empty where it concerns none.
        details: What else is to be known, redacted.
    """

    name: str
    job_id: str = ""
    details: JsonObject = Field(default_factory=dict)


Listener = Callable[[Event], None]


class Telemetry:
    """Hands each event to every listener, in the thread in which it happened, and counts events by name."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._changed = threading.Condition()
        self.counts: Final[Counter[str]] = Counter()

    def emit(self, name: str, job_id: str = "", **details: str | float | bool | None) -> None:
        """Tell the listeners, and wake who waits for this event."""
        with self._changed:
            self.counts[name] += 1
            self._changed.notify_all()
            listeners = list(self._listeners)
        level = logging.WARNING if name in TROUBLES else logging.DEBUG if name in QUIET else logging.INFO
        logged = _logger.isEnabledFor(level)
        if not logged and not listeners:
            return
        event = Event(name=name, job_id=job_id, details=dict(details))
        if logged:
            _logger.log(level, "%s job=%s %s", name, job_id[:12], details, extra={"stageflow": event})
        for listener in listeners:
            listener(event)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Call ``listener`` with every event until the block ends. What it raises reaches the code that emitted."""
        with self._changed:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._changed:
                self._listeners.remove(listener)

    def wait_for(self, name: str, *, count: int = 1, timeout_seconds: float) -> bool:
        """Return ``True`` as soon as ``count`` events of this name happened since the start, ``False`` after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self.counts[name] >= count, timeout_seconds)
