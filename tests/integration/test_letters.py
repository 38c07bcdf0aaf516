"""Messages that could not be used are looked at, sent again and put away, through the app and the command line."""

import json
import uuid
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stageflow import (
    DeadLetter,
    DeadLetterNotFoundError,
    DeadLetterState,
    InvalidTransitionError,
    InvalidValueError,
    JobRegistry,
    Stageflow,
)
from stageflow.cli import main
from stageflow.contracts.dead_letter import NewDeadLetter

registry = JobRegistry()


def park(app: Stageflow, body: bytes = b"not json", *, queue: str = "stageflow-jobs") -> DeadLetter:
    """Park a message, as a worker does."""
    new = NewDeadLetter(queue=queue, message_id=uuid.uuid4().hex, body=body, reason="not JSON", delivery_count=1)
    return app.repositories.store.add_dead_letter(new)


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each store, without an external queue."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=registry) as app:
        app.migrate()
        yield app


def test_a_requeued_letter_is_received_again(azurite: Any) -> None:
    """The kept bytes go to the queue they came from, and the letter is done with: a second requeue is refused."""
    queue = f"azure:{azurite.connection_string}?prefix=t-{uuid.uuid4().hex[:12]}"
    with Stageflow("sqlite::memory:", registry=registry, queue=queue) as app:
        app.migrate()
        assert app.queue is not None
        name = app.queue.url.rsplit("prefix=", maxsplit=1)[-1] + "-tasks"
        letter = park(app, b"\x00\xff", queue=name)
        assert app.requeue(letter.letter_id).state is DeadLetterState.REQUEUED
        (message,) = app.queue.receive(max_messages=10, visibility_seconds=60.0)
        assert (message.queue, message.body) == (name, b"\x00\xff")
        with pytest.raises(InvalidTransitionError, match="is requeued and cannot become requeued"):
            app.requeue(letter.letter_id)
        assert app.queue.receive(max_messages=10, visibility_seconds=60.0) == []
        assert app.dead_letters() == []
        other = park(app, queue="elsewhere")
        with pytest.raises(InvalidValueError, match="there is no queue 'elsewhere'"):
            app.requeue(other.letter_id)
        assert app.dead_letters() == [other]


def test_a_discarded_letter_keeps_its_bytes_and_is_not_requeued(app: Stageflow) -> None:
    """It leaves the list of what is to be done, and the refusal names its state."""
    letter = park(app)
    assert app.dead_letters() == [letter]
    discarded = app.discard(letter.letter_id)
    assert (discarded.state, discarded.body) == (DeadLetterState.DISCARDED, b"not json")
    assert (app.dead_letters(), app.dead_letters(state=None)) == ([], [discarded])
    with pytest.raises(InvalidTransitionError, match="is discarded and cannot become requeued; allowed: nothing"):
        app.requeue(letter.letter_id)
    assert app.dead_letter(letter.letter_id) == discarded


def test_without_a_queue_nothing_is_requeued(app: Stageflow) -> None:
    """The message says what to name, and the letter stays open."""
    letter = park(app)
    with pytest.raises(InvalidValueError, match="there is none here to send it to; name it with --queue"):
        app.requeue(letter.letter_id)
    assert app.dead_letters() == [letter]


@pytest.mark.parametrize("letter_id", [0, -1, 99, 10**30])
def test_an_unknown_letter_is_told_as_such(app: Stageflow, letter_id: int) -> None:
    """Whatever number is given."""
    park(app)
    for act in (app.dead_letter, app.requeue, app.discard):
        with pytest.raises(DeadLetterNotFoundError, match="stageflow letters list"):
            act(letter_id)


def test_letters_are_listed_page_by_page(app: Stageflow) -> None:
    """The last of a page leads to the next; an absurd limit is refused."""
    letters = [park(app) for _ in range(3)]
    assert app.dead_letters(limit=2) == letters[:2]
    assert app.dead_letters(limit=2, after=letters[1].letter_id) == letters[2:]
    with pytest.raises(InvalidValueError, match="limit must be 1 to 1000, got 0"):
        app.dead_letters(limit=0)


def test_the_command_line_deals_with_letters(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person sees the reason and the text, a program also every byte; a wrong state exits with 1, an unknown id with 2."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["letters", *arguments, "--app", f"{__name__}:cli_app"])

    text, binary = park(app), park(app, b"\xff\x00")
    assert "not JSON" in call("list").output
    listed = json.loads(call("list", "--json").output)
    assert [(each["body"], each["body_base64"]) for each in listed] == [
        ("not json", b64encode(b"not json").decode()),
        (None, b64encode(b"\xff\x00").decode()),
    ]
    shown = call("show", str(text.letter_id)).output
    assert "reason: not JSON" in shown
    assert "body: not json" in shown
    assert "(base64)" in call("show", str(binary.letter_id)).output
    assert call("discard", str(text.letter_id)).output == f"{text.letter_id} discarded\n"
    refused = call("requeue", str(text.letter_id))
    assert (refused.exit_code, "is discarded and cannot become requeued" in refused.output) == (1, True)
    unnamed = call("requeue", str(binary.letter_id))
    assert (unnamed.exit_code, "name it with --queue" in unnamed.output) == (2, True)
    assert call("show", "99").exit_code == 2
    assert [each["state"] for each in json.loads(call("list", "--state", "all", "--json").output)] == ["discarded", "open"]
