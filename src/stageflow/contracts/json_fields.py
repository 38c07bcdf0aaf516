"""What a contract's fields may hold: anything, which JSON might change, or only what cannot change once it is validated."""

from typing import Any, Final, Literal, NamedTuple

from pydantic_core import CoreSchema

from stageflow.contracts.datetimes import ZONE_CHECKS
from stageflow.contracts.validated import ValidatedModel

_NOT_SCHEMAS: Final = frozenset({"cls", "function", "default", "default_factory", "expected", "metadata", "serialization"})


class WrittenAs(NamedTuple):
    """What has to be done when a contract is written as JSON.

    Attributes:
        warnings: How the serializer treats what is not as annotated. To compare costs more than to write.
        is_reread: JSON could change a value, so what was written is read again and compared.
    """

    warnings: Literal[False, "error"]
    is_reread: bool

    @classmethod
    def of(cls, schema: CoreSchema) -> "WrittenAs":
        """Return it for a model's complete schema."""
        return cls(False if holds_plain_values(schema) else "error", holds_anything(schema))


def holds_anything(schema: CoreSchema) -> bool:
    """Return whether a model's schema has a field of type ``Any`` or ``object`` somewhere inside that is written as JSON."""
    return any(_holds(value) for key, value in schema.items() if key not in _NOT_SCHEMAS)


def _holds(node: Any) -> bool:
    match node:
        case {"type": "any"}:
            return True
        case {"type": "model-field", "serialization_exclude": True}:
            return False
        case dict():
            return any(_holds(value) for key, value in node.items() if key not in _NOT_SCHEMAS)
        case list():
            return any(map(_holds, node))
        case _:
            return False


_PLAIN: Final = frozenset({"str", "int", "float", "bool", "none", "date", "time", "timedelta", "datetime", "uuid", "decimal"})
_PLAIN_CHOICES: Final = frozenset({"enum", "literal"})
_AROUND: Final = frozenset({"nullable", "default", "model-field"})


def holds_plain_values(schema: CoreSchema) -> bool:
    """Return whether each field of a model's schema holds a value that cannot change, or a contract of such fields.

    Once validated it stays what its annotation says. A field with a validator or serializer of its author does not count: what
    that gives back is not known.
    """
    return _is_plain(schema)


def _is_plain(node: Any) -> bool:
    if "serialization" in node or node.get("serialization_exclude"):
        return False
    match node:
        case {"type": kind} if kind in _PLAIN or kind in _PLAIN_CHOICES:
            return True
        case {"type": kind, "schema": inner} if kind in _AROUND:
            return _is_plain(inner)
        case {"type": "function-after", "function": {"function": function}, "schema": inner} if function in ZONE_CHECKS:
            return _is_plain(inner)
        case {"type": "tuple", "items_schema": items}:
            return all(map(_is_plain, items))
        case {"type": "model", "cls": cls, "schema": {"type": "model-fields", "fields": fields}}:
            return issubclass(cls, ValidatedModel) and all(map(_is_plain, fields.values()))
        case _:
            return False
