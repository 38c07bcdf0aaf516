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


@click.command()
@click.argument("job_id")
@click.option("--from-stage", type=click.IntRange(1), default=1, show_default=True, help="The first stage to run again.")
@click.option("--dry-run", is_flag=True, help="Change nothing, say what would happen.")
@connecting
@as_json
@exiting
def resubmit(
    job_id: str,
    from_stage: int,
    dry_run: bool,  # noqa: FBT001  a flag
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """Run a failed or cancelled job again, under the same id."""
    with opened_app(app_name, store, queue, needs_workflows=True) as app:
        answer = app.resubmit(find_job(app, job_id).job_id, from_stage=from_stage, dry_run=dry_run)
        if as_json:
            print_json(dump(answer))
        else:
            verb = "would be" if dry_run else "is"
            keeps = ", ".join(str(number) for number in answer.kept_stages)
            kept = f"; {answer.kept_tasks} results of stage {keeps} are kept" if keeps else ""
            click.echo(f"{answer.job_id} {verb} queued as run {answer.run}, from stage {answer.from_stage}{kept}")
    return DONE


def _show(job: JobRecord, *, as_json: bool) -> None:
    if as_json:
        print_json(dump(job))
    else:
        click.echo(f"{job.job_id} {job.status}")
