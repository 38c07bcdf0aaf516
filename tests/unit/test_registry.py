"""Which workflows can be registered, and how they are found."""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import pytest

from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext, StageExecutionContext, TaskExecutionContext
from stageflow.contracts.orchestration import OrchestrationDataContract
from stageflow.contracts.results import StageResults
from stageflow.contracts.retry import NO_RETRY
from stageflow.contracts.stage import StageAggregate
from stageflow.contracts.task import TaskDefinition
from stageflow.errors import UnknownWorkflowError, WorkflowDefinitionError
from stageflow.workflow.authoring import Keyed, PlannedStage, stage, task
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry, Workflow

HERE = re.escape(__file__)


class Survey(Contract):
    """Parameters of a job."""

    tiles: int = 1


class Other(Contract):
    """Parameters of another job."""


class Tile(Contract):
    """Parameters of a task."""

    index: int = 0


class Slope(Contract):
    """A result."""


class Shade(Contract):
    """Another result."""


@task("slope", retry=NO_RETRY)
def measure_slope(parameters: Tile, context: TaskExecutionContext) -> Slope:  # noqa: ARG001
    """Measure."""
    return Slope()


@task("slope")
def measure_slope_again(parameters: Tile, context: TaskExecutionContext) -> Slope:  # noqa: ARG001
    """Has the task type of another."""
    return Slope()


@task("draw")
def draw(parameters: Slope, context: TaskExecutionContext) -> None:
    """Draw, and return nothing."""


class Plain(BaseController[Survey]):
    """Two stages, planned."""

    slopes = stage(1, "slope", task=measure_slope)
    pictures = stage(2, "picture", task=draw, after=slopes)

    @slopes.plan
    def plan_slopes(self, job: JobExecutionContext[Survey]) -> Iterator[Tile]:
        """Yield the parameters of each task."""
        for index in range(job.parameters.tiles):
            yield Tile(index=index)

    @pictures.plan
    def plan_pictures(self, job: JobExecutionContext[Survey], slopes: StageResults[Slope]) -> Iterator[Slope]:
        """Yield what was found."""
        assert job.parameters.tiles
        yield from slopes


@pytest.fixture
def registry() -> JobRegistry:
    """Return a registry of its own."""
    return JobRegistry()


def register(controller_class: type[BaseController[Any]]) -> Workflow:
    """Register a class in a registry of its own."""
    return JobRegistry().register(controller_class, "job")


# What a registered workflow is


def test_a_registered_workflow_knows_its_definition_and_its_code(registry: JobRegistry) -> None:
    """Everything that the engine and a worker ask of a workflow is read from the class."""
    workflow = registry.register(Plain, "plain", 2)
    assert (workflow.job_type, workflow.version, workflow.definition.total_stages) == ("plain", 2, 2)
    assert [entry.name for entry in workflow.definition.stages] == ["slope", "picture"]
    assert workflow.definition.stage(1).retry == NO_RETRY
    assert workflow.definition.parameters_model.endswith("test_registry:Survey")
    assert workflow.parameters_model is Survey
    assert isinstance(workflow.controller, Plain)
    assert workflow.controller.definition is workflow.definition
    assert workflow.task(2) is draw
    assert workflow.work_types() == ["plain/2", "plain/2/slope", "plain/2/draw"]
    with pytest.raises(WorkflowDefinitionError, match="Plain has stages 1 to 2, not 3"):
        workflow.task(3)


def test_a_task_that_two_stages_run_is_one_work_type() -> None:
    """A worker claims a task type once, whatever the number of its stages."""

    class Twice(Plain):
        again = stage(3, "again", task=measure_slope)

        @again.plan
        def plan_again(self, job: JobExecutionContext[Survey]) -> Iterator[Keyed[Tile]]:
            yield Keyed(parameters=Tile(index=job.parameters.tiles), key="again")

    assert register(Twice).work_types() == ["job/1", "job/1/slope", "job/1/draw"]


