"""JSON that somebody else wrote: its size is judged before it is parsed, what no store can hold is refused after.

Depth needs no test of its own here: pydantic's parser stops at the 200th bracket that is open. Python's own parser, which
sees keys that are named twice, raises ``RecursionError``, which becomes an error of ours here.
"""

import json
import math
import re
from collections import Counter
from typing import Any, Final, NoReturn

from pydantic import JsonValue, TypeAdapter, ValidationError

from stageflow.errors import InvalidValueError, PayloadTooLargeError

MESSAGE_BYTES: Final = 65_536
"""The most bytes of a queue's message that are looked at: what Azure Storage Queue carries, and ours have a few hundred."""

JSON_BYTES: Final = 8_388_608
"""The most bytes of JSON that are read from a column, a file or the command line: eight times what a row is given."""

_object: Final[TypeAdapter[dict[str, JsonValue]]] = TypeAdapter(dict[str, JsonValue])
# A float of three digits of exponent may be beyond the largest, 1.8e308, and so may one of more than 300 digits.
_maybe_infinite: Final = re.compile(r"[0-9.][eE]\+?[0-9]{3}|[0-9]{300}")


def require_size(text: str | bytes, most: int, name: str) -> None:
    """Do nothing if a text is small enough to be parsed; the characters of a ``str`` are counted before its bytes are.

    Raises:
        PayloadTooLargeError: It has more bytes; the message calls it ``name``.
    """
    size = len(text)
    if size <= most and isinstance(text, str) and not text.isascii():
        size = len(text.encode(errors="surrogatepass"))
    if size > most:
        msg = f"{name} has {size:,} bytes, at most {most:,} are read; write the bulk to a blob and pass on its name"
        raise PayloadTooLargeError(msg)


def require_single_keys(text: str | bytes, name: str) -> None:
    """Do nothing if no object of a JSON text names a key twice; a text that is no JSON passes, for its decoder to refuse.

    Raises:
        InvalidValueError: One does, of which a decoder would silently take the last; or it is nested too deeply.
    """

    def single(pairs: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(pairs)
        if len(members) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            msg = f"{name} name the key {twice[:100]!r} twice in one object; keep one of the two"
            raise InvalidValueError(msg)
        return members

    try:
        json.loads(text, object_pairs_hook=single, parse_int=str, parse_float=str)
    except RecursionError as error:
        msg = f"{name} are nested too deeply to be read; make the JSON flatter"
        raise InvalidValueError(msg) from error
    except InvalidValueError:
        raise
    except ValueError:
        return  # no JSON, or no UTF-8: the decoder says better what is wrong


def require_storable(text: str, name: str) -> None:
    """Do nothing if a JSON text has neither NaN, infinity (``1e999`` included) nor NUL; the quick tests have false alarms only.

    Raises:
        InvalidValueError: It has; the message calls it ``name``.
    """
    if "\\u0000" in text or "NaN" in text or "Infinity" in text or _maybe_infinite.search(text) is not None:
        _refuse_unstorable(_loaded(text, name), name)


def read_json_object(text: str | bytes, name: str) -> dict[str, JsonValue]:
    """Return the object that a stored JSON text holds.

    Raises:
        InvalidValueError: It is no JSON object, too large, nested too deeply, or holds what no store can.
    """
    require_size(text, JSON_BYTES, name)
    try:
        value = _object.validate_json(text, strict=True)
    except ValidationError as error:
        msg = f"{name} is no JSON object: {error.errors(include_url=False, include_input=False)[0]['msg']}"
        raise InvalidValueError(msg) from error
    require_storable(text if isinstance(text, str) else text.decode(), name)
    return value


def _loaded(text: str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda constant: _refuse(name, constant))
    except RecursionError as error:
        msg = f"{name} is nested too deeply to be read; make the JSON flatter"
        raise InvalidValueError(msg) from error
    except InvalidValueError:
        raise
    except ValueError as error:
        msg = f"{name} cannot be read: {error}; correct the JSON"
        raise InvalidValueError(msg) from error


def _refuse_unstorable(value: Any, name: str) -> None:
    match value:
        case str() if "\0" in value:
            _refuse(name, "text with a NUL character")
        case float() if math.isinf(value):
            _refuse(name, "a number that is too large for a float")
        case list():
            for item in value:
                _refuse_unstorable(item, name)
        case dict():
            for key, item in value.items():
                _refuse_unstorable(key, name)
                _refuse_unstorable(item, name)
        case _:
            pass


def _refuse(name: str, what: str) -> NoReturn:
    msg = f"{name} holds {what}, which no store can hold; replace it by None or text, or leave the field out"
    raise InvalidValueError(msg)
