"""``--parameters``: JSON as a person types it, read strictly."""

from typing import Final, TypeVar

from pydantic import ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.json_text import JSON_BYTES, require_single_keys, require_size, require_storable
from stageflow.contracts.preview import preview, redact
from stageflow.errors import InvalidValueError

C = TypeVar("C", bound=Contract)

_NAME: Final = "--parameters"


def decode_parameters(model: type[C], text: str) -> C:
    """Return the parameters that a JSON text holds.

    Raises:
        InvalidValueError: The text is not JSON or not this contract, names a key twice, holds what no store can, is nested too
            deeply or is too large.
    """
    require_size(text, JSON_BYTES, _NAME)
    require_single_keys(text, _NAME)
    try:
        parameters = model.from_json(text)
    except ValidationError as error:
        refused = error
    else:
        require_storable(text, _NAME)
        return parameters
    # Out here, where nothing is being handled: pydantic's error quotes what may be a secret.
    problems = "; ".join(_problem(each["loc"], each["type"], each["msg"], each["input"]) for each in refused.errors())
    msg = f"--parameters are no {model.__name__}: {problems}. Give a JSON object with {_fields_of(model)}."
    raise InvalidValueError(msg)


def _problem(place: tuple[int | str, ...], kind: str, said: str, came: object) -> str:
    """Say what is wrong where; of a missing field nothing came, and of one too many only the name matters."""
    where = ".".join(str(part) for part in place) or "the whole"
    if kind in {"missing", "extra_forbidden"}:
        return f"{where}: {said}"
    secret = redact(f"{where}=x") != f"{where}=x"  # a password of the wrong type is a password still
    return f"{where}: {said}, got {'***' if secret else preview(came)}"


def _fields_of(model: type[Contract]) -> str:
    names = [name if field.is_required() else f"{name} (optional)" for name, field in model.model_fields.items()]
    return ", ".join(names) or "no fields"