def test_inherited_stages_belong_to_the_workflow_and_can_be_replaced() -> None:
    """The workflow is read from the class the user wrote, with what it inherits."""

    class Inherits(Plain):
        pass

    class Replaces(Plain):
        pictures: PlannedStage[Slope, None, StageResults[Slope]] = stage(2, "poster", task=draw, after=Plain.slopes)

        @pictures.plan
        def plan_pictures(self, job: JobExecutionContext[Survey], slopes: StageResults[Slope]) -> Iterator[Slope]:
            yield from super().plan_pictures(job, slopes)

    assert [entry.name for entry in register(Inherits).definition.stages] == ["slope", "picture"]
    assert [entry.name for entry in register(Replaces).definition.stages] == ["slope", "poster"]


G = TypeVar("G", bound=Contract)
H = TypeVar("H", bound=Contract)


class AnyJob(BaseController[G], Generic[H, G]):
    """Leaves its job parameters to its subclasses."""

    slopes = stage(1, "slope", task=measure_slope)

    @slopes.plan
    def plan_slopes(self, job: JobExecutionContext[G]) -> Iterator[Tile]:
        """Yield one task."""
        assert job.parameters
        yield Tile()


def test_the_job_parameters_are_found_through_generic_bases() -> None:
    """A family of workflows can share a generic base class."""

    class Middle(AnyJob[Tile, G]):
        pass

    class Own(Middle[Survey]):
        pass

    class Below(Own):
        pass

    assert register(Own).parameters_model is Survey
    assert register(Below).parameters_model is Survey


def test_job_parameters_must_be_a_contract() -> None:
    """Without the model nothing could be validated at submission."""

    class Mixin:
        pass

    class Silent(Mixin, BaseController):  # type: ignore[type-arg]
        pass

    class Open(AnyJob):  # type: ignore[type-arg]
        pass

    class Plainly(BaseController[int]):  # type: ignore[type-var]
        pass

    class Variable(AnyJob[Tile, G]):
        pass

    for controller_class, said in (
        (BaseController, "nothing"),
        (Silent, "nothing"),
        (Open, "nothing"),
        (Plainly, "int"),
        (Variable, "~G"),
    ):
        name = controller_class.__name__
        with pytest.raises(WorkflowDefinitionError, match=rf"{name} must say the Contract .*\[Parameters\]\); it says {said}"):
            register(controller_class)


def test_a_controller_must_be_made_without_arguments() -> None:
    """The registry makes the one instance that serves all jobs."""

    class Needy(Plain):
        def __init__(self, path: str) -> None:
            self.path = path

    class Abstract(Plain):
        @abstractmethod
        def left_open(self) -> None: ...

    for controller_class, why in ((Needy, "missing 1 required positional argument: 'path'"), (Abstract, "left_open")):
        name = controller_class.__name__
        with pytest.raises(WorkflowDefinitionError, match=rf"{name}, {HERE}:\d+ cannot be made without arguments: .*{why}"):
            register(controller_class)


@pytest.mark.parametrize(("job_type", "version", "field"), [("Plain", 1, "job_type"), ("plain", 0, "version")])
def test_a_name_or_version_that_no_store_takes_is_refused(
    registry: JobRegistry, job_type: str, version: int, field: str
) -> None:
    """The message names the class, the line and the field."""
    with pytest.raises(WorkflowDefinitionError, match=rf"Plain, {HERE}:\d+ cannot be registered: {field}: .*, got"):
        registry.register(Plain, job_type, version)
    assert registry.workflows() == []


# How it is found


def test_the_default_registry_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """All modules register in the same place, and a plain instance is another."""
    monkeypatch.setattr(JobRegistry, "_default", None)
    assert JobRegistry.instance() is JobRegistry.instance()
    assert JobRegistry() is not JobRegistry.instance()


def test_a_name_is_taken_once_and_both_places_are_named(registry: JobRegistry) -> None:
    """Two workflows never fight over the same jobs; versions live side by side."""
    registry.register(Plain, "plain")
    registry.register(Plain, "plain", 2)
    both = rf"'plain' version 2 of .*Plain, {HERE}:\d+ is registered already, by .*Plain, {HERE}:\d+"
    with pytest.raises(WorkflowDefinitionError, match=both):
        registry.register(Plain, "plain", 2)


