"""Workflows as authors write them: mypy and pyright must accept all of this, and know the types that it asserts."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, TypeVar, assert_type

from stageflow.app import Stageflow
from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext, StageExecutionContext, TaskExecutionContext
from stageflow.contracts.job import JobResult
from stageflow.contracts.orchestration import OrchestrationAction, OrchestrationDataContract
from stageflow.contracts.results import StageResults
from stageflow.contracts.retry import RetryPolicy
from stageflow.contracts.schedule import ScheduleRecord
from stageflow.contracts.stage import FailurePolicy
from stageflow.contracts.submission import Submission
from stageflow.testing import WorkflowRun, run_workflow
from stageflow.workflow.authoring import AsyncTask, Keyed, PlannedStage, SyncTask, stage, task, workflow
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry

registry = JobRegistry()

J = TypeVar("J", bound=Contract)


class Survey(Contract):
    """Parameters of the job."""

    tiles: int


class Tile(Contract):
    """Parameters of a task."""

    index: int


class Slope(Contract):
    """A result."""

    degrees: float


class Shade(Contract):
    """Another result."""

    light: float


class Picture(Contract):
    """Parameters of a task, made of two results."""

    slope: Slope
    shade: Shade | None


class Summary(Contract):
    """What a stage says of itself."""

    steepest: float


@task("slope", retry=RetryPolicy(max_attempts=5))
def measure_slope(parameters: Tile, context: TaskExecutionContext) -> Slope:
    """Measure."""
    context.check()
    return Slope(degrees=float(parameters.index))


@task("shade", predecessor=Slope, timeout_seconds=60)
async def measure_shade(parameters: Tile, context: TaskExecutionContext) -> Shade:
    """Measure, on the event loop."""
    context.check()
    context.progress(0, 1)
    assert_type(context.predecessor(Slope), Slope)
    assert_type(context.last_checkpoint(Tile), Tile | None)
    context.checkpoint(parameters)
    return Shade(light=1.0 / (1 + parameters.index))


@task("draw", cpu_bound=True)
def draw(parameters: Picture, context: TaskExecutionContext) -> None:
    """Draw, and return nothing."""
    assert_type(parameters.shade, Shade | None)
    context.check()


assert_type(measure_slope, SyncTask[Tile, Slope])
assert_type(measure_shade, AsyncTask[Tile, Shade])
assert_type(draw, SyncTask[Picture, None])
assert_type(measure_slope.parameter_model, type[Tile])


def call_handlers(tile: Tile, context: TaskExecutionContext) -> Shade:
    """Call tasks like the functions they were made of."""
    assert_type(measure_slope(tile, context), Slope)
    return asyncio.run(assert_type(measure_shade(tile, context), Coroutine[Any, Any, Shade]))


@workflow("survey", version=2, registry=registry)
class SurveyController(BaseController[Survey]):
    """Stages of every form."""

    slopes = stage(1, "slope", task=measure_slope, policy=FailurePolicy.at_least(90))
    shades = stage(2, "shade", task=measure_shade, after=slopes, retry=RetryPolicy(max_attempts=1))
    pictures = stage(3, "picture", task=draw, after=(slopes, shades), plan_atomically=True)
    again = stage(4, "again", task=measure_slope, after=shades, may_skip=True)
    mixed = stage(5, "mixed", task=measure_slope, after=(slopes, shades, pictures))
    many = stage(6, "many", task=measure_slope, after=(slopes, shades, pictures, again))
    rest = stage(7, "rest", task=measure_slope)

    @slopes.plan
    def plan_slopes(self, job: JobExecutionContext[Survey]) -> Iterator[Tile]:
        """Yield parameters."""
        assert_type(job.parameters, Survey)
        for index in range(job.parameters.tiles):
            yield Tile(index=index)

    @shades.plan
    def plan_shades(self, job: JobExecutionContext[Survey], slopes: StageResults[Slope]) -> Iterator[Keyed[Tile]]:
        """Yield parameters with keys."""
        for index, slope in slopes.items():
            assert_type(slope, Slope)
            yield Keyed(parameters=Tile(index=index), key=f"{job.parameters.tiles}/{index}")

    @pictures.plan
    def plan_pictures(
        self,
        job: JobExecutionContext[Survey],
        slopes: StageResults[Slope],
        shades: StageResults[Shade],
    ) -> list[Picture]:
        """Return parameters, made of two stages."""
        assert_type(shades[0], Shade)
        return [Picture(slope=slope, shade=shades[index]) for index, slope in slopes.items() if index < job.parameters.tiles]

    @again.plan
    def plan_again(self, job: JobExecutionContext[Survey], shades: StageResults[Shade] | None) -> Iterator[Tile]:
        """Do without a stage that was skipped."""
        yield Tile(index=job.parameters.tiles if shades is None else len(shades))

    @mixed.plan
    def plan_mixed(
        self,
        job: JobExecutionContext[Survey],
        slopes: StageResults[Slope],
        shades: StageResults[Shade],
        pictures: StageResults[None],
    ) -> Iterator[Tile]:
        """Follow three stages."""
        yield Tile(index=job.parameters.tiles + len(slopes) + len(shades) + len(pictures))

    @many.plan
    def plan_many(
        self,
        job: JobExecutionContext[Survey],
        slopes: StageResults[Slope],
        shades: StageResults[Shade],
        pictures: StageResults[None],
        again: StageResults[Slope],
    ) -> Iterator[Tile]:
        """Follow four stages."""
        yield Tile(index=job.parameters.tiles + len(slopes) + len(shades) + len(pictures) + len(again))

    @slopes.combine
    def steeper(self, left: Slope, right: Slope) -> Slope:
        """Keep the steeper of two."""
        return max(left, right, key=lambda slope: slope.degrees)

    @many.combine
    def later(self, left: Slope, right: Slope) -> Slope:
        """Combine where a stage follows many, too."""
        return right if right.degrees else left

    @slopes.aggregate
    def summarise(self, job: JobExecutionContext[Survey], results: StageResults[Slope]) -> Summary:
        """Say what the stage found."""
        steepest = results.combined()
        assert_type(steepest, Slope | None)
        return Summary(steepest=float(job.parameters.tiles) if steepest is None else steepest.degrees)

    @slopes.should_advance
    def is_steep(self, job: JobExecutionContext[Survey], stage: StageExecutionContext) -> bool:
        """Judge the stage."""
        return stage.result.successful_tasks >= job.parameters.tiles

    @many.orchestrate
    def decide(self, job: JobExecutionContext[Survey], results: StageResults[Slope]) -> OrchestrationDataContract | None:
        """Decide what follows."""
        if len(results) < job.parameters.tiles:
            return None
        return OrchestrationDataContract(action=OrchestrationAction.CREATE_TASKS, items=[{"index": 1}])

    def aggregate_job_results(
        self,
        job: JobExecutionContext[Survey],
        stage_results: dict[int, StageResults[Any]],
    ) -> Summary:
        """Answer, from typed results."""
        slopes = self.slopes.of(stage_results)
        assert_type(slopes, StageResults[Slope])
        assert_type(self.pictures.of(stage_results), StageResults[None])
        return self.summarise(job, slopes)


assert_type(SurveyController.slopes, PlannedStage[Tile, Slope])
assert_type(SurveyController.shades, PlannedStage[Tile, Shade, StageResults[Slope]])
assert_type(SurveyController.again, PlannedStage[Tile, Slope, StageResults[Shade] | None])
assert_type(SurveyController(), SurveyController)


def call_planners(controller: SurveyController, job: JobExecutionContext[Survey], slopes: StageResults[Slope]) -> None:
    """Call declared methods like the methods they are."""
    assert_type(controller.plan_slopes(job), Iterable[Tile])
    assert_type(controller.plan_shades(job, slopes), Iterable[Keyed[Tile]])
    assert_type(controller.summarise(job, slopes), Summary)
    assert_type(controller.steeper(slopes[0], slopes[1]), Slope)


def ask_for_answers(app: Stageflow) -> None:
    """Ask for an answer by its model, and without."""
    assert_type(app.result("a", Summary), Summary)
    assert_type(app.result("a", Summary, timeout=1), Summary)
    assert_type(app.result("a"), Contract | None)


def submit_jobs(app: Stageflow, chosen: type[SurveyController] | str) -> None:
    """Submit with the parameters of the workflow; by a job type's name, with any."""
    assert_type(app.submit(SurveyController, Survey(tiles=1), priority=1), Submission)
    assert_type(app.submit("survey", Survey(tiles=1)), Submission)
    assert_type(app.submit(chosen, Survey(tiles=1)), Submission)
    assert_type(app.submit_many(SurveyController, [Survey(tiles=1), Survey(tiles=2)]), list[Submission])
    assert_type(app.submit_many("survey", [Survey(tiles=1)]), list[Submission])
    assert_type(app.run(SurveyController, Survey(tiles=1)), JobResult)
    assert_type(app.run("survey", Survey(tiles=1)), JobResult)
    assert_type(app.schedule("daily", SurveyController, Survey(tiles=1), cron="0 3 * * *"), ScheduleRecord)
    assert_type(app.schedule("daily", "survey", Survey(tiles=1), cron="0 3 * * *"), ScheduleRecord)
    assert_type(run_workflow(SurveyController, Survey(tiles=1)), WorkflowRun)
    assert_type(run_workflow("survey", Survey(tiles=1)), WorkflowRun)


def submit_any(app: Stageflow, workflow: type[BaseController[Any]] | str, parameters: Contract) -> Submission:
    """Submit what is known at run time only."""
    return app.submit(workflow, parameters)


def submit_of(app: Stageflow, workflow: type[BaseController[J]], parameters: J) -> Submission:
    """Submit for a function that is generic itself."""
    return app.submit(workflow, parameters)
