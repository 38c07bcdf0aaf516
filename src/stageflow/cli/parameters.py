"""``--parameters``: JSON as a person types it, read strictly."""

import json
from typing import TypeVar

from pydantic import ValidationError

from stageflow.contracts.base import Contract
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
        problems = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'the whole'}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        )
        msg = f"--parameters are no {model.__name__}: {problems}"
        raise InvalidValueError(msg) from error


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