def test_workflows_are_found_by_class_and_by_name(registry: JobRegistry) -> None:
    """A reference without a version means the newest."""
    newest = registry.register(Plain, "plain", 2)
    oldest = registry.register(Plain, "plain", 1)
    assert registry.find("plain") is newest
    assert registry.find(Plain) is newest
    assert registry.get("plain", 1) is oldest
    assert list(registry) == registry.workflows() == [newest, oldest]


def test_an_unknown_workflow_lists_those_that_are_known(registry: JobRegistry) -> None:
    """The message tells a wrong name from a module that was not imported."""
    with pytest.raises(UnknownWorkflowError, match="nothing is registered: import the modules"):
        registry.find(Plain)
    registry.register(Plain, "plain")
    with pytest.raises(UnknownWorkflowError, match="no workflow 'plain' version 2 is registered; registered: plain version 1"):
        registry.get("plain", 2)
    with pytest.raises(UnknownWorkflowError, match="no workflow 'plane' is registered; registered: plain version 1"):
        registry.find("plane")


def test_a_class_that_stands_for_several_job_types_is_no_reference(registry: JobRegistry) -> None:
    """Nothing is guessed."""
    registry.register(Plain, "plain")
    registry.register(Plain, "simple")
    with pytest.raises(UnknownWorkflowError, match="'Plain' is registered as plain, simple; pass the job type you mean"):
        registry.find(Plain)


# Stages that do not fit each other


def test_a_workflow_needs_a_stage() -> None:
    """A job without stages could never end."""

    class Empty(BaseController[Survey]):
        pass

    with pytest.raises(WorkflowDefinitionError, match=r"Empty, .* declares no stage; write a_stage = stage\(1"):
        register(Empty)


def test_stage_numbers_have_no_gap_and_no_double() -> None:
    """The message names the stages by number, attribute and line."""

    class Gap(Plain):
        fourth = stage(4, "fourth", task=measure_slope)

    class Double(Plain):
        second = stage(2, "second", task=measure_slope)

    with pytest.raises(WorkflowDefinitionError, match=rf"<stage 4 .*Gap\.fourth \({HERE}:\d+\)> follows no stage 3"):
        register(Gap)
    with pytest.raises(
        WorkflowDefinitionError, match=r"<stage 2 Plain\.pictures .*> and <stage 2 .*Double\.second .*same number"
    ):
        register(Double)


def test_one_task_type_stands_for_one_handler() -> None:
    """Within a workflow a stored task must lead to exactly one function."""

    class Torn(Plain):
        again = stage(3, "again", task=measure_slope_again)

    with pytest.raises(
        WorkflowDefinitionError, match=r"'slope' stands for two handlers, .*:measure_slope, .*:measure_slope_again, "
    ):
        register(Torn)


def test_a_stage_follows_earlier_stages_of_its_own_class() -> None:
    """A planner can only get results that exist by then."""

    class Elsewhere(BaseController[Survey]):
        pictures = stage(1, "picture", task=draw, after=Plain.slopes)

    class Backwards(BaseController[Survey]):
        slopes = stage(2, "slope", task=measure_slope)
        pictures = stage(1, "picture", task=draw, after=slopes)

    with pytest.raises(
        WorkflowDefinitionError, match=r"Elsewhere\.pictures .* follows <stage 1 Plain\.slopes .*no stage of .*Else"
    ):
        register(Elsewhere)
    with pytest.raises(WorkflowDefinitionError, match=r"Backwards\.pictures .* follows <stage 2 .*does not come before it"):
        register(Backwards)


