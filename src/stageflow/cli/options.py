"""Options that many commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def connecting(command: F) -> F:
    """Add ``--app``, ``--store`` and ``--queue``."""
    for option in (
        click.option("--queue", help="azure:CONNECTION_STRING; the database queue when left out. Or STAGEFLOW_QUEUE."),
        click.option("--store", help="sqlite:PATH or postgresql://... Or STAGEFLOW_STORE. Default sqlite:stageflow.db."),
        click.option("--app", "app_name", help="module, or module:attribute, that holds the workflows. Or STAGEFLOW_APP."),
    ):
        command = option(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
