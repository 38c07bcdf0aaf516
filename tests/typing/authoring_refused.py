"""Mistakes of authors: mypy and pyright must report an error on exactly the lines that say ``type: ignore``."""

# ruff: noqa: ARG001, ARG002  only the signatures matter here

from collections.abc import Iterator
from typing import Any

from stageflow.app import Stageflow
from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext, StageExecutionContext, TaskExecutionContext
from stageflow.contracts.orchestration import OrchestrationDataContract
from stageflow.contracts.results import StageResults
from stageflow.testing import run_workflow
from stageflow.workflow.authoring import Keyed, stage, task, workflow
from stageflow.workflow.controller import BaseController


class Job(Contract):
    """Parameters of the job."""


class First(Contract):
    """Parameters of the first stage."""


class Found(Contract):
    """Result of the first stage."""


class Second(Contract):
    """Parameters of the second stage."""


class Made(Contract):
    """Result of the second stage."""


@task("first")
def find(parameters: First, context: TaskExecutionContext) -> Found:
    """A right handler that returns the wrong thing."""
    return Made()  # type: ignore[return-value]


@task("second")
async def make(parameters: Second, context: TaskExecutionContext) -> Made:
    """A right handler."""
    return Made()


@task("no_result")  # type: ignore[arg-type]
def return_text(parameters: First, context: TaskExecutionContext) -> str:
    """The result is no contract."""
    return ""


@task("other_context")  # type: ignore[arg-type]
def take_job(parameters: First, context: StageExecutionContext) -> Made:
    """The context is not a task's."""
    return Made()


class WrongPlanners(BaseController[Job]):
    """Planners that do not fit their stage."""

    first = stage(1, "first", task=find)
    second = stage(2, "second", task=make, after=first)
    third = stage(3, "third", task=find, after=first, may_skip=True)
    fourth = stage(4, "fourth", task=find, after=(first, second))

    @first.plan  # type: ignore[arg-type]
    def yields_the_wrong_parameters(self, job: JobExecutionContext[Job]) -> Iterator[Second]:
        """Yields other parameters."""
        yield Second()

    @first.plan  # type: ignore[arg-type]
    def yields_the_wrong_keyed_parameters(self, job: JobExecutionContext[Job]) -> Iterator[Keyed[Second]]:
        """Yields other parameters with a key."""
        yield Keyed(parameters=Second(), key="a")

    @first.plan  # type: ignore[arg-type]
    def takes_no_job(self, job: StageExecutionContext) -> Iterator[First]:
        """Takes another context."""
        yield First()

    @first.plan  # type: ignore[arg-type]
    def takes_results_of_nothing(self, job: JobExecutionContext[Job], results: StageResults[Found]) -> Iterator[First]:
        """The first stage follows nothing."""
        yield First()

    @second.plan  # type: ignore[arg-type]
    def takes_the_wrong_results(self, job: JobExecutionContext[Job], results: StageResults[Made]) -> Iterator[Second]:
        """Takes results that the stage before does not give."""
        yield Second()

    @second.plan  # type: ignore[arg-type]
    def takes_no_results(self, job: JobExecutionContext[Job]) -> Iterator[Second]:
        """Leaves out the results it follows."""
        yield Second()

    @second.plan  # type: ignore[arg-type]
    async def is_async(self, job: JobExecutionContext[Job], results: StageResults[Found]) -> Iterator[Second]:
        """Planners are not async."""
        return iter(())

    @third.plan  # type: ignore[arg-type]
    def cannot_do_without(self, job: JobExecutionContext[Job], results: StageResults[Found]) -> Iterator[First]:
        """Cannot take None for a skipped stage."""
        yield First()

    @fourth.plan  # type: ignore[arg-type]
    def swaps(self, job: JobExecutionContext[Job], a: StageResults[Made], b: StageResults[Found]) -> Iterator[First]:
        """Takes two results in the wrong order."""
        yield First()

    @first.aggregate  # type: ignore[arg-type]
    def sums_up_other_results(self, job: JobExecutionContext[Job], results: StageResults[Made]) -> Made:
        """Takes the results of another stage."""
        return Made()

    @second.aggregate  # type: ignore[type-var]
    def sums_up_to_a_dict(self, job: JobExecutionContext[Job], results: StageResults[Made]) -> dict[str, int]:
        """Returns no contract."""
        return {}

    @first.orchestrate  # type: ignore[arg-type]
    def decides_on_other_results(self, job: JobExecutionContext[Job], results: StageResults[Made]) -> None:
        """Takes the results of another stage."""

    @second.orchestrate  # type: ignore[type-var]
    def decides_by_text(self, job: JobExecutionContext[Job], results: StageResults[Made]) -> str:
        """Returns no orchestration."""
        return "COMPLETE_JOB"

    @first.should_advance  # type: ignore[type-var]
    def is_not_sure(self, job: JobExecutionContext[Job], stage: StageExecutionContext) -> str:
        """Returns no bool."""
        return "yes"


class WrongCombinations(BaseController[Job]):
    """Combinations that do not fit their stage."""

    first = stage(1, "first", task=find)

    @first.combine  # type: ignore[arg-type]
    def combines_other_results(self, left: Made, right: Made) -> Made:
        """Combines the results of another stage."""
        return left

    @first.combine  # type: ignore[arg-type]
    def gives_something_else(self, left: Found, right: Found) -> Made:
        """A combination is a result again."""
        return Made()

    @first.combine  # type: ignore[arg-type]
    def takes_one(self, left: Found) -> Found:
        """Two results are combined."""
        return left

    @first.combine  # type: ignore[arg-type]
    async def is_async(self, left: Found, right: Found) -> Found:
        """Combinations are not async."""
        return left


class WrongStages(BaseController[Job]):
    """Stages that cannot be."""

    no_task = stage(1, "first", task=len)  # type: ignore[call-overload]
    no_stage = stage(2, "second", task=make, after=find)  # type: ignore[call-overload]
    skips_nothing = stage(3, "third", task=find, may_skip=True)  # type: ignore[call-overload]


class WrongHooks(BaseController[Job]):
    """Hooks that change their form."""

    def validate_job_parameters(self, parameters: First) -> First:  # type: ignore[override]
        """Takes the parameters of another job."""
        return parameters

    def aggregate_job_results(self, job: JobExecutionContext[First], results: dict[int, StageResults[Any]]) -> Made:  # type: ignore[override]
        """Takes the context of another job."""
        return Made()

    def create_tasks_from_orchestration(  # type: ignore[override]
        self,
        stage_number: int,
        orchestration: OrchestrationDataContract,
    ) -> Iterator[Any]:
        """Leaves out what the engine passes."""
        yield from ()


class NotContracts(BaseController[int]):  # type: ignore[type-var]
    """The job's parameters are no contract."""


class NoController:
    """Is no controller."""


workflow("no_controller")(NoController)  # type: ignore[type-var]


def submits_what_another_workflow_takes(app: Stageflow) -> None:
    """The parameters are not those of the workflow."""
    app.submit(WrongHooks, First())  # type: ignore[misc]
    app.submit_many(WrongHooks, [Job(), First()])  # type: ignore[misc]
    app.run(WrongHooks, First())  # type: ignore[misc]
    app.schedule("daily", WrongHooks, First(), cron="0 3 * * *")  # type: ignore[misc]
    run_workflow(WrongHooks, First())  # type: ignore[misc]
    app.submit("wrong_hooks", {"tiles": 1})  # type: ignore[type-var]
    app.submit(NoController, Job())  # type: ignore[arg-type]