def test_every_stage_is_planned_by_somebody() -> None:
    """No stage can turn out to be unplannable when a job reaches it."""

    class First(BaseController[Survey]):
        slopes = stage(1, "slope", task=measure_slope)

    class Second(Plain):
        more = stage(3, "more", task=measure_slope)

    with pytest.raises(WorkflowDefinitionError, match=r"nobody plans <stage 1 .*; declare a planner under @slopes\.plan, or"):
        register(First)
    with pytest.raises(WorkflowDefinitionError, match=r"nobody plans <stage 3 .*@more\.plan"):
        register(Second)


def test_an_orchestration_before_a_stage_can_plan_it() -> None:
    """A declared orchestration, or an override that may give one, stands in for a planner; not for the first stage's."""

    class Declared(Plain):
        found = stage(3, "found", task=measure_slope)
        more = stage(4, "more", task=measure_slope)

        @found.plan
        def plan_found(self, job: JobExecutionContext[Survey]) -> Iterator[Tile]:
            yield Tile(index=job.parameters.tiles)

        @found.orchestrate
        def decide(
            self,
            job: JobExecutionContext[Survey],  # noqa: ARG002
            results: StageResults[Slope],  # noqa: ARG002
        ) -> OrchestrationDataContract | None:
            return None

    class Aggregates(Plain):
        more = stage(3, "more", task=measure_slope)

        def aggregate_stage_results(
            self,
            job: JobExecutionContext[Survey],  # noqa: ARG002
            stage: StageExecutionContext,  # noqa: ARG002
            results: StageResults[Any],  # noqa: ARG002
        ) -> StageAggregate:
            return StageAggregate()

    class Creates(Plain):
        more = stage(3, "more", task=measure_slope)

        def create_tasks_from_orchestration(
            self,
            stage_number: int,  # noqa: ARG002
            job_id: str,  # noqa: ARG002
            job_parameters: Survey,  # noqa: ARG002
            orchestration: OrchestrationDataContract,  # noqa: ARG002
        ) -> Iterator[TaskDefinition[Any]]:
            yield from ()

    class CreatesFirst(Creates):
        plan_slopes = None  # type: ignore[assignment]
        slopes = stage(1, "slope", task=measure_slope)
        pictures = stage(2, "picture", task=draw, after=slopes)

    assert [register(each).definition.total_stages for each in (Declared, Aggregates, Creates)] == [4, 3, 3]
    with pytest.raises(WorkflowDefinitionError, match=r"nobody plans <stage 1 "):
        register(CreatesFirst)


# Methods that do not fit their stage


class Bare(BaseController[Survey]):
    """Has no stages of its own."""


def planned_by(method: Callable[..., Any], *, may_skip: bool = False) -> type[BaseController[Any]]:
    """Return a controller whose second stage is planned by ``method``."""
    slopes = stage(1, "slope", task=measure_slope)
    tiles = stage(2, "tile", task=measure_slope, after=slopes, may_skip=may_skip)  # type: ignore[call-overload]
    slopes.plan(plan_first)
    tiles.plan(method)
    members = {"slopes": slopes, "tiles": tiles, "plan_first": plan_first, method.__name__: method}
    return type("Planned", (Bare,), members)


def plan_first(self: Any, job: JobExecutionContext[Survey]) -> Iterator[Tile]:  # noqa: ARG001, D103
    yield Tile()


def right(self: Any, job: JobExecutionContext[Survey], slopes: StageResults[Slope]) -> Iterator[Tile]:  # noqa: ARG001, D103
    yield Tile()


def right_and_open(self: Any, job: Any, slopes: StageResults[Any]) -> Any:  # noqa: ARG001, D103
    yield Tile()


def right_and_bare(self: Any, job: JobExecutionContext, slopes: StageResults) -> list[Tile]:  # type: ignore[type-arg]  # noqa: ARG001, D103
    return [Tile()]


def right_with_forward_references(self: Any, job: "JobExecutionContext[Survey]", slopes: "Any") -> "Iterator[Tile]":  # noqa: ARG001, D103
    yield Tile()


def right_for_skipped(self: Any, job: JobExecutionContext[Survey], slopes: StageResults[Slope] | None) -> Iterator[Tile]:  # noqa: ARG001, D103
    yield Tile()


