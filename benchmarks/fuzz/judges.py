"""What may be accepted: written from the documentation with Python's own json and nothing of the library's."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

JUDGED: Final = 65_536
_INT32: Final = 2**31 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RefusedError(Exception):
    """The judge would not have accepted this."""


def refuse(why: str) -> NoReturn:
    """Say no."""
    raise RefusedError(why)


def load(raw: str | bytes) -> Any:
    """Return what JSON says, strictly: UTF-8, no byte order mark, no key twice, finite numbers, no NUL, no lone surrogate."""
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value = json.loads(text, object_pairs_hook=_single, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RefusedError(str(error)) from error
    _walk(value)
    return value


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        refuse("a key comes twice")
    return dict(pairs)


def _walk(value: Any) -> None:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
                    refuse("NUL or a lone surrogate")
            case float(number):
                if not math.isfinite(number):
                    refuse("not finite")
            case list(items):
                waiting += items
            case dict(members):
                waiting += [*members, *members.values()]


def last_wins(raw: str) -> Any:
    """Return what JSON says where a key that comes twice is the decoder's to take: stored text, which is ours."""
    try:
        value = json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RefusedError(str(error)) from error
    _walk(value)
    return value


def whole(value: Any, least: int, most: int = _INT32) -> Any:
    """Return an integer that is one, within bounds."""
    return value if type(value) is int and least <= value <= most else refuse(f"{value!r:.50} is no integer in bounds")


def text(value: Any) -> Any:
    """Return text."""
    return value if type(value) is str else refuse("no text")


def job_id(value: Any) -> Any:
    """Return 64 lower-case hexadecimal digits."""
    return value if type(value) is str and len(value) == 64 and set(value) <= set("0123456789abcdef") else refuse("no job id")  # noqa: PLR2004


def type_name(value: Any) -> Any:
    """Return a job type or task type."""
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
    if type(value) is str and 1 <= len(value) <= 100 and "a" <= value[0] <= "z" and set(value) <= allowed:  # noqa: PLR2004
        return value
    return refuse("no type name")


def json_object(value: Any) -> Any:
    """Return the object that stored text holds."""
    found = last_wins(value)
    return found if isinstance(found, dict) else refuse("no object")


def micros(value: int) -> Any:
    """Return microseconds since the epoch as a time."""
    try:
        return _EPOCH + timedelta(microseconds=value)
    except OverflowError as error:
        raise RefusedError(str(error)) from error


def one_of(*values: str) -> Callable[[Any], Any]:
    """Return a check for one of a few texts."""
    return lambda value: value if value in values else refuse("none of the few")


def optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a check that lets ``None`` pass."""
    return lambda value: None if value is None else check(value)


def at_least(least: int) -> Callable[[Any], Any]:
    """Return a check for an integer of 64 bits."""
    return lambda value: whole(value, least, 2**63 - 1)


def message(raw: bytes, default_kind: str | None = None) -> dict[str, Any]:
    """Return the fields of a queue message, the defaults filled in; of what kind it is may be known from elsewhere."""
    if len(raw) > JUDGED:
        refuse("too large")
    given = load(raw)
    if not isinstance(given, dict):
        refuse("no object")
    needed: dict[str, Callable[[Any], Any]] = {
        "job_id": job_id,
        "job_type": type_name,
        "stage_number": lambda value: whole(value, 1),
    }
    spare: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "wire_version": (1, lambda value: whole(value, 1, 1)),
        "run": (1, lambda value: whole(value, 1)),
    }
    kind = given.get("kind", default_kind)
    if kind == "task":
        needed |= {
            "task_type": type_name, "first": lambda value: whole(value, 0), "last": lambda value: whole(value, 1),
        }  # fmt: skip
        spare |= {"generation": (1, lambda value: whole(value, 1))}
    elif kind != "job":
        refuse("no kind")
    if set(given) - set(needed) - set(spare) - {"kind"} or set(needed) - set(given):
        refuse("other fields")
    fields = {"kind": kind} | {name: check(given[name]) for name, check in needed.items()}
    fields |= {name: check(given[name]) if name in given else default for name, (default, check) in spare.items()}
    if kind == "task" and fields["last"] <= fields["first"]:
        refuse("no task")
    return fields
