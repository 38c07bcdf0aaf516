"""Counts, times and errors as words of a sentence."""

from datetime import UTC, datetime, timedelta
from typing import Final

from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenGroup, OpenRange
from stageflow.contracts.preview import redact

_LONGEST_ERROR: Final = 200
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def counted(number: int, noun: str = "task") -> str:
    """Return a number and its noun: ``1 task``, ``1,200 tasks``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def verb(number: int, singular: str, plural: str) -> str:
    """Return the form of a verb that goes with a number."""
    return singular if number == 1 else plural


def clock_time(moment: datetime, now: datetime) -> str:
    """Return a moment as a time of day in UTC, with its date where that is another day than ``now``."""
    utc = moment.astimezone(UTC)
    pattern = "%H:%M:%S" if utc.date() == now.astimezone(UTC).date() else "%Y-%m-%d %H:%M:%S"
    return utc.strftime(pattern)


def duration(span: timedelta) -> str:
    """Return a length of time in its largest fitting unit: ``42 s``, ``12 min``, ``3 h``, ``2 d``."""
    seconds = max(0, round(span.total_seconds()))
    if seconds < 2 * _MINUTE:
        return f"{seconds} s"
    if seconds < 2 * _HOUR:
        return f"{seconds // _MINUTE} min"
    return f"{seconds // _HOUR} h" if seconds < 2 * _DAY else f"{seconds // _DAY} d"


def tasks_named(first: int, last: int) -> str:
    """Return the tasks ``[first, last)`` by name: ``task 7``, ``tasks 7 to 9``."""
    return f"task {first}" if last - first == 1 else f"tasks {first} to {last - 1}"


def last_line(error: str | None) -> str:
    """Return the last line of an error's text, which is where a traceback names the error; redacted and short."""
    lines = (error or "").strip().splitlines()
    text = redact(lines[-1].strip()) if lines else "an error without a text"
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"


def tasks_in(each: OpenRange) -> int:
    """Return how many tasks a range holds; none, if it is there for planning or advancing."""
    return each.width if each.kind is WorkKind.TASK else 0


def group_tasks(group: OpenGroup) -> int:
    """Return how many tasks a group holds; none, if it is there for planning or advancing."""
    return group.task_count if group.kind is WorkKind.TASK else 0


def work_named(each: OpenRange) -> str:
    """Return what a range asks for by name: its tasks, or the planning or advancing of its stage."""
    match each.kind:
        case WorkKind.TASK:
            return tasks_named(each.first, each.last)
        case WorkKind.PLAN:
            return "the planning of the stage"
        case WorkKind.ADVANCE:
            return "the advancing of the stage"


def group_named(group: OpenGroup) -> str:
    """Return what a group asks for: how many tasks, or the planning or advancing of its stage."""
    return counted(group.task_count) if group.kind is WorkKind.TASK else work_named(group.heads[0])
