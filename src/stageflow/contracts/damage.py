"""Rows that something else wrote: read as far as they can be, with what cannot be named."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from stageflow.contracts.base import JsonObject
from stageflow.contracts.payload import read_object_or_preview
from stageflow.contracts.validated import first_fault
from stageflow.errors import InvalidValueError, MalformedRowError

ROW_FAULTS: Final = (ValidationError, InvalidValueError, MalformedRowError)
"""What reading a row raises where something of it is not what its contract says."""

MEND_ROW: Final = (
    "something else wrote to the store: `stageflow doctor` names what is wrong with unfinished jobs; correct the row by hand, "
    "or `stageflow cancel` the job and submit it again"
)
"""What to do about rows that are damaged, missing, or contradict each other; `stageflow verify` compares only the schema."""

M = TypeVar("M", bound=BaseModel)

StandIn = Callable[[Any], Any]
"""Makes what is seen in place of a value that cannot be read."""

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def malformed(what: str, error: ValidationError | InvalidValueError | MalformedRowError) -> MalformedRowError:
    """Return the error of a row that is not what its contract says; it names the row, and what of it is wrong."""
    if not isinstance(error, ValidationError):
        return MalformedRowError(f"the row of {what} is malformed: {error}; {MEND_ROW}")
    return MalformedRowError(f"the row of {what} is malformed at {first_fault(error)}; {MEND_ROW}")


def nearest_time(value: object) -> datetime:
    """Return the nearest time to one that is too late or too early, or not in UTC: its row keeps its place in a list."""
    match value:
        case datetime():
            return value.astimezone(UTC)
        case int() if value < 0:
            return _FIRST
        case _:
            return _LAST


def nothing(value: object) -> None:
    """Leave the field empty."""


def seen_object(text: str, column: str, damages: list[str]) -> JsonObject:
    """Return the JSON object of a column, or an empty one; then ``damages`` has the reason."""
    try:
        return read_object_or_preview(text, column)
    except InvalidValueError as error:
        damages.append(str(error))
        return {}


def seen_row(kind: type[M], columns: dict[str, Any], stand_ins: Mapping[str, StandIn], damages: list[str]) -> M:
    """Return what can be read of a row, with what cannot in its ``damage``.

    Args:
        kind: A contract with a field ``damage``.
        columns: The values of its other fields.
        stand_ins: For each field that need not be readable.
        damages: What was found before; what is found now is added.

    Raises:
        pydantic.ValidationError: Another field is not what the contract says.
    """
    try:
        return kind(**columns, damage="; ".join(damages) or None)
    except ValidationError as error:
        wrong = {str(each["loc"][0]) if each["loc"] else "": each["msg"] for each in error.errors(include_url=False)}
        if not wrong.keys() <= stand_ins.keys():
            raise
        damages += [f"{column} cannot be read: {reason}" for column, reason in wrong.items()]
        readable = columns | {column: stand_ins[column](columns[column]) for column in wrong}
        return kind(**readable, damage="; ".join(damages))