@pytest.mark.parametrize("method", [right, right_and_open, right_and_bare, right_with_forward_references])
def test_a_planner_that_fits_its_stage_is_accepted(method: Callable[..., Any]) -> None:
    """Whoever leaves a type open is not held back."""
    assert register(planned_by(method)).definition.stage(2).after == (1,)


@pytest.mark.parametrize("method", [right_for_skipped, right_with_forward_references])
def test_a_planner_that_may_skip_takes_none(method: Callable[..., Any]) -> None:
    """A stage that may follow a skipped one is planned by who can do without it."""
    assert register(planned_by(method, may_skip=True)).definition.stage(2).may_skip


def other_job(self: Any, job: JobExecutionContext[Other], slopes: StageResults[Slope]) -> Iterator[Tile]:  # noqa: ARG001, D103
    yield Tile()


def no_job(self: Any, job: StageExecutionContext, slopes: StageResults[Slope]) -> Iterator[Tile]:  # noqa: ARG001, D103
    yield Tile()


def other_results(self: Any, job: JobExecutionContext[Survey], slopes: StageResults[Shade]) -> Iterator[Tile]:  # noqa: ARG001, D103
    yield Tile()


def no_results(self: Any, job: JobExecutionContext[Survey], slopes: list[Slope]) -> Iterator[Tile]:  # noqa: ARG001, D103
    yield Tile()


def union_of_results(
    self: Any,  # noqa: ARG001
    job: JobExecutionContext[Survey],  # noqa: ARG001
    slopes: StageResults[Slope] | StageResults[Shade],  # noqa: ARG001
) -> Iterator[Tile]:
    """Takes either result."""
    yield Tile()


def other_parameters(self: Any, job: JobExecutionContext[Survey], slopes: StageResults[Slope]) -> Iterator[Slope]:  # noqa: ARG001, D103
    yield Slope()


def other_keyed(self: Any, job: JobExecutionContext[Survey], slopes: StageResults[Slope]) -> Iterator[Keyed[Slope]]:  # noqa: ARG001, D103
    yield Keyed(parameters=Slope(), key="a")


def no_iterator(self: Any, job: JobExecutionContext[Survey], slopes: StageResults[Slope]) -> Tile:  # noqa: ARG001, D103
    return Tile()


async def is_async(self: Any, job: JobExecutionContext[Survey], slopes: StageResults[Slope]) -> Iterator[Tile]:  # noqa: ARG001, D103
    return iter(())


def takes_too_little(self: Any, job: JobExecutionContext[Survey]) -> Iterator[Tile]:  # noqa: ARG001, D103
    yield Tile()


