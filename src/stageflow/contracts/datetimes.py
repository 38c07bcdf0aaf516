"""Datetimes with a time zone: required in every field of every contract, and in UTC where stageflow stores them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator
from pydantic_core import CoreSchema, core_schema

_NOT_SCHEMAS: Final = frozenset(
    {"type", "cls", "function", "default", "default_factory", "expected", "metadata", "serialization"}
)


def require_zone(value: datetime) -> datetime:
    """Return ``value`` if it has a time zone.

    Raises:
        ValueError: It is naive.
    """
    if value.tzinfo is not UTC and value.utcoffset() is None:
        msg = f"a datetime needs a time zone, got the naive {value.isoformat()}; pass datetime.now(UTC) or add tzinfo=UTC"
        raise ValueError(msg)
    return value


def _require_utc(value: datetime) -> datetime:
    if value.tzinfo is UTC:
        return value
    if require_zone(value).utcoffset():
        msg = f"a datetime must be in UTC, got {value.isoformat()}; pass value.astimezone(UTC)"
        raise ValueError(msg)
    return value.replace(tzinfo=UTC)


ZONE_CHECKS: Final = (require_zone, _require_utc)
"""Validators that give back the datetime they are given, or the same moment in UTC."""

UtcDatetime = Annotated[datetime, AfterValidator(_require_utc)]
"""An aware datetime in UTC; naive values and other offsets are refused."""


def require_zones(schema: CoreSchema) -> CoreSchema:
    """Return a model's schema in which every datetime is checked by :func:`require_zone`; other models' are left alone.

    A field that asks for naive datetimes by name (``pydantic.NaiveDatetime``) gets them.
    """
    node: Any = schema
    match node:
        case {"type": "model"}:
            checked: CoreSchema = {key: value if key in _NOT_SCHEMAS else _checked(value) for key, value in node.items()}
            return checked
        case {"schema": inner}:  # validators of the whole model stand around it
            return {**node, "schema": require_zones(inner)}
        case _:  # the model inside of itself
            return schema


def _checked(node: Any) -> Any:
    match node:
        case {"type": "datetime"} if "tz_constraint" not in node:
            return core_schema.no_info_after_validator_function(require_zone, node)
        case {"type": "function-after", "function": {"function": function}} if function in ZONE_CHECKS:
            return node
        case {"type": "model"}:
            return node
        case dict():
            return {key: value if key in _NOT_SCHEMAS else _checked(value) for key, value in node.items()}
        case list():
            return [_checked(item) for item in node]
        case _:
            return node
