"""Commands about messages that could not be used."""

from base64 import b64encode
from typing import Any

import click

from stageflow.cli.failure import DONE, exiting
from stageflow.cli.loading import opened_app
from stageflow.cli.options import as_json, connecting
from stageflow.cli.output import dump, print_json, print_table
from stageflow.contracts.dead_letter import DeadLetter, DeadLetterState
from stageflow.contracts.preview import redact

_SHOWN_REASON = 80


@click.group()
def letters() -> None:
    """Look at messages that could not be used, send them again, or put them away."""


@letters.command("list")
@click.option(
    "--state",
    type=click.Choice([*(each.value for each in DeadLetterState), "all"]),
    default=DeadLetterState.OPEN.value,
    show_default=True,
)
@click.option("--after", type=click.IntRange(0), default=0, show_default=True, help="Start after this letter.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@connecting
@as_json
@exiting
def list_(
    state: str,
    after: int,
    limit: int,
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """List dead letters, oldest first."""
    wanted = None if state == "all" else DeadLetterState(state)
    with opened_app(app_name, store, queue) as app:
        found = app.dead_letters(state=wanted, limit=limit, after=after)
    if as_json:
        print_json([_document(each) for each in found])
    else:
        rows = [
            (each.letter_id, each.queue, each.state, f"{each.created_at:%Y-%m-%d %H:%M:%S}", each.reason[:_SHOWN_REASON])
            for each in found
        ]
        print_table("dead letters", ("letter", "queue", "state", "parked (UTC)", "reason"), rows)
    return DONE


@letters.command()
@click.argument("letter_id", type=click.IntRange(1))
@connecting
@as_json
@exiting
def show(letter_id: int, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Show a dead letter with its reason and its bytes."""
    with opened_app(app_name, store, queue) as app:
        _show(app.dead_letter(letter_id), as_json=as_json, whole=True)
    return DONE


@letters.command()
@click.argument("letter_id", type=click.IntRange(1))
@connecting
@as_json
@exiting
def requeue(letter_id: int, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Send a dead letter's bytes to its queue again."""
    with opened_app(app_name, store, queue) as app:
        _show(app.requeue(letter_id), as_json=as_json)
    return DONE


@letters.command()
@click.argument("letter_id", type=click.IntRange(1))
@connecting
@as_json
@exiting
def discard(letter_id: int, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Put a dead letter away; its bytes are kept."""
    with opened_app(app_name, store, queue) as app:
        _show(app.discard(letter_id), as_json=as_json)
    return DONE


def _show(letter: DeadLetter, *, as_json: bool, whole: bool = False) -> None:
    if as_json:
        print_json(_document(letter))
        return
    click.echo(f"{letter.letter_id} {letter.state}")
    if whole:
        click.echo(f"queue {letter.queue}, message {letter.message_id}, delivered {letter.delivery_count} times")
        click.echo(f"reason: {letter.reason}")
        text = _text(letter.body)
        click.echo(f"body: {b64encode(letter.body).decode() + ' (base64)' if text is None else redact(text)}")


def _document(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter as JSON-ready data: its bytes in base64, and as text where they are any."""
    document: dict[str, Any] = dump(letter.model_copy(update={"body": b""}))
    return {**document, "body": _text(letter.body), "body_base64": b64encode(letter.body).decode()}


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
