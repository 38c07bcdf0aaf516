"""Finds contracts whose fields may hold anything, so that what JSON would change can be refused."""

from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import CoreSchema

_NOT_SCHEMAS: Final = frozenset({"cls", "function", "default", "default_factory", "expected", "metadata", "serialization"})


def holds_anything(schema: CoreSchema) -> bool:
    """Return whether a model's schema has a field of type ``Any`` or ``object`` somewhere inside that is written as JSON.

    A field that refers to its own model counts too: what it refers to is not known yet.
    """
    return any(_holds(value) for key, value in schema.items() if key not in _NOT_SCHEMAS)


def _holds(node: Any) -> bool:
    match node:
        case {"type": "any" | "definition-ref"}:
            return True
        case {"type": "model-field", "serialization_exclude": True}:
            return False
        case {"type": "model", "cls": cls} if issubclass(cls, BaseModel) and "holds_anything" in vars(cls):
            known: bool = cls.holds_anything
            return known
        case dict():
            return any(_holds(value) for key, value in node.items() if key not in _NOT_SCHEMAS)
        case list():
            return any(map(_holds, node))
        case _:
            return False
