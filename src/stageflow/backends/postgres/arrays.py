"""Python lists as PostgreSQL arrays, at the speed of ``str.join``.

psycopg dumps a list element by element in Python, about a microsecond each. A batch of completions has five lists of a
thousand elements, so they travel as one text each and the server takes them apart.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

from stageflow.errors import InvalidValueError

_DOUBLE_OID: Final = 701
_DOUBLE_BYTES: Final = 8

_SEPARATORS: Final = tuple(map(chr, (*range(31, 27, -1), *range(0xE000, 0xE100))))


def number_array(values: Iterable[float | None]) -> str:
    """Return the array literal of numbers: ``{1,2,NULL}``."""
    return "{" + ",".join(["NULL" if value is None else repr(value) for value in values]) + "}"


def dense_array(values: Sequence[float]) -> str:
    """Return the array literal of numbers none of which is missing."""
    return "{" + ",".join(map(repr, values)) + "}"


class Doubles:
    """Numbers that travel in PostgreSQL's binary form of ``double precision[]``; connections need :class:`DoublesDumper`."""

    def __init__(self, values: Sequence[float]) -> None:
        interleaved: list[float] = [_DOUBLE_BYTES] * (2 * len(values))
        interleaved[1::2] = values
        # One dimension, no nulls, the element type, how many, counted from 1; then each with its length.
        layout = ">5i" + "id" * len(values) if values else ">3i"
        head = (1, 0, _DOUBLE_OID, len(values), 1) if values else (0, 0, _DOUBLE_OID)
        self.data: Final = struct.pack(layout, *head, *interleaved)


class DoublesDumper(Dumper):
    """Sends :class:`Doubles` as they are."""

    format = Format.BINARY
    oid = 1022

    def dump(self, obj: Doubles) -> Buffer:
        """Return the bytes to be sent."""
        return obj.data


def flag_array(values: Iterable[bool]) -> str:
    """Return the array literal of booleans."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def literal_array(arrays: Iterable[str]) -> str:
    """Return the literal of an array of texts, each of which is the literal of numbers or booleans."""
    return "{" + ",".join([f'"{array}"' for array in arrays]) + "}"


def packed_lists(*columns: Sequence[Sequence[str | None]]) -> tuple[str, list[list[str]]]:
    """Return a separator that none of the texts of the lists holds, and for each column its lists joined by it.

    To be packed again. What :func:`packed` says of an empty text, a null and an empty column holds for each list.

    Raises:
        InvalidValueError: As :func:`packed`.
    """
    separator, _ = packed([value for column in columns for values in column for value in values])
    return separator, [[separator.join([value or "" for value in values]) for values in column] for column in columns]


def packed(*columns: Sequence[str | None]) -> tuple[str, list[str]]:
    """Return a separator that none of the texts holds, and each column joined by it.

    SQL takes a column apart by ``string_to_array(text, separator, '')``, in which an empty text is null. A column of
    one null or empty text becomes an empty array, which ``unnest`` beside longer ones fills up with nulls.

    Raises:
        InvalidValueError: A text holds NUL, or (with malice) every separator.
    """
    filled = [[value or "" for value in column] if None in column else column for column in columns]
    for separator in _SEPARATORS:
        texts = [separator.join(column) for column in filled]  # type: ignore[arg-type]  # None was replaced above
        if all(text.count(separator) == max(0, len(column) - 1) for text, column in zip(texts, filled, strict=True)):
            if any("\0" in text for text in texts):
                break
            return separator, texts
    msg = "a text holds a NUL or control character that PostgreSQL cannot store or stageflow cannot send; remove it"
    raise InvalidValueError(msg)
