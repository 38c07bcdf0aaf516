"""Shows a job while it runs: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stageflow.app import Stageflow
from stageflow.contracts.job import JobResult
from stageflow.errors import WaitTimeoutError
from stageflow.insights import JobProgress, StageProgress

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
        TextColumn("{task.fields[running]} running"),
        TextColumn("{task.fields[failed]} failed"),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
    )
    bars: dict[int, TaskID] = {}
    pace = Pace(app.progress(job_id))
    with Progress(*columns, console=console) as progress:

        def show(now: JobProgress) -> None:
            rates = pace.look(now)
            for stage in now.stages:
                if stage.stage_number not in bars:
                    label = f"stage {stage.stage_number} {stage.name}"
                    bars[stage.stage_number] = progress.add_task(label, running=0, failed=0, rate=0)
                progress.update(
                    bars[stage.stage_number],
                    total=stage.task_count,
                    completed=_done(stage),
                    running=stage.running,
                    failed=stage.failed,
                    rate=round(rates[stage.stage_number]),
                )

        return _until_end(app, job_id, show, _LOOK_SECONDS)


def _with_lines(app: Stageflow, job_id: str) -> JobResult:
    pace = Pace(app.progress(job_id))

    def show(now: JobProgress) -> None:
        rates = pace.look(now)
        lines = [stage_line(stage, rates[stage.stage_number]) for stage in now.stages]
        click.echo(f"{now.status}  {'; '.join(lines)}", err=True)

    return _until_end(app, job_id, show, _LINE_SECONDS)


class Pace:
    """Tasks per second of each stage; what was done before the first look counts for nothing."""

    def __init__(self, now: JobProgress) -> None:
        self._looked = time.monotonic()
        self._first = {stage.stage_number: (_done(stage), self._looked) for stage in now.stages}

    def look(self, now: JobProgress) -> dict[int, float]:
        """Return the rates by stage number; a stage that is new began after the last look."""
        before, self._looked = self._looked, time.monotonic()
        rates: dict[int, float] = {}
        for stage in now.stages:
            done, since = self._first.setdefault(stage.stage_number, (0, before))
            rates[stage.stage_number] = (_done(stage) - done) / max(self._looked - since, 0.001)
        return rates


def _done(stage: StageProgress) -> int:
    return stage.task_count - stage.remaining


def stage_line(stage: StageProgress, rate: float) -> str:
    """Return how far a stage is, with rate and time left while something remains."""
    done = f"stage {stage.stage_number} {stage.name}: {_done(stage)}/{stage.task_count} done"
    text = f"{done}, {stage.running} running, {stage.failed} failed" if stage.remaining else f"{done}, {stage.failed} failed"
    return f"{text}, {rate:.0f}/s, {stage.remaining / rate:.0f} s left" if stage.remaining and rate else text


def _until_end(app: Stageflow, job_id: str, show: Callable[[JobProgress], None], seconds: float) -> JobResult:
    while True:
        try:
            result = app.wait(job_id, timeout=seconds)
        except WaitTimeoutError:
            show(app.progress(job_id))
            continue
        show(app.progress(job_id))
        return result
