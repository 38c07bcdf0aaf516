"""Commands that people give to a job under way."""

import click

from stageflow.cli.failure import DONE, exiting
from stageflow.cli.loading import find_job, opened_app
from stageflow.cli.options import as_json, connecting
from stageflow.cli.output import dump, print_json
from stageflow.contracts.job import JobRecord


@click.command()
@click.argument("job_id")
@connecting
@as_json
@exiting
def pause(job_id: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Pause a job: nothing of it starts any more, and what runs may end."""
    with opened_app(app_name, store, queue) as app:
        _show(app.pause(find_job(app, job_id).job_id), as_json=as_json)
    return DONE


@click.command()
@click.argument("job_id")
@connecting
@as_json
@exiting
def resume(job_id: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Let a paused job go on where it stood."""
    with opened_app(app_name, store, queue) as app:
        _show(app.resume(find_job(app, job_id).job_id), as_json=as_json)
    return DONE


def _show(job: JobRecord, *, as_json: bool) -> None:
    if as_json:
        print_json(dump(job))
    else:
        click.echo(f"{job.job_id} {job.status}")
