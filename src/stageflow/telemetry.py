"""Named events with one sink: logs, metrics, progress and tests hang on it; and the task to which a log record belongs."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from pydantic import Field

from stageflow.contracts.base import JsonObject, LateContract
from stageflow.contracts.context import TaskExecutionContext

_logger = logging.getLogger("stageflow")

QUIET: Final = frozenset({"range_completed", "task_progress"})
"""Events that come often: logged at debug level."""

running_task: Final[ContextVar[TaskExecutionContext | None]] = ContextVar("stageflow_running_task", default=None)
"""The task whose handler runs in this thread or coroutine."""


class TaskLogFilter(logging.Filter):
    """Gives each record ``job_id``, ``stage``, ``task_index`` and ``attempt`` of the task whose handler emitted it.

    Add it to a *handler* of the logging system: a filter of a logger does not see the records of the loggers below it. Outside
    of a task the four are ``None``; what a record has already (by ``extra``) is left as it is.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, with the four attributes."""
        task = running_task.get()
        names: dict[str, object]
        if task is None:
            names = {"job_id": None, "stage": None, "task_index": None, "attempt": None}
        else:
            names = {
                "job_id": task.job_id,
                "stage": task.stage_number,
                "task_index": task.task_index,
                "attempt": task.attempt,
            }
        record.__dict__.update({name: value for name, value in names.items() if name not in record.__dict__})
        return True


TROUBLES: Final = frozenset(
    {
        "acknowledgement_failed",
        "beat_failed",
        "loop_held",
        "message_parked",
        "payloads_unreachable",
        "receive_failed",
        "recovery_failed",
        "relay_failed",
        "release_failed",
        "renewal_failed",
        "sign_off_failed",
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
