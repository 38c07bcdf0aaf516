"""Refuses datetimes without a time zone in every field of every contract."""

from datetime import datetime
from typing import Any, Final

from pydantic_core import CoreSchema, core_schema

_NOT_SCHEMAS: Final = frozenset(
    {"type", "cls", "function", "default", "default_factory", "expected", "metadata", "serialization"}
)


def require_zone(value: datetime) -> datetime:
    """Return ``value`` if it has a time zone.

    Raises:
        ValueError: It is naive.
    """
    if value.utcoffset() is None:
        msg = f"a datetime needs a time zone, got the naive {value.isoformat()}; pass datetime.now(UTC) or add tzinfo=UTC"
        raise ValueError(msg)
    return value


def require_zones(schema: CoreSchema) -> CoreSchema:
    """Return a model's schema in which every datetime is checked by :func:`require_zone`; other schemas are left alone.

    A field that asks for naive datetimes by name (``pydantic.NaiveDatetime``) gets them.
    """
    checked: CoreSchema = {key: value if key in _NOT_SCHEMAS else _checked(value) for key, value in schema.items()}
    return checked


def _checked(node: Any) -> Any:
    match node:
        case {"type": "datetime"} if "tz_constraint" not in node:
            return core_schema.no_info_after_validator_function(require_zone, node)
        case {"type": "function-after", "function": {"function": function}} if function is require_zone:
            return node
        case {"type": "model"}:
            return node
        case dict():
            return {key: value if key in _NOT_SCHEMAS else _checked(value) for key, value in node.items()}
        case list():
            return [_checked(item) for item in node]
        case _:
            return node