def unannotated(self, job, slopes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001, D103
    yield Tile()


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (other_job, r"takes job: JobExecutionContext\[Other\], but .* needs JobExecutionContext\[Survey\]"),
        (no_job, r"takes job: StageExecutionContext, but .* needs JobExecutionContext\[Survey\]"),
        (
            other_results,
            r"takes slopes: StageResults\[Shade\], but .* needs StageResults\[Slope\], what .*:measure_slope, ",
        ),
        (no_results, r"takes slopes: list\[Slope\], but .* needs StageResults\[Slope\]"),
        (union_of_results, r"takes slopes: StageResults\[Slope\] \| StageResults\[Shade\], but .* needs StageResults\[Slope\]"),
        (right_for_skipped, r"takes slopes: StageResults\[Slope\] \| None, but .* needs StageResults\[Slope\], what"),
        (other_parameters, r"returns Iterator\[Slope\], but .* needs Iterator\[Tile\], what .*:measure_slope, "),
        (other_keyed, r"returns Iterator\[Keyed\[Slope\]\], but .* needs Iterator\[Tile\]"),
        (no_iterator, r"returns Tile, but .* needs Iterator\[Tile\]"),
        (is_async, "is async, but .* needs a plain method"),
        (takes_too_little, r"must take 2 parameters after self, but takes \['job'\]; .* follows <stage 1 Planned\.slopes "),
        (unannotated, "has no annotation for its parameter 'job'"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_planner_that_does_not_fit_its_stage_is_refused_naming_both_places(
    method: Callable[..., Any], complaint: str
) -> None:
    """What type checkers say in the editor is said again before anything runs."""
    with pytest.raises(WorkflowDefinitionError, match=rf"test_registry:{method.__qualname__}, {HERE}:\d+ {complaint}"):
        register(planned_by(method))


def test_a_planner_of_a_stage_that_may_skip_must_take_none() -> None:
    """A planner is never surprised by None."""
    complaint = r"takes slopes: .* needs StageResults\[Slope\] \| None, what .*, and declares may_skip"
    with pytest.raises(WorkflowDefinitionError, match=complaint):
        register(planned_by(right, may_skip=True))


def test_a_planner_must_be_a_method_of_the_class() -> None:
    """What is decorated elsewhere could not be called on the controller."""

    class Strange(Plain):
        more = stage(3, "more", task=measure_slope)
        more.plan(plan_first)

    class Hidden(Plain):
        plan_slopes = None  # type: ignore[assignment]

    with pytest.raises(WorkflowDefinitionError, match=r"plan_first, .*declared for <stage 3 .*is no method of .*Strange"):
        register(Strange)
    with pytest.raises(WorkflowDefinitionError, match=r"plan_slopes, .*declared for <stage 1 .*is no method of .*Hidden"):
        register(Hidden)


def test_declared_methods_need_names_of_their_own() -> None:
    """A name used twice would make both stages call the second method."""

    class Twice(BaseController[Survey]):
        slopes = stage(1, "slope", task=measure_slope)
        again = stage(2, "again", task=measure_slope)

        @slopes.plan
        def _(self, job: JobExecutionContext[Survey]) -> Iterator[Tile]:
            yield Tile(index=job.parameters.tiles)

        @again.plan
        def _(self, job: JobExecutionContext[Survey]) -> Iterator[Tile]:
            yield Tile(index=job.parameters.tiles)

    with pytest.raises(WorkflowDefinitionError, match=rf"Twice\._, {HERE}:\d+ is hidden by .*Twice\._, {HERE}:\d+"):
        register(Twice)


def right_end(self: Any, job: JobExecutionContext[Survey], results: StageResults[Slope]) -> Any:  # noqa: ARG001, D103
    return None


def end_of_other_results(self: Any, job: JobExecutionContext[Survey], results: StageResults[Shade]) -> Slope:  # noqa: ARG001, D103
    return Slope()


def end_without_contract(self: Any, job: JobExecutionContext[Survey], results: StageResults[Slope]) -> dict[str, int]:  # noqa: ARG001, D103
    return {}


def end_of_other_job(self: Any, job: JobExecutionContext[Other], results: StageResults[Slope]) -> Slope:  # noqa: ARG001, D103
    return Slope()


def right_combination(self: Any, left: Slope, right: Slope) -> Slope:  # noqa: ARG001, D103
    return right


def open_combination(self: Any, left: Any, right: Any) -> Any:  # noqa: ARG001, D103
    return right


def combination_of_others(self: Any, left: Shade, right: Slope) -> Slope:  # noqa: ARG001, D103
    return right


def combination_to_none(self: Any, left: Slope, right: Slope) -> Slope | None:  # noqa: ARG001, D103
    return None


def combination_of_three(self: Any, left: Slope, middle: Slope, right: Slope) -> Slope:  # noqa: ARG001, D103
    return right


async def combination_later(self: Any, left: Slope, right: Slope) -> Slope:  # noqa: ARG001, D103
    return right


def unannotated_combination(self, left: Slope, right: Slope):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001, D103
    return right


def right_verdict(self: Any, job: JobExecutionContext[Survey], stage: StageExecutionContext) -> bool:  # noqa: ARG001, D103
    return True


def verdict_on_results(self: Any, job: JobExecutionContext[Survey], stage: StageResults[Slope]) -> bool:  # noqa: ARG001, D103
    return True


def verdict_by_text(self: Any, job: JobExecutionContext[Survey], stage: StageExecutionContext) -> str:  # noqa: ARG001, D103
    return "yes"


def closed_by(decorator: str, method: Callable[..., Any]) -> type[BaseController[Any]]:
    """Return a controller whose only stage has ``method`` under a decorator."""
    slopes = stage(1, "slope", task=measure_slope)
    slopes.plan(plan_first)
    getattr(slopes, decorator)(method)
    members = {"slopes": slopes, "plan_first": plan_first, method.__name__: method}
    return type("Closed", (Bare,), members)


@pytest.mark.parametrize(
    ("decorator", "method"),
    [
        ("combine", right_combination),
        ("combine", open_combination),
        ("aggregate", right_end),
        ("orchestrate", right_end),
        ("should_advance", right_verdict),
    ],
)
def test_a_method_that_fits_the_end_of_its_stage_is_accepted(decorator: str, method: Callable[..., Any]) -> None:
    """The same openness as for planners."""
    assert register(closed_by(decorator, method)).definition.total_stages == 1


@pytest.mark.parametrize(
    ("decorator", "method", "complaint"),
    [
        ("combine", combination_of_others, r"takes left: Shade, but .* needs Slope, what .*:measure_slope, .* gives"),
        ("combine", combination_to_none, r"returns Slope \| None, but .* needs Slope"),
        ("combine", combination_of_three, r"must take 2 parameters after self, but takes \['left', 'middle', 'right'\]"),
        ("combine", combination_later, "is async, but .* needs a plain method"),
        ("combine", unannotated_combination, "has no annotation for its return value"),
        ("aggregate", end_of_other_results, r"takes results: StageResults\[Shade\], but .* needs StageResults\[Slope\]"),
        ("aggregate", end_without_contract, r"returns dict\[str, int\], but .* needs a Contract"),
        ("aggregate", end_of_other_job, r"takes job: JobExecutionContext\[Other\], but .* needs JobExecutionContext\[Survey\]"),
        ("orchestrate", end_of_other_results, r"takes results: StageResults\[Shade\], but .* needs StageResults\[Slope\]"),
        ("orchestrate", end_without_contract, r"returns dict\[str, int\], but .* needs OrchestrationDataContract \| None"),
        ("should_advance", verdict_on_results, r"takes stage: .* needs StageExecutionContext"),
        ("should_advance", verdict_by_text, "returns str, but .* needs bool"),
    ],
)
def test_a_method_that_does_not_fit_the_end_of_its_stage_is_refused(
    decorator: str, method: Callable[..., Any], complaint: str
) -> None:
    """Each declared method is compared with its stage, and both places are named."""
    with pytest.raises(WorkflowDefinitionError, match=rf"{method.__name__}, {HERE}:\d+ {complaint}"):
        register(closed_by(decorator, method))


def test_a_task_that_returns_nothing_has_nothing_to_combine() -> None:
    """A combine above the stage of such a task is a misunderstanding, and is refused."""

    class Combining(Plain):
        last = stage(3, "last", task=draw)

        @last.plan
        def plan_last(self, job: JobExecutionContext[Survey]) -> Iterator[Slope]:
            yield from [Slope()] * job.parameters.tiles

        @last.combine
        def nothing(self, left: Any, right: Any) -> Any:
            return left or right

    with pytest.raises(WorkflowDefinitionError, match=r"nothing, .* combines the results of <stage 3 .*:draw, .* returns none"):
        register(Combining)


def test_results_of_a_task_that_returns_nothing_are_none() -> None:
    """``StageResults[None]`` is what follows a handler without a result."""

    class After(Plain):
        last = stage(3, "last", task=measure_slope, after=Plain.pictures)

        @last.plan
        def plan_last(self, job: JobExecutionContext[Survey], pictures: StageResults[None]) -> Iterator[Tile]:
            yield Tile(index=len(pictures) + job.parameters.tiles)

    assert register(After).definition.total_stages == 3
