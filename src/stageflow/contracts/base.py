"""The base of every contract, and the one way in and out of JSON."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, JsonValue, ValidationError
from pydantic_core import CoreSchema, PydanticSerializationError

from stageflow.contracts.datetimes import UtcDatetime, require_zones
from stageflow.contracts.json_fields import WrittenAs
from stageflow.contracts.json_text import read_json_object
from stageflow.contracts.preview import preview
from stageflow.contracts.validated import ValidatedModel
from stageflow.errors import InvalidValueError, PayloadTooLargeError

__all__ = [
    "INLINE_BYTES",
    "Contract",
    "JsonObject",
    "LateContract",
    "TypeName",
    "UtcDatetime",
    "canonical_json",
    "checked_json",
    "checked_text",
    "inline_json",
    "json_object_text",
    "refuse_surrogates",
    "type_name_pattern",
]

type_name_pattern = r"^[a-z][a-z0-9_.-]{0,99}$"
TypeName = Annotated[str, Field(pattern=type_name_pattern)]
"""A job type or task type: a lower-case letter, then at most 99 of ``a-z 0-9 _ . -``."""

INLINE_BYTES: Final = 1_048_576
"""The most bytes of JSON that a row holds: 1 MiB."""

_LONGEST_NUMBER: Final = 4300
_long_number: Final = re.compile(r"(?<![0-9])[0-9]{4301}")
"""Each run of digits is read once, from its first: a search that began at each digit took seconds for a megabyte of them."""

JsonObject = dict[str, JsonValue]
"""A JSON object whose keys are text; an ``int`` key is refused."""


class Contract(ValidatedModel):
    """A frozen, strict model for values that cross a boundary.

    Unknown fields are refused, nothing is coerced; NaN, infinity and datetimes without a time zone are refused. Python
    values are checked as they are; text becomes an enum or a datetime only when JSON text is read (:meth:`from_json`).
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        validate_default=True,
    )

    written_as: ClassVar[WrittenAs | None] = None
    """How it is written, once that was asked."""

    # Python calls it before the class that holds it is there, which mutmut's stand-in cannot bear.
    # pragma: no mutate start
    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Return pydantic's schema of the contract, in which every datetime needs a time zone."""
        cls.written_as = None
        return require_zones(handler(source))

    # pragma: no mutate end

    def to_json(self) -> str:
        """Return the contract as JSON text that every store can hold.

        Raises:
            InvalidValueError: JSON would change a value (a datetime, set, tuple or bytes in a field of type ``Any``), or the
                text would hold NUL, NaN, infinity, a lone surrogate or a number that cannot be read again.
        """
        written_as = self.written_as
        if written_as is None:
            written_as = type(self).written_as = WrittenAs.of(self.__pydantic_core_schema__)
        try:
            text = self.__pydantic_serializer__.to_json(self, warnings=written_as.warnings).decode()
        except PydanticSerializationError as error:
            msg = (
                f"this {type(self).__name__} cannot be written as JSON: {error}; hold text, finite numbers, lists, dicts with "
                "text keys or contracts in it, as its annotations say"
            )
            raise InvalidValueError(msg) from error
        if "\ufffd" in text:
            refuse_surrogates(self.model_dump())
        if written_as.is_reread:
            self._refuse_changes(text)
        return checked_json(text)

    def _refuse_changes(self, text: str) -> None:
        checked_json(text)
        try:
            again = self.from_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            msg = (
                f"this {type(self).__name__} could not be read again from JSON: {first['msg']}; make it flatter, or correct it"
            )
            raise InvalidValueError(msg) from error
        for name, value in self:
            read = getattr(again, name)
            if read != value or type(read) is not type(value):
                msg = (
                    f"{type(self).__name__}.{name} would come back as {preview(read)} when it is read from JSON again, it is "
                    f"{preview(value)}; give the field a type of its own, or hold JSON values only"
                )
                raise InvalidValueError(msg)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Validate fields into the contract: as the constructor does, at two thirds of its cost.

        Raises:
            pydantic.ValidationError: The fields are not this contract's.
        """
        return cls.__pydantic_validator__.validate_python(fields)  # type: ignore[no-any-return]  # pydantic_core has no types here

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Validate JSON text into the contract.

        Raises:
            pydantic.ValidationError: The text is not JSON or not this contract.
        """
        return cls.__pydantic_validator__.validate_json(text)  # type: ignore[no-any-return]  # pydantic_core has no types here


