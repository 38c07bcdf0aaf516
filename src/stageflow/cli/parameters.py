"""``--parameters``: JSON as a person types it, read strictly."""

import json
from typing import TypeVar

from pydantic import ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.preview import preview
from stageflow.errors import InvalidValueError

C = TypeVar("C", bound=Contract)


def decode_parameters(model: type[C], text: str) -> C:
    """Return the parameters that a JSON text holds.

    Raises:
        InvalidValueError: The text is not JSON or not this contract, names a key twice, or is nested too deeply.
    """
    _require_single_keys(text)
    try:
        return model.from_json(text)
    except ValidationError as error:
        problems = "; ".join(_problem(each["loc"], each["type"], each["msg"], each["input"]) for each in error.errors())
        msg = f"--parameters are no {model.__name__}: {problems}. Give a JSON object with {_fields_of(model)}."
        raise InvalidValueError(msg) from error


def _problem(place: tuple[int | str, ...], kind: str, said: str, came: object) -> str:
    """Say what is wrong where; of a missing field nothing came, and of one too many only the name matters."""
    where = ".".join(str(part) for part in place) or "the whole"
    return f"{where}: {said}" if kind in {"missing", "extra_forbidden"} else f"{where}: {said}, got {preview(came)}"


def _fields_of(model: type[Contract]) -> str:
    names = [name if field.is_required() else f"{name} (optional)" for name, field in model.model_fields.items()]
    return ", ".join(names) or "no fields"


def _require_single_keys(text: str) -> None:
    """Refuse what the contract's own decoder would let pass: of a doubled key it would silently take the last value."""
    try:
        json.loads(text, object_pairs_hook=_single, parse_int=str, parse_float=str)
    except json.JSONDecodeError:
        return  # the contract's decoder says better what is wrong
    except RecursionError as error:
        msg = "--parameters are nested too deeply to be read; make the JSON flatter"
        raise InvalidValueError(msg) from error


def _single(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for key, value in pairs:
        if key in members:
            msg = f"--parameters name the key {key[:100]!r} twice in one object; keep one of the two"
            raise InvalidValueError(msg)
        members[key] = value
    return members
