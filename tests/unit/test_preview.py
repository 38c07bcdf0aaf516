"""Pictures of values are short and safe; secrets do not get into messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from stageflow.contracts.preview import preview, redact


class Login(BaseModel):
    """A model whose repr shows a password."""

    user: str
    password: str


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("postgresql://user:SECRET@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user@tenant:SECRET@host/db", "postgresql://user@tenant:***@host/db"),
        ("postgresql://u:SEC/R@ECRET@host/db", "postgresql://u:***@host/db"),
        ("redis://:SECRET@host", "redis://:***@host"),
        ("host=h password=SECRET user=u", "host=h password=*** user=u"),
        ("host=h password='SEC RET' user=u", "host=h password='***' user=u"),
        ("password=SEC'RET", "password=***"),
        ("PGPASSWORD=SECRET", "PGPASSWORD=***"),
        ("pwd: SECRET", "pwd: ***"),
        (
            "AccountName=a;AccountKey=SECRET+/==;EndpointSuffix=core.windows.net",
            "AccountName=a;AccountKey=***;EndpointSuffix=core.windows.net",
        ),
        ("Endpoint=sb://x/;SharedAccessKey=SECRET=", "Endpoint=sb://x/;SharedAccessKey=***"),
        ("SharedAccessSignature=sv=2024&sig=SECRET", "SharedAccessSignature=***"),
        ("https://a.blob/x?sv=2024&sig=SECRET%3D&se=2026", "https://a.blob/x?sv=2024&sig=***&se=2026"),
        ("Authorization: Bearer SECRET.a.b", "Authorization: ***"),
        ("sent bearer SECRET-token to it", "sent bearer *** to it"),
        ("{'password': 'SECRET', 'a': 1}", "{'password': '***', 'a': 1}"),
        ("{'password': b'SECRET', 'a': 1}", "{'password': b'***', 'a': 1}"),
        ('{"db_password": "SECRET", "a": 1}', '{"db_password": "***", "a": 1}'),
        ("Login(password=Hidden('SECRET'), a=1)", "Login(password=Hidden('***'), a=1)"),
        ("password='SECRET cut o", "password='***"),
    ],
)
def test_a_secret_is_hidden_and_the_rest_is_kept(text: str, safe: str) -> None:
    """An error may be stored and shown without giving a credential away."""
    assert redact(text) == safe


@pytest.mark.parametrize("text", ["http://localhost:8080/path", "design=1 config=2 secretary=3", "lease token 7", ""])
def test_text_without_secrets_stays_as_it_is(text: str) -> None:
    """Redaction does not spoil messages that need none."""
    assert redact(text) == text


_fragments = st.lists(
    st.sampled_from(
        [
            *[
                "password=",
                ":",
                " ",
                "'",
                '"',
                "\\",
                "://",
                "@",
                "u",
                "sig=",
                "AccountKey",
                "bearer ",
                "x",
                "***",
                ";",
                "&",
                "\n",
                "(",
                "[",
            ],
            "pwd",
            "authorization",
        ]
    ),
    max_size=14,
).map("".join)


@given(st.text() | _fragments)
def test_redacting_twice_changes_nothing(text: str) -> None:
    """Text passes the redactor where it is stored and again where it is shown."""
    assert redact(redact(text)) == redact(text)


@given(
    st.recursive(
        st.text() | st.binary() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_preview_is_one_short_printable_line(value: object) -> None:
    """Whatever the value, its picture fits into a message and into a text column."""
    picture = preview(value)

    assert len(picture) <= 80
    assert picture.isprintable()


def test_a_small_value_is_shown_in_full() -> None:
    """The picture of a small value is its repr."""
    assert preview({"a": 1}) == "{'a': 1}"


def test_a_secret_is_hidden_before_the_text_is_shortened() -> None:
    """Half a secret is no longer recognised as one, so shortening comes last."""
    long_dsn = "postgresql://user:" + "SECRET" * 30 + "@host/db"

    assert "SECRET" not in preview(long_dsn)
    assert "SECRET" not in preview([long_dsn])
    assert "SECRET" not in preview({"dsn": long_dsn.encode()})
    assert "SECRET" not in preview(Login(user="u", password="SECRET" * 30))


def test_a_long_value_ends_in_an_ellipsis() -> None:
    """A reader sees that something was cut off."""
    assert preview("x" * 1_000_000) == "'" + "x" * 78 + "…"


class _Broken:
    def __repr__(self) -> str:
        msg = "no picture"
        raise RuntimeError(msg)


def test_a_value_whose_repr_fails_is_shown_by_its_type() -> None:
    """Somebody's broken repr never hides the error that is being reported."""
    assert preview(_Broken()) == "<_Broken, whose repr raises RuntimeError>"
    assert preview([_Broken()]) == "<list, whose repr raises RuntimeError>"


class _Liar(list[int]):
    """Takes part in reprlib's own treatment of lists, and fails there."""

    def __len__(self) -> int:
        msg = "no length"
        raise RuntimeError(msg)


_Liar.__name__ = "list"


def test_a_container_that_cannot_be_read_is_shown_by_its_type() -> None:
    """Not only ``repr`` may raise: any access may."""
    assert preview(_Liar()) == "<_Liar, whose repr raises RuntimeError>"
