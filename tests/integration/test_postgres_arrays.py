"""Lists on their way into SQL: whatever text they hold arrives unchanged."""

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stageflow.backends.postgres.arrays import Doubles, DoublesDumper, dense_array, flag_array, number_array, packed
from stageflow.errors import InvalidValueError

_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


def _unpacked(separator: str, text: str) -> list[str | None]:
    """Do what ``string_to_array(text, separator, '')`` does."""
    return [part or None for part in text.split(separator)] if text else []


@given(st.lists(st.none() | _texts, min_size=2))
def test_packed_texts_come_apart_as_they_were(column: list[str | None]) -> None:
    """No text can hold the separator that is chosen for it."""
    separator, (text,) = packed(column)
    assert _unpacked(separator, text) == column or not any(column)


def test_texts_that_hold_separators_get_another_one() -> None:
    """A text of control characters costs a second look, not its integrity."""
    column = [chr(31) + "a", chr(30), None, "b\n"]
    separator, (text, other) = packed(column, [])
    assert (_unpacked(separator, text), other) == (column, "")


def test_nul_is_refused_before_it_is_sent() -> None:
    """PostgreSQL cannot hold NUL; the error says so before anything is written."""
    with pytest.raises(InvalidValueError, match="NUL"):
        packed(["a\0b"])


def test_the_server_reads_arrays_as_they_were(postgres_dsn: str) -> None:
    """Numbers keep every digit, nulls and booleans their place, texts their bytes."""
    column = ["ä\x1f", None, '{"quoted":"\\n"}', "NULL"]
    numbers = [0.1, 1e-300, 1763980800.123457, 3.0]
    separator, (text,) = packed(column)
    with psycopg.connect(postgres_dsn) as connection:
        connection.adapters.register_dumper(Doubles, DoublesDumper)
        row = connection.execute(
            "select string_to_array(%s, %s, ''), %s::double precision[], %s::integer[], %s::boolean[]",
            (text, separator, dense_array(numbers), number_array([1, None]), flag_array([True, False])),
        ).fetchone()
        binary = connection.execute("select %s, %s, %s", (Doubles(numbers), Doubles([]), Doubles([3]))).fetchone()
    assert row == (column, numbers, [1, None], [True, False])
    assert binary == (numbers, [], [3.0])