class LateContract(Contract):
    """A contract of this library, whose validator is built when it is first used: importing stays cheap."""

    model_config = ConfigDict(defer_build=True)


def checked_text(text: str, name: str) -> str:
    """Return ``text`` unchanged if every store can hold it.

    Raises:
        InvalidValueError: It holds NUL or a lone surrogate; the message calls it ``name``.
    """
    if "\0" in text or text.encode(errors="replace").decode() != text:
        msg = f"{name} holds NUL or a lone surrogate, which no store can hold: {text[:40]!r}; remove it"
        raise InvalidValueError(msg)
    return text


def checked_json(text: str) -> str:
    """Return ``text`` unchanged if every store can hold it.

    The quick tests have false alarms only (a string that spells ``NaN``); the slow test behind them has none.

    Raises:
        InvalidValueError: The JSON holds NUL, NaN or infinity.
    """
    if "\\u0000" in text or "NaN" in text or "Infinity" in text:
        _refuse_nul(json.loads(text, parse_constant=_refuse_constant))
    if len(text) > _LONGEST_NUMBER and _long_number.search(text) is not None:
        try:
            json.loads(text)
        except ValueError as error:
            msg = f"the payload holds a number of more than {_LONGEST_NUMBER} digits, that cannot be read again; use text"
            raise InvalidValueError(msg) from error
    return text


def inline_json(text: str, name: str) -> str:
    """Return JSON text unchanged if it is small enough for a row.

    Raises:
        PayloadTooLargeError: It has more than :data:`INLINE_BYTES`; the message calls it ``name``.
    """
    size = len(text) if text.isascii() else len(text.encode())
    if size > INLINE_BYTES:
        msg = f"{name}: {size} bytes of JSON, at most {INLINE_BYTES} are stored; write it to a blob and pass on its name"
        raise PayloadTooLargeError(msg)
    return text


def _refuse_constant(name: str) -> NoReturn:
    msg = f"the payload holds {name}, which JSON cannot express; replace it by None or leave the field out"
    raise InvalidValueError(msg)


def refuse_surrogates(value: Any) -> None:
    """Do nothing if UTF-8 can express every text in a value, keys included; pydantic writes such keys as U+FFFD.

    Raises:
        InvalidValueError: It cannot.
    """
    match value:
        case str():
            checked_text(value, "the payload")
        case list() | tuple() | set() | frozenset():
            for item in value:
                refuse_surrogates(item)
        case dict():
            for key, item in value.items():
                refuse_surrogates(key)
                refuse_surrogates(item)
        case _:
            pass


def _refuse_nul(value: Any) -> None:
    match value:
        case str() if "\0" in value:
            msg = f"the payload holds text with a NUL character, which PostgreSQL cannot store: {value[:40]!r}; remove it"
            raise InvalidValueError(msg)
        case list():
            for item in value:
                _refuse_nul(item)
        case dict():
            for key, item in value.items():
                _refuse_nul(key)
                _refuse_nul(item)
        case _:
            pass


_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(model: BaseModel) -> str:
    """Return the one JSON text of a model: keys sorted, no spaces, UTF-8, no NaN or infinity.

    Equal models give equal text whatever the order in which their fields and keys were set.

    Raises:
        InvalidValueError: The model holds NUL, NaN, infinity or text that UTF-8 cannot express.
    """
    try:
        text = _canonical.encode(model.model_dump(mode="json"))
        text.encode()
        if "\ufffd" in text:
            refuse_surrogates(model.model_dump())
    except InvalidValueError:
        raise
    except (ValueError, RecursionError) as error:
        msg = f"{type(model).__name__} has no canonical JSON: {error}; remove NaN, infinity and lone surrogates, and nest less"
        raise InvalidValueError(msg) from error
    return checked_json(text)


def json_object_text(value: JsonObject) -> str:
    """Return an object that was read from JSON as JSON text again; never for models, which have :meth:`Contract.to_json`.

    Raises:
        InvalidValueError: It holds NUL, NaN, infinity or text that UTF-8 cannot express, or is nested too deeply or too large
            to be read again.
    """
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        msg = f"the object cannot be written as JSON: {error}; remove NaN, infinity and lone surrogates, and make it flat"
        raise InvalidValueError(msg) from error
    read_json_object(checked_json(text), "the object")  # what is too deep or too large to be read again is not stored
    return text
