"""Shows a job while it runs: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stageflow.app import Stageflow
from stageflow.contracts.job import JobResult
from stageflow.errors import WaitTimeoutError
from stageflow.insights import JobProgress

_LOOK_SECONDS = 0.2
_LINE_SECONDS = 2.0


def follow_job(app: Stageflow, job_id: str, *, quiet: bool) -> JobResult:
    """Wait for a job's end and show on stderr how far it is, unless ``quiet``."""
    if quiet:
        return app.wait(job_id)
    console = Console(stderr=True)
    return _with_bars(app, job_id, console) if console.is_terminal else _with_lines(app, job_id)


def _with_bars(app: Stageflow, job_id: str, console: Console) -> JobResult:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
    )
    bars: dict[int, tuple[TaskID, float]] = {}
    with Progress(*columns, console=console) as progress:

        def show(now: JobProgress) -> None:
            for stage in now.stages:
                if stage.stage_number not in bars:
                    label = f"stage {stage.stage_number} {stage.name}"
                    bars[stage.stage_number] = (progress.add_task(label, failed=0, rate=0), time.monotonic())
                bar, started = bars[stage.stage_number]
                done = stage.task_count - stage.remaining
                rate = round(done / max(time.monotonic() - started, 0.001))
                progress.update(bar, total=stage.task_count, completed=done, failed=stage.failed, rate=rate)

        return _until_end(app, job_id, show, _LOOK_SECONDS)


def _with_lines(app: Stageflow, job_id: str) -> JobResult:
    def show(now: JobProgress) -> None:
        parts = [
            f"stage {stage.stage_number} {stage.name}: {stage.task_count - stage.remaining}/{stage.task_count} done, "
            f"{stage.failed} failed"
            for stage in now.stages
        ]
        click.echo(f"{now.status}  {'; '.join(parts)}", err=True)

    return _until_end(app, job_id, show, _LINE_SECONDS)


def _until_end(app: Stageflow, job_id: str, show: Callable[[JobProgress], None], seconds: float) -> JobResult:
    while True:
        try:
            result = app.wait(job_id, timeout=seconds)
        except WaitTimeoutError:
            show(app.progress(job_id))
            continue
        show(app.progress(job_id))
        return result
