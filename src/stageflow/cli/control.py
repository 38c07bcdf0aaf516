"""Commands that people give to a job under way."""

import re
from datetime import UTC, datetime
from typing import Final

import click

from stageflow.cli.failure import DONE, exiting
from stageflow.cli.loading import find_job, opened_app
from stageflow.cli.options import as_json, connecting
from stageflow.cli.output import dump, print_json
from stageflow.contracts.job import JobRecord

_MOST_AT_ONCE: Final = 1_000_000


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
@click.option("--deadline", type=click.DateTime(), help="Deadline of the new run (UTC).")
@click.option("--timeout", "timeout_seconds", type=float, help="Seconds for the new run; those of the former when left out.")
@click.option("--dry-run", is_flag=True, help="Change nothing, say what would happen.")
@connecting
@as_json
@exiting
def resubmit(
    job_id: str,
    from_stage: int,
    deadline: datetime | None,
    timeout_seconds: float | None,
    dry_run: bool,  # noqa: FBT001  a flag
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """Run a failed or cancelled job again, under the same id."""
    with opened_app(app_name, store, queue, needs_workflows=True) as app:
        answer = app.resubmit(
            find_job(app, job_id).job_id,
            from_stage=from_stage,
            dry_run=dry_run,
            deadline=None if deadline is None else deadline.replace(tzinfo=UTC),
            timeout_seconds=timeout_seconds,
        )
        if as_json:
            print_json(dump(answer))
        else:
            verb = "would be" if dry_run else "is"
            keeps = ", ".join(str(number) for number in answer.kept_stages)
            kept = f"; {answer.kept_tasks} results of stage {keeps} are kept" if keeps else ""
            click.echo(f"{answer.job_id} {verb} queued as run {answer.run}, from stage {answer.from_stage}{kept}")
    return DONE


@click.command()
@click.argument("job_id")
@click.option("--stage", "stage_number", type=click.IntRange(1), required=True, help="The stage to repair.")
@click.option("--tasks", help="Indexes of its tasks, such as 3,17,20-24. Default: those that failed.")
@click.option("--dry-run", is_flag=True, help="Change nothing, say what would happen.")
@connecting
@as_json
@exiting
def repair(
    job_id: str,
    stage_number: int,
    tasks: str | None,
    dry_run: bool,  # noqa: FBT001  a flag
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """Run chosen tasks of a finished stage again, and what follows it."""
    chosen = None if tasks is None else read_indexes(tasks)
    with opened_app(app_name, store, queue, needs_workflows=True) as app:
        answer = app.repair(find_job(app, job_id).job_id, stage_number, tasks=chosen, dry_run=dry_run)
        if as_json:
            print_json(dump(answer))
        else:
            verb = "would be" if dry_run else "is"
            later = ", ".join(str(number) for number in answer.later_stages)
            again = f"; then stage {later} again" if later else ""
            click.echo(
                f"{answer.job_id} {verb} queued as run {answer.run}: {len(answer.tasks)} tasks of stage {stage_number} run "
                f"again, {answer.kept_tasks} keep their results{again}"
            )
    return DONE


def read_indexes(text: str) -> list[int]:
    """Read task indexes: ``3,17,20-24``, the last of which holds both ends.

    Raises:
        BadParameter: The text is something else.
    """
    indexes: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part, re.ASCII)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            msg = f"{part!r} is neither an index nor a range of them; write 3,17,20-24"
            raise click.BadParameter(msg, param_hint="--tasks")
        first, last = int(found[1]), int(found[2] or found[1])
        if last - first >= _MOST_AT_ONCE:
            msg = f"{part!r} holds more than {_MOST_AT_ONCE} tasks; resubmit the job from that stage instead"
            raise click.BadParameter(msg, param_hint="--tasks")
        indexes += range(first, last + 1)
    return indexes


def _show(job: JobRecord, *, as_json: bool) -> None:
    if as_json:
        print_json(dump(job))
    else:
        click.echo(f"{job.job_id} {job.status}")
