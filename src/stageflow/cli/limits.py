"""Commands on task types: what runs of them, how much may, and whether any."""

import click

from stageflow.cli.failure import DONE, exiting
from stageflow.cli.loading import opened_app
from stageflow.cli.options import as_json, connecting
from stageflow.cli.output import dump, print_json, print_table
from stageflow.contracts.limits import TaskTypeState


class TaskTypeName(click.ParamType[tuple[str, str]]):
    """A job type and a task type, such as ``etl/fetch``."""

    name = "type"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the job type and the task type."""
        if isinstance(value, tuple):
            return value
        job_type, _, task_type = str(value).partition("/")
        if not job_type or not task_type or "/" in task_type:
            self.fail(f"{value!r} names no task type; write JOB_TYPE/TASK_TYPE, as `stageflow types` lists them", param, ctx)
        return job_type, task_type


_TYPE = TaskTypeName()


@click.command()
@connecting
@as_json
@exiting
def types(app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """List task types: limits, pauses, how much runs and how much waits."""
    with opened_app(app_name, store, queue) as app:
        states = app.task_types()
    if as_json:
        print_json([dump(state) for state in states])
    else:
        print_table(
            "Task types",
            ("type", "running", "ready", "at most", "a second", "by", "paused since"),
            [
                (
                    f"{state.job_type}/{state.task_type}",
                    state.running,
                    state.ready,
                    state.max_running,
                    state.max_per_second,
                    _said_by(state),
                    None if state.paused_since is None else f"{state.paused_since:%Y-%m-%d %H:%M:%S}",
                )
                for state in states
            ],
            tight=True,
        )
    return DONE


@click.command()
@click.argument("type_name", metavar="TYPE", type=_TYPE)
@click.option("--max-running", type=click.IntRange(1), help="The most of its tasks that run at once.")
@click.option("--max-per-second", type=click.FloatRange(0, min_open=True), help="The most of its tasks that start in a second.")
@click.option("--none", "lift", is_flag=True, help="No limit, whatever the code declares.")
@click.option("--reset", is_flag=True, help="What the code declares holds again.")
@connecting
@as_json
@exiting
def limit(
    type_name: tuple[str, str],
    max_running: int | None,
    max_per_second: float | None,
    lift: bool,  # noqa: FBT001  a flag
    reset: bool,  # noqa: FBT001  a flag
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """Limit a task type (JOB_TYPE/TASK_TYPE) over all workers, at once; it holds until --reset."""
    has_limit = max_running is not None or max_per_second is not None
    if has_limit + lift + reset != 1:
        msg = "give --max-running or --max-per-second or both, or --none, or --reset"
        raise click.UsageError(msg)
    with opened_app(app_name, store, queue) as app:
        if reset:
            state = app.reset_task_type(*type_name)
        else:
            state = app.limit_task_type(*type_name, max_running=max_running, max_per_second=max_per_second)
        _show(state, as_json=as_json)
    return DONE


@click.command()
@click.argument("type_name", metavar="TYPE", type=_TYPE)
@connecting
@as_json
@exiting
def pause_type(
    type_name: tuple[str, str],
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """Pause a task type (JOB_TYPE/TASK_TYPE): nothing of it starts in any job, and what runs may end."""
    with opened_app(app_name, store, queue) as app:
        _show(app.pause_task_type(*type_name), as_json=as_json)
    return DONE


@click.command()
@click.argument("type_name", metavar="TYPE", type=_TYPE)
@connecting
@as_json
@exiting
def resume_type(
    type_name: tuple[str, str],
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """Let a paused task type go on."""
    with opened_app(app_name, store, queue) as app:
        _show(app.resume_task_type(*type_name), as_json=as_json)
    return DONE


def _said_by(state: TaskTypeState) -> str:
    if state.overridden:
        return "operator"
    return "code" if state.max_running is not None or state.max_per_second is not None else ""


def _show(state: TaskTypeState, *, as_json: bool) -> None:
    if as_json:
        print_json(dump(state))
        return
    limits = [
        text
        for value, text in (
            (state.max_running, f"at most {state.max_running} running"),
            (state.max_per_second, f"at most {state.max_per_second} starts a second"),
        )
        if value is not None
    ]
    paused = "" if state.paused_since is None else f", paused since {state.paused_since:%Y-%m-%d %H:%M:%S} UTC"
    click.echo(f"{state.job_type}/{state.task_type}: {' and '.join(limits) or 'no limit'}{paused}")
