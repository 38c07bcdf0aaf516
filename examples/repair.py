"""Three of 200 tiles are wrong because of a bug: after the fix only these are computed again, and what depends on them.

    python examples/repair.py

The store is in memory, unless the environment names another:

    STAGEFLOW_STORE=postgresql://user@host/database python examples/repair.py
"""

import os
from collections import Counter
from collections.abc import Iterator
from threading import Lock
from typing import Any

from pydantic import Field

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)

SIDE = 10
NO_DATA = -9999
LOWEST = 100


class Survey(Contract):
    """What the job is submitted with."""

    tiles: int = Field(default=200, ge=1)


class Tile(Contract):
    """What a task of stage 1 gets: a square of heights, some of which have a hole."""

    number: int
    has_hole: bool


class Height(Contract):
    """What it returns."""

    number: int
    mean: float


class Report(Contract):
    """What stage 2 gets and returns, and what the job answers."""

    tiles: int
    lowest: float
    highest: float


calls: Counter[str] = Counter()
counting = Lock()
fixed = False


def count(task_type: str) -> None:
    """Count a call of a handler."""
    with counting:
        calls[task_type] += 1


@task("survey_measure")
def measure(parameters: Tile, context: TaskExecutionContext) -> Height:
    """Return the mean height of a tile. The bug: cells without data were taken for heights."""
    count("measure")
    cells = [LOWEST + parameters.number % 7] * (SIDE * SIDE)
    if parameters.has_hole:
        cells[0] = NO_DATA
    heights = [cell for cell in cells if cell != NO_DATA] if fixed else cells
    return Height(number=parameters.number, mean=sum(heights) / len(heights))


@task("survey_report")
def report(parameters: Report, context: TaskExecutionContext) -> Report:
    """Pass the report on."""
    count("report")
    return parameters


@workflow("survey")
class SurveyController(BaseController[Survey]):
    """Measure every tile, then report."""

    measuring = stage(1, "measure", task=measure)
    reporting = stage(2, "report", task=report, after=measuring)

    @measuring.plan
    def plan_measuring(self, job: JobExecutionContext[Survey]) -> Iterator[Tile]:
        """Plan a task for each tile; three of them have a hole."""
        for number in range(job.parameters.tiles):
            yield Tile(number=number, has_hole=number in {3, 17, 120})

    @reporting.plan
    def plan_reporting(self, job: JobExecutionContext[Survey], heights: StageResults[Height]) -> Iterator[Report]:
        """Plan one report of all heights."""
        means = [height.mean for height in heights]
        yield Report(tiles=len(means), lowest=min(means), highest=max(means))

    def aggregate_job_results(self, job: JobExecutionContext[Survey], stage_results: dict[int, StageResults[Any]]) -> Report:
        """Answer with the report."""
        return self.reporting.of(stage_results)[0]


def list_wrong(app: Stageflow, job_id: str) -> list[int]:
    """Return the tiles whose mean cannot be: of the stage's results, read page by page."""
    run = app.job(job_id).run
    (measured, _) = app.repositories.stages.list_stages(job_id, run)
    rows = app.repositories.stages.list_result_rows(measured.stage_id, 0, 1000, failed_only=False)
    means = [Height.from_json(row.result or "") for row in rows]
    return [height.number for height in means if height.mean < LOWEST]


def print_run(app: Stageflow, job_id: str, run: int) -> None:
    """Print what a run of the job left: both are readable, now and later."""
    for each in app.repositories.stages.list_stages(job_id, run):
        print(f"  run {run}, stage {each.stage_number} ({each.name}): {each.status}, generation {each.generation}", end="")
        print(f", {each.successful_tasks} of {each.task_count} tasks completed")
    measured = app.repositories.stages.list_stages(job_id, run)[0]
    rows = app.repositories.stages.list_result_rows(measured.stage_id, 16, 3, failed_only=False)
    means = [Height.from_json(row.result or "") for row in rows]
    print("  tiles 16 to 18:", ", ".join(f"{height.mean:.2f}" for height in means))


def show_report(app: Stageflow, job_id: str) -> None:
    """Work until the job has ended, and print its answer and the calls that it took."""
    calls.clear()
    with app.worker():
        answer = app.result(job_id, Report, timeout=60)
    print(f"{answer.tiles} tiles, {answer.lowest:.2f} to {answer.highest:.2f} m;", end=" ")
    print(f"handlers called: {calls['measure']} measure, {calls['report']} report")


def main(store: str) -> None:
    """Run the job with the bug, fix it, repair what is wrong, and print both histories."""
    global fixed  # noqa: PLW0603  a release of the handler
    with Stageflow(store) as app:
        app.migrate()
        job_id = app.submit(SurveyController, Survey(), new_run=True).job.job_id
        show_report(app, job_id)
        fixed = True
        wrong = list_wrong(app, job_id)
        would = app.repair(job_id, 1, tasks=wrong, dry_run=True)
        print(f"wrong: {wrong}; a repair would run {len(would.tasks)} tasks and keep {would.kept_tasks},", end=" ")
        print(f"then run stage {would.later_stages} again")
        app.repair(job_id, 1, tasks=wrong)
        show_report(app, job_id)
        for run in (1, 2):
            print_run(app, job_id, run)


if __name__ == "__main__":
    main(os.environ["STAGEFLOW_STORE"] if "STAGEFLOW_STORE" in os.environ else "sqlite::memory:")
