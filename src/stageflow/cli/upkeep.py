"""Commands about workers, schema and set-up."""

import signal
from types import FrameType

import click

from stageflow.cli.failure import DONE, FAILED, MIGRATION_NEEDED, exiting
from stageflow.cli.loading import opened_app, opened_store
from stageflow.cli.options import as_json, connecting
from stageflow.cli.output import dump, print_json
from stageflow.contracts.schema import SCHEMA_VERSION, SchemaReport, SchemaState
from stageflow.insights.words import counted
from stageflow.worker import Worker, WorkerOptions


@click.command()
@click.option("--slots", type=click.IntRange(1, 1000), default=4, show_default=True, help="Leases at a time.")
@click.option("--lease-seconds", type=click.FloatRange(0.2), default=30.0, show_default=True)
@click.option("--grace-seconds", type=click.FloatRange(0), default=30.0, show_default=True, help="For handlers at a stop.")
@connecting
@exiting
def worker(
    slots: int,
    lease_seconds: float,
    grace_seconds: float,
    app_name: str | None,
    store: str | None,
    queue: str | None,
) -> int:
    """Work until stopped by SIGTERM or SIGINT: running handlers may finish, the rest goes back."""
    options = WorkerOptions(
        slots=slots,
        lease_seconds=lease_seconds,
        beat_seconds=min(10.0, lease_seconds / 3),
        grace_seconds=grace_seconds,
    )
    with opened_app(app_name, store, queue, options=options, needs_workflows=True, makes_store=True) as app:
        working = app.worker(options)
        _stop_on_signals(working)
        click.echo(f"worker {working.worker_id} is ready: {slots} slots on {app.repositories.store.url}")
        finished = working.run()
    click.echo("stopped" if finished else "stopped; a handler was still running, its task will be run again")
    return DONE


@click.command()
@connecting
@as_json
@exiting
def migrate(app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Bring the store's schema to this version, and create missing queues."""
    with opened_app(app_name, store, queue, makes_store=True) as app:
        app.migrate()
        report = app.repositories.store.verify()
        if report.up_to_date or as_json:
            _report(report, as_json=as_json)
        else:
            differences = f"differs from what the migrations make ({len(report.drifts)} differences)"
            click.echo(
                f"schema version {report.version} is applied, but {differences}; run `stageflow verify` to have each named"
            )
    return DONE if report.up_to_date else MIGRATION_NEEDED


@click.command()
@connecting
@as_json
@exiting
def verify(app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Compare the store's schema with what the migrations make, and name each drift."""
    with opened_store(app_name, store, queue) as opened:
        return _report(opened.verify(), as_json=as_json)


@click.command()
@connecting
@as_json
@exiting
def check(app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Check the whole set-up: workflows, store, schema and queue."""
    with opened_app(app_name, store, queue) as app:
        now = app.repositories.store.now()
        report = app.repositories.store.verify()
        waiting = None if app.queue is None else app.queue.probe()
        known = [f"{workflow.job_type} version {workflow.version}" for workflow in app.registry]
        if as_json:
            queue_url = None if app.queue is None else app.queue.url
            store_url = app.repositories.store.url
            document = {"store": store_url, "store_time": now.isoformat(), "queue": queue_url, "messages": waiting}
            print_json({**document, "workflows": known, "drifts": report.drifts})
        else:
            url = app.repositories.store.url
            drifted = f"drifted ({counted(len(report.drifts), 'difference')}; `stageflow verify` names each)"
            schema = drifted if report.drifts else report.state
            click.echo(f"store {url}: reachable, schema {schema}, its time is {now:%Y-%m-%d %H:%M:%S} UTC")
            click.echo(
                "queue: the database" if app.queue is None else f"queue {app.queue.url}: reachable, about {waiting} messages"
            )
            click.echo(f"workflows: {', '.join(known) or 'none; name them with --app'}")
    return _exit_code(report)


@click.command()
@click.option("--repair", is_flag=True, help="Mend counters, and tasks and stages that nothing moves.")
@connecting
@as_json
@exiting
def doctor(repair: bool, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  flags
    """Compare rows with counters, and name what is late or lost; exit code 1 where something is wrong."""
    with opened_app(app_name, store, queue) as app:
        diagnosis = app.doctor(repair=repair)
    if as_json:
        print_json({**dump(diagnosis), "healthy": diagnosis.healthy})
    else:
        stages, jobs = counted(diagnosis.audited_stages, "open stage"), counted(diagnosis.audited_jobs, "unfinished job")
        click.echo(f"looked at {stages} of {jobs}")
        for ailment in diagnosis.ailments:
            click.echo(f"- {'mended: ' if ailment.mended else ''}{ailment.text}")
            if not ailment.mended:
                click.echo(f"  next: {ailment.advice}")
        if diagnosis.unchecked:
            click.echo(f"not looked at: {diagnosis.unchecked}")
        click.echo("nothing is wrong" if diagnosis.healthy else "something is wrong; see above")
    return DONE if diagnosis.healthy else FAILED


def _report(report: SchemaReport, *, as_json: bool) -> int:
    if as_json:
        print_json({**dump(report), "up_to_date": report.up_to_date})
    elif report.up_to_date:
        click.echo(f"up to date: schema version {report.version}")
        if report.unchecked:
            click.echo(f"not compared: {report.unchecked}")
    else:
        click.echo(f"schema version {report.version} is {report.state}")
        for drift in report.drifts:
            click.echo(f"- {drift}")
        click.echo(_advice(report))
    return _exit_code(report)


def _exit_code(report: SchemaReport) -> int:
    if report.up_to_date:
        return DONE
    return FAILED if report.state is SchemaState.CURRENT else MIGRATION_NEEDED


def _advice(report: SchemaReport) -> str:
    match report.state:
        case SchemaState.MISSING if report.drifts:
            return "`stageflow migrate` cannot mend this"
        case SchemaState.MISSING | SchemaState.OLDER:
            return "run `stageflow migrate` on this store, or correct the address"
        case SchemaState.NEWER:
            return f"this stageflow knows version {SCHEMA_VERSION}; install the one that made the schema, or a newer one"
        case SchemaState.CURRENT:
            return "mend each as it says, then run `stageflow verify` again"


def _stop_on_signals(working: Worker) -> None:
    def stop(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001  what the signal module passes
        working.request_stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
