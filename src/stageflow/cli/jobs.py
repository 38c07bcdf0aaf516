"""Commands about jobs."""

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import click

from stageflow.app import Stageflow
from stageflow.cli.failure import DONE, FAILED, INTERRUPTED, exiting
from stageflow.cli.hello_world import Hello, HelloWorldController, demo_registry
from stageflow.cli.loading import find_job, find_stage, opened_app
from stageflow.cli.options import as_json, connecting, not_blank
from stageflow.cli.output import dump, job_document, print_json, print_progress, print_table
from stageflow.cli.parameters import decode_parameters
from stageflow.cli.progress import follow_job
from stageflow.contracts.job import JobResult
from stageflow.contracts.status import JobStatus
from stageflow.contracts.submission import Submission, SubmitOutcome
from stageflow.errors import StageflowError
from stageflow.insights import job_progress
from stageflow.settings import read_settings

_SHOWN_RESULTS = 10
_GOOD = {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS}


def submitting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a submission."""
    for option in (
        click.option("--timeout", "timeout_seconds", type=float, help="Fail if not ended so many seconds after its start."),
        click.option("--deadline", type=click.DateTime(), help="Fail if not ended by then (UTC)."),
        click.option("--not-before", type=click.DateTime(), help="Start no earlier (UTC)."),
        click.option("--max-running", type=click.IntRange(1, 1000), help="The most of its tasks that run at once."),
        click.option("--priority", type=click.IntRange(-1000, 1000), default=0, show_default=True),
        click.option("--new-run", is_flag=True, help="Make a job of its own in any case."),
        click.option("--idempotency-key", default="", help="The same key means the same job."),
        click.option("--parameters", default="{}", show_default=True, help="The job's parameters as JSON."),
        click.argument("job_type"),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--tasks", "count", type=click.IntRange(0, 1_000_000), default=5, show_default=True, help="Greetings to make.")
@click.option("--store", callback=not_blank, help="Where to keep the job; in memory when left out.")
@click.option("--queue", callback=not_blank, help="azure:CONNECTION_STRING.")
@as_json
@exiting
def demo(count: int, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Run HelloWorld in this process and show what came of it."""
    named = store or read_settings().store or "sqlite::memory:"
    with opened_app(None, named, queue, registry=demo_registry, makes_store=True) as app:
        app.migrate()
        submission = app.submit(HelloWorldController, Hello(n=count), new_run=True)
        result = _work_on(app, submission, quiet=as_json)
        if as_json:
            print_json(job_document(app.repositories, app.job(submission.job.job_id)))
        else:
            _show_replies(app, result)
    return DONE if result.status in _GOOD else FAILED


@click.command()
@submitting
@connecting
@as_json
@exiting
def run(job_type: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool, **request: Any) -> int:  # noqa: FBT001  a flag
    """Submit a job and work on it in this process until it has ended; the first Ctrl-C stops, the second ends at once."""
    with opened_app(app_name, store, queue, needs_workflows=True, makes_store=True) as app:
        app.migrate()
        result = _work_on(app, _submit(app, job_type, **request), quiet=as_json)
        job = app.job(result.job_id)
        if as_json:
            print_json(job_document(app.repositories, job))
        else:
            print_progress(job_progress(app.repositories, job))
            if result.error_details:
                click.echo(result.error_details, err=True)
    return DONE if result.status in _GOOD else FAILED


@click.command()
@submitting
@connecting
@as_json
@exiting
def submit(job_type: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool, **request: Any) -> int:  # noqa: FBT001  a flag
    """Submit a job; workers do the rest."""
    with opened_app(app_name, store, queue, needs_workflows=True, makes_store=True) as app:
        app.repositories.store.check_schema()
        submission = _submit(app, job_type, **request)
        if as_json:
            print_json(dump(submission))
        else:
            is_new = submission.outcome is SubmitOutcome.CREATED
            met = submission.outcome if is_new else f"exists already, {submission.job.status}"
            click.echo(f"{submission.job.job_id} {met}")
    return DONE


