"""What happened to a job."""

import click

from stageflow.cli.failure import DONE, exiting
from stageflow.cli.loading import find_job, opened_app
from stageflow.cli.options import as_json, connecting
from stageflow.cli.output import dump, print_json
from stageflow.contracts.event import MOST_EVENTS, JobEvent
from stageflow.insights.words import last_line


@click.command()
@click.argument("job_id")
@click.option("--limit", type=click.IntRange(1, MOST_EVENTS), default=MOST_EVENTS, show_default=True, help="At most so many.")
@click.option("--after", type=int, help="Only what came after the event with this id.")
@connecting
@as_json
@exiting
def history(
    job_id: str,
    limit: int,
    after: int | None,
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """Show what happened to a job over all its runs, oldest first; JOB_ID may be the beginning of an id."""
    with opened_app(app_name, store, queue) as app:
        events = app.history(find_job(app, job_id).job_id, after=after, limit=limit)
    if as_json:
        print_json([dump(event) for event in events])
        return DONE
    for event in events:
        click.echo(_line(event))
    if len(events) == limit:
        click.echo(f"there may be more: --after {events[-1].event_id}")
    return DONE


def _line(event: JobEvent) -> str:
    parts = [
        f"{event.at:%Y-%m-%d %H:%M:%S}",
        f"run {event.run}",
        "" if event.stage_number is None else f"stage {event.stage_number}",
        event.kind.value,
        event.status or "",
        _tasks(event),
        "" if event.attempt is None else f"attempt {event.attempt}",
        f"by {event.worker_id}" if event.worker_id else "",
    ]
    line = "  ".join(part for part in parts if part)
    return line if event.detail is None else f"{line}: {last_line(event.detail)}"


def _tasks(event: JobEvent) -> str:
    if event.first is None or event.last is None or event.tasks is None:
        return ""
    if event.tasks == 1:
        return f"task {event.first}"
    width = event.last - event.first
    return (
        f"{event.tasks} tasks {'of' if event.tasks < width else 'from'} {event.first} to {event.last - 1}"
        if width
        else "no tasks"
    )
