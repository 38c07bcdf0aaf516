"""Options that many commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

_BLANK = "it is blank; leave the option out, or give it a value"

_BLOBS = "stageflow.blobs"

F = TypeVar("F", bound=Callable[..., Any])


def not_blank(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001  a callback
    """Refuse a blank value, such as an unset variable of a script leaves: it must not fall back to the default."""
    if value is not None and not value.strip():
        raise click.BadParameter(_BLANK)
    return value


def _keep_blobs(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    context.meta[_BLOBS] = not_blank(context, parameter, value)


def given_blobs() -> str | None:
    """Return what ``--blobs`` says in the command that runs, ``None`` where it says nothing."""
    context = click.get_current_context(silent=True)
    if context is None or _BLOBS not in context.meta:
        return None
    blobs: str | None = context.meta[_BLOBS]
    return blobs


def connecting(command: F) -> F:
    """Add ``--app``, ``--store``, ``--queue`` and ``--blobs``; the last is for :func:`given_blobs`, not for the command."""
    for option in (
        click.option(
            "--blobs",
            callback=_keep_blobs,
            expose_value=False,
            help="file:FOLDER or azure:CONNECTION_STRING, for payloads of more than 1 MiB. Or STAGEFLOW_BLOBS.",
        ),
        click.option(
            "--queue",
            callback=not_blank,
            help="azure:CONNECTION_STRING; the database queue when left out. Or STAGEFLOW_QUEUE.",
        ),
        click.option(
            "--store",
            callback=not_blank,
            help="sqlite:PATH or postgresql://... Or STAGEFLOW_STORE. Default sqlite:stageflow.db.",
        ),
        click.option(
            "--app",
            "app_name",
            callback=not_blank,
            help="module, or module:attribute, that holds the workflows. Or STAGEFLOW_APP.",
        ),
    ):
        command = option(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