@click.command()
@click.argument("job_id")
@connecting
@as_json
@exiting
def status(job_id: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Show where a job stands; JOB_ID may be the beginning of an id."""
    with opened_app(app_name, store, queue) as app:
        job = app.job(find_job(app, job_id).job_id)
        progress = job_progress(app.repositories, job)
        if as_json:
            print_json({**job_document(app.repositories, job), "stages": dump(progress)["stages"]})
        else:
            print_progress(progress)
            if job.deadline is not None and not job.is_terminal:
                click.echo(f"must end by {job.deadline:%Y-%m-%d %H:%M:%S} UTC")
            if job.error_details:
                click.echo(job.error_details)
            if job.damage is not None:
                click.echo(f"the job is damaged: {job.damage}", err=True)
    return FAILED if job.status is JobStatus.FAILED else DONE


@click.command()
@click.argument("job_id")
@connecting
@as_json
@exiting
def explain(job_id: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Say why a job is not moving, or why it failed; JOB_ID may be the beginning of an id."""
    with opened_app(app_name, store, queue) as app:
        explanation = app.explain(find_job(app, job_id).job_id)
        if as_json:
            print_json(dump(explanation))
        else:
            click.echo(explanation.text)
    return FAILED if explanation.status is JobStatus.FAILED else DONE


@click.command()
@click.argument("job_id")
@connecting
@as_json
@exiting
def watch(job_id: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Follow a job until it has ended; something must be working on it."""
    with opened_app(app_name, store, queue) as app:
        result = follow_job(app, find_job(app, job_id).job_id, quiet=as_json)
        if as_json:
            print_json(dump(result))
    return DONE if result.status in _GOOD else FAILED


@click.command()
@click.option("--status", "wanted", type=click.Choice([each.value for each in JobStatus]), help="Only jobs with this status.")
@click.option("--type", "job_type", help="Only jobs of this type.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@connecting
@as_json
@exiting
def jobs(
    wanted: str | None,
    job_type: str | None,
    limit: int,
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """List jobs, newest first."""
    with opened_app(app_name, store, queue) as app:
        found = app.repositories.jobs.list_jobs(
            status=None if wanted is None else JobStatus(wanted),
            job_type=job_type,
            limit=limit,
        )
        if as_json:
            print_json([dump(job) for job in found])
        else:
            rows = [
                (
                    job.job_id[:16],
                    job.job_type,
                    job.status,
                    f"{job.stage}/{job.total_stages}",
                    f"{job.created_at:%Y-%m-%d %H:%M:%S}",
                )
                for job in found
            ]
            print_table("jobs", ("job", "type", "status", "stage", "created (UTC)"), rows)
            for job in found:
                if job.damage is not None:
                    click.echo(f"job {job.job_id[:16]} is damaged: {job.damage}; correct its row, or cancel it", err=True)
    return DONE


@click.command()
@click.argument("job_id")
@click.option("--stage", "stage_number", type=click.IntRange(1), help="Only this stage; the current one when left out.")
@click.option("--failed", is_flag=True, help="Only failed tasks.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Start at this task index.")
@click.option("--limit", type=click.IntRange(1, 5000), default=100, show_default=True)
@connecting
@as_json
@exiting
def tasks(
    job_id: str,
    stage_number: int | None,
    failed: bool,  # noqa: FBT001  a flag
    first: int,
    limit: int,
    app_name: str | None,
    store: str | None,
    queue: str | None,
    as_json: bool,  # noqa: FBT001  a flag
) -> int:
    """List tasks of a stage."""
    with opened_app(app_name, store, queue) as app:
        job = find_job(app, job_id)
        number = find_stage(app, job, stage_number)
        found = app.repositories.tasks.list_tasks_for_job(job.job_id, number, first, limit, failed)
        if as_json:
            print_json([dump(each) for each in found])
        else:
            rows = [(each.task_index, each.key, each.status, each.attempt, _last_line(each.error_details)) for each in found]
            print_table(f"tasks of stage {number}", ("index", "key", "status", "attempt", "error"), rows)
    return DONE


@click.command()
@click.argument("job_id")
@click.option("--reason", default="cancelled by an operator", show_default=True)
@connecting
@as_json
@exiting
def cancel(job_id: str, reason: str, app_name: str | None, store: str | None, queue: str | None, as_json: bool) -> int:  # noqa: FBT001  a flag
    """Cancel a job."""
    with opened_app(app_name, store, queue) as app:
        job = app.cancel(find_job(app, job_id).job_id, reason=reason)
        if as_json:
            print_json(dump(job))
        else:
            click.echo(f"{job.job_id} {job.status}")
            if job.damage is not None:
                click.echo(f"the job is damaged: {job.damage}; correct its row to read it", err=True)
    return DONE


def _submit(
    app: Stageflow,
    job_type: str,
    *,
    parameters: str,
    idempotency_key: str,
    new_run: bool,
    priority: int,
    not_before: datetime | None,
    deadline: datetime | None,
    timeout_seconds: float | None,
    max_running: int | None,
) -> Submission:
    model = app.registry.find(job_type).parameters_model
    submission = app.submit(
        job_type,
        decode_parameters(model, parameters),
        idempotency_key=idempotency_key,
        new_run=new_run,
        priority=priority,
        not_before=None if not_before is None else not_before.replace(tzinfo=UTC),
        deadline=None if deadline is None else deadline.replace(tzinfo=UTC),
        timeout_seconds=timeout_seconds,
        max_running=max_running,
    )
    given = {
        "--priority": priority or None,
        "--not-before": not_before,
        "--deadline": deadline,
        "--timeout": timeout_seconds,
        "--max-running": max_running,
    }
    unheard = [name for name, value in given.items() if value is not None]
    if unheard and submission.outcome is not SubmitOutcome.CREATED:
        click.echo(
            f"job {submission.job.job_id} exists already, so {' and '.join(unheard)} changed nothing; "
            "--new-run or another --idempotency-key makes a job of its own",
            err=True,
        )
    return submission


def _work_on(app: Stageflow, submission: Submission, *, quiet: bool) -> JobResult:
    worker = app.worker()
    worker.start()
    try:
        return follow_job(app, submission.job.job_id, quiet=quiet)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, _end_at_once)
        grace = f"running handlers have {worker.options.grace_seconds:g} s to finish"
        click.echo(f"stopping: {grace}; press Ctrl-C again to end at once", err=True)
        sys.exit(INTERRUPTED)
    finally:
        worker.stop()


def _end_at_once(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001  what the signal module passes
    """End the process whatever runs in it: threads that run handlers, and children, would hold up any other end."""
    os.write(sys.stderr.fileno(), b"ended at once: what ran is run again when its lease has expired\n")
    os._exit(INTERRUPTED)


def _show_replies(app: Stageflow, result: JobResult) -> None:
    print_progress(app.progress(result.job_id))
    if "2" not in result.stage_results:
        raise StageflowError(result.error_details or "the demo did not reach its second stage")
    replies = app.repositories.tasks.list_tasks_for_job(result.job_id, 2, 0, _SHOWN_RESULTS)
    rows = [(each.task_index, None if each.result_data is None else each.result_data["text"]) for each in replies]
    print_table("replies", ("task", "text"), rows)


def _last_line(error: str | None) -> str | None:
    return None if error is None else error.strip().splitlines()[-1]
