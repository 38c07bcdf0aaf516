"""Commands about schedules."""

from datetime import datetime

import click

from stageflow.cli.failure import DONE, exiting
from stageflow.cli.loading import opened_app
from stageflow.cli.options import as_json, connecting
from stageflow.cli.output import dump, print_json, print_table
from stageflow.cli.parameters import decode_parameters
from stageflow.contracts.schedule import CatchUp, ScheduleRecord


@click.group()
def schedules() -> None:
    """Create jobs by cron expressions: look at what is scheduled, add to it, pause and remove."""


@schedules.command("list")
@connecting
@as_json
@exiting
def list_(app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """List schedules by name."""
    with opened_app(app_name, store, queue) as app:
        found = app.schedules()
    if as_json:
        print_json([dump(each) for each in found])
    else:
        columns = ("name", "type", "cron", "state", "next (UTC)")
        rows = [
            (each.name, each.job_type, f"{each.cron} {each.time_zone}", each.state, _time(each.next_fire_at)) for each in found
        ]
        print_table("schedules", columns, rows, tight=True)
        for each in found:
            if each.error_details is not None:
                click.echo(f"{each.name}: {each.error_details}", err=True)
            elif each.damage is not None:
                click.echo(f"{each.name} is damaged: {each.damage}; schedule it again, or remove it", err=True)
    return DONE


@schedules.command()
@click.argument("name")
@click.argument("job_type")
@click.option("--cron", required=True, help="Minute, hour, day of month, month, day of week, such as '0 3 * * *'.")
@click.option("--time-zone", default="UTC", show_default=True, help="Such as Europe/Vienna.")
@click.option(
    "--catch-up",
    type=click.Choice([each.value for each in CatchUp]),
    default=CatchUp.SKIP.value,
    show_default=True,
    help="What becomes of times that passed while nothing fired.",
)
@click.option("--parameters", default="{}", show_default=True, help="The parameters of its jobs as JSON.")
@click.option("--priority", type=click.IntRange(-1000, 1000), default=0, show_default=True)
@click.option("--timeout", "timeout_seconds", type=float, help="Fail a job not ended so many seconds after its start.")
@connecting
@as_json
@exiting
def add(
    name: str,
    job_type: str,
    cron: str,
    time_zone: str,
    catch_up: str,
    parameters: str,
    priority: int,
    timeout_seconds: float | None,
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """Schedule jobs of a type, in place of what has the NAME already."""
    with opened_app(app_name, store, queue, needs_workflows=True) as app:
        schedule = app.schedule(
            name,
            job_type,
            decode_parameters(app.registry.find(job_type).parameters_model, parameters),
            cron=cron,
            time_zone=time_zone,
            catch_up=CatchUp(catch_up),
            priority=priority,
            timeout_seconds=timeout_seconds,
        )
    _show(schedule, as_json=as_json)
    return DONE


@schedules.command()
@click.argument("name")
@connecting
@as_json
@exiting
def remove(name: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Delete a schedule; the jobs that it made stay."""
    with opened_app(app_name, store, queue) as app:
        app.unschedule(name)
    if as_json:
        print_json({"name": name, "removed": True})
    else:
        click.echo(f"{name} removed")
    return DONE


@schedules.command()
@click.argument("name")
@connecting
@as_json
@exiting
def pause(name: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Let a schedule fire no more until it is resumed."""
    with opened_app(app_name, store, queue) as app:
        _show(app.pause_schedule(name), as_json=as_json)
    return DONE


@schedules.command()
@click.argument("name")
@connecting
@as_json
@exiting
def resume(name: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Let a paused or failed schedule fire again, from its next time on."""
    with opened_app(app_name, store, queue) as app:
        _show(app.resume_schedule(name), as_json=as_json)
    return DONE


def _show(schedule: ScheduleRecord, *, as_json: bool) -> None:
    if as_json:
        print_json(dump(schedule))
    else:
        click.echo(f"{schedule.name} {schedule.state}, fires next at {_time(schedule.next_fire_at) or 'no time'} UTC")


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
