"""``purge``: delete what ended long ago."""

import re
from datetime import timedelta
from typing import Any, Final

import click

from stageflow.cli.failure import DONE, exiting
from stageflow.cli.loading import opened_app
from stageflow.cli.options import as_json, connecting
from stageflow.cli.output import dump, print_json
from stageflow.contracts.retention import Purge
from stageflow.contracts.status import TERMINAL_JOB_STATUSES, JobStatus
from stageflow.insights.words import counted

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Duration(click.ParamType[timedelta]):
    """A whole number and its unit, such as ``30d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration that a text names."""
        found = re.fullmatch(r"([0-9]{1,12})([a-z])", str(value).strip())
        if found is None or found[2] not in _UNITS:
            units = ", ".join(f"{unit} ({name})" for unit, name in _UNITS.items())
            self.fail(f"{value!r} is no duration; write a whole number and one unit of {units}, such as 30d", param, ctx)
        try:
            return timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError:
            self.fail(f"{value!r} is longer than any job has lived; write one of at most 100 years, such as 30d", param, ctx)


@click.command()
@click.option("--older-than", type=Duration(), required=True, help="Age of the last change, such as 12h, 30d or 8w.")
@click.option(
    "--status",
    type=click.Choice([status.value for status in sorted(TERMINAL_JOB_STATUSES)]),
    help="Only jobs that ended so, and no dead letters.",
)
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="At most so many jobs.")
@click.option("--yes", is_flag=True, help="Delete. Without it nothing is, and you see what would be.")
@connecting
@as_json
@exiting
def purge(
    older_than: timedelta,
    status: str | None,
    limit: int,
    yes: bool,  # noqa: FBT001  a flag
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """Delete jobs that ended long ago, and dead letters that were dealt with; a dry run unless --yes."""
    wanted = None if status is None else JobStatus(status)
    with opened_app(app_name, store, queue) as app:
        answer = app.purge(older_than, status=wanted, dry_run=not yes, limit=limit)
    if as_json:
        print_json(dump(answer))
    else:
        _tell(answer)
    return DONE


def _tell(answer: Purge) -> None:
    verb = "would delete" if answer.dry_run else "deleted"
    letters = counted(answer.letters, "dead letter")
    click.echo(
        f"{verb} {counted(answer.jobs, 'job')} with {counted(answer.tasks)} and {letters}, about "
        f"{counted(answer.size_bytes, 'byte')}, last changed before {answer.before:%Y-%m-%d %H:%M:%S} UTC"
    )
    if answer.payloads:
        click.echo(f"with them {answer.payloads} blobs of payloads that were too large for a row")
    if answer.kept:
        click.echo(f"{answer.kept} more are as old and stay: work of theirs is open, or somebody is changing them")
    if not answer.complete:
        click.echo("the limit ended it; there may be more")
    if answer.dry_run:
        click.echo("nothing was deleted; add --yes to delete")
