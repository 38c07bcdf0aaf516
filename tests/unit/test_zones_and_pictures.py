"""Datetimes keep their zones wherever a contract holds them, and pictures of values are short and safe."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Self

import pytest
from pydantic import AfterValidator, BaseModel, Field, NaiveDatetime, ValidationError, model_validator

from stageflow import Contract
from stageflow.contracts.base import UtcDatetime
from stageflow.contracts.preview import preview, redact

NOW = datetime(2026, 5, 17, 8, 30, tzinfo=UTC)
EAST = datetime(2026, 5, 17, 10, 30, tzinfo=timezone(timedelta(hours=2)))
NAIVE = datetime(2026, 5, 17, 8, 30)  # noqa: DTZ001  naive on purpose
REFUSED = "a datetime needs a time zone, got the naive 2026-05-17T08:30:00; pass datetime.now(UTC) or add tzinfo=UTC"


class Day(Contract):
    """A contract that may hold one of its own kind."""

    at: datetime
    next: "Day | None" = None

    @model_validator(mode="after")
    def _look(self) -> Self:
        return self


def _same(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (datetime, EAST, NAIVE),
        (datetime | None, EAST, NAIVE),
        (datetime | int, EAST, NAIVE),
        (list[datetime], [NOW, EAST], [NOW, NAIVE]),
        (tuple[int, datetime], (1, EAST), (1, NAIVE)),
        (dict[str, datetime], {"a": EAST}, {"a": NAIVE}),
        (Annotated[datetime, AfterValidator(_same)], EAST, NAIVE),
        (Annotated[list[datetime], AfterValidator(_same)], [EAST], [NAIVE]),
        (UtcDatetime, NOW, NAIVE),
        (UtcDatetime | None, NOW, NAIVE),
    ],
)
def test_a_datetime_without_a_zone_is_refused_wherever_a_contract_holds_it(hint: Any, good: Any, bad: Any) -> None:
    """Nobody can say which moment it is."""

    class Holder(Contract):
        value: hint

    assert Holder(value=good).value == good
    with pytest.raises(ValidationError) as caught:
        Holder(value=bad)
    assert f"Value error, {REFUSED}" in [error["msg"] for error in caught.value.errors()]


def test_validators_of_the_whole_contract_do_not_hide_its_datetimes() -> None:
    """Whether they come before the fields, after them, around them or around each other."""

    class Before(Contract):
        at: datetime

        @model_validator(mode="before")
        @classmethod
        def _look(cls, fields: Any) -> Any:
            return fields

    class After(Contract):
        at: datetime

        @model_validator(mode="after")
        def _look(self) -> Self:
            return self

    class Around(After):
        @model_validator(mode="wrap")
        @classmethod
        def _look_around(cls, fields: Any, handler: Any) -> Any:
            return handler(fields)

    class Holder(Contract):
        after: After

    for kind in (Before, After, Around):
        assert kind(at=EAST).at is EAST
        with pytest.raises(ValidationError, match=REFUSED.partition(";")[0]):
            kind(at=NAIVE)
    assert Holder(after=After(at=EAST)).after.at is EAST
    with pytest.raises(ValidationError, match="a datetime needs a time zone"):
        Holder.from_json('{"after":{"at":"2026-05-17T08:30:00"}}')


def test_a_contract_inside_of_itself_is_checked_to_the_last() -> None:
    """However deep it is."""
    day = '{"at":"2026-05-17T08:30:00Z","next":%s}'

    assert Day.from_json(day % (day % "null")).next == Day(at=NOW)
    with pytest.raises(ValidationError) as caught:
        Day.from_json(day % (day % '{"at":"2026-05-17T08:30:00"}'))
    assert [(error["loc"], error["msg"]) for error in caught.value.errors()] == [
        (("next", "next", "at"), f"Value error, {REFUSED}")
    ]


def test_a_naive_datetime_that_is_asked_for_by_name_is_taken() -> None:
    """And so is that of a model which is no contract."""

    class Note(BaseModel):
        at: datetime

    class Holder(Contract):
        at: NaiveDatetime
        note: Note

    assert Holder(at=NAIVE, note=Note(at=NAIVE)).at == NAIVE
    assert Holder.model_validate({"at": NAIVE, "note": Note(at=NAIVE)}).note.at == NAIVE
    assert Holder.from_json('{"at":"2026-05-17T08:30:00","note":{"at":"2026-05-17T08:30:00"}}').note.at == NAIVE
    with pytest.raises(ValidationError):
        Holder(at=NOW, note=Note(at=NAIVE))


def test_a_default_that_looks_like_a_schema_stays_what_it_is() -> None:
    """Only types are taken apart, never values."""

    class Holder(Contract):
        table: dict[str, str] = {"type": "datetime"}  # noqa: RUF012 - pydantic copies it
        more: dict[str, str] = Field(default_factory=lambda: {"type": "datetime"})

    assert (Holder().table, Holder().more) == ({"type": "datetime"}, {"type": "datetime"})


def test_what_a_store_keeps_is_in_utc() -> None:
    """The same moment in another zone of no offset becomes UTC, any other offset is refused."""

    class Holder(Contract):
        at: UtcDatetime

    assert Holder(at=NOW).at is NOW
    plain = Holder(at=NOW.replace(tzinfo=timezone(timedelta(0)))).at
    assert (plain, plain.tzinfo) == (NOW, UTC)
    with pytest.raises(ValidationError) as caught:
        Holder(at=EAST)
    assert caught.value.errors()[0]["msg"] == (
        "Value error, a datetime must be in UTC, got 2026-05-17T10:30:00+02:00; pass value.astimezone(UTC)"
    )


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("at https://user:SECRET@host/x now", "at https://user:***@host/x now"),
        ("password=SECRET", "password=***"),
        ("{'password': 'SECRET', 'a': 1}", "{'password': '***', 'a': 1}"),
        ("Login(password=Hidden('SECRET'), a=1)", "Login(password=Hidden('***'), a=1)"),
        ("AccountKey=SECRET;a=1", "AccountKey=***;a=1"),
        ("AccountKey='SECRET';a=1", "AccountKey='***';a=1"),
        ("x?sv=1&sig=SECRET&se=2", "x?sv=1&sig=***&se=2"),
        ("sent bearer SECRET to it", "sent bearer *** to it"),
        ("no secret at all", "no secret at all"),
    ],
)
def test_each_kind_of_secret_is_hidden_where_it_stands(text: str, safe: str) -> None:
    """What is around it stays as it was."""
    assert redact(text) == safe


class Showing:
    """A thing with a picture of its own."""

    def __init__(self, picture: str) -> None:
        self.picture = picture

    def __repr__(self) -> str:
        return self.picture


class Broken:
    """A thing without a picture."""

    def __repr__(self) -> str:
        raise KeyError


@pytest.mark.parametrize(
    ("value", "picture"),
    [
        (3, "3"),
        ("a", "'a'"),
        ("x" * 78, repr("x" * 78)),
        ("x" * 79, "'" + "x" * 78 + "…"),
        (["x" * 100, 1], "['" + "x" * 77 + "…"),
        ({"a": [["b", ["c"]]]}, "{'a': [['b', [...]]]}"),
        ([[["a"]]], "[[['a']]]"),
        ([[[["a"]]]], "[[[[...]]]]"),
        (Showing("x" * 80), "x" * 80),
        (Showing("x" * 81), "x" * 79 + "…"),
        (Showing("a\n  b\x00c\td"), "a b c d"),
        (Showing("password=SECRET, a"), "password=*** a"),
        (Showing("a password='" + "S" * 100), "a password='***"),
        (Showing("x" * 70 + " password=SECRET"), "x" * 70 + " password…"),
        ("see postgresql://user:" + "S" * 200 + "@host", "'see postgresql://user:***@host'"),
        (Broken(), "<Broken, whose repr raises KeyError>"),
        ([Broken()], "<list, whose repr raises KeyError>"),
    ],
)
def test_a_picture_of_a_value_is_one_short_and_safe_line(value: object, picture: str) -> None:
    """At most 80 characters; a secret is hidden before it is cut in two."""
    assert preview(value) == picture
