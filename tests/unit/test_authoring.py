"""Tasks and stages as declared."""

import asyncio
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext, StageExecutionContext, TaskExecutionContext
from stageflow.contracts.results import StageResults
from stageflow.contracts.retry import NO_RETRY, RetryPolicy
from stageflow.contracts.stage import FailureMode, FailurePolicy
from stageflow.errors import StageResultsMissingError, WorkflowDefinitionError
from stageflow.workflow.authoring import AsyncTask, FreelyPlannedStage, SyncTask, stage, task, workflow
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry

HERE = re.escape(__file__)


class Number(Contract):
    """A parameter model."""

    n: int


class Text(Contract):
    """A result model."""

    text: str


@task("spell", retry=NO_RETRY)
def spell(parameters: Number, context: TaskExecutionContext) -> Text:
    """Spell a number."""
    return Text(text=f"{parameters.n} of {context.task_index}")


@task("spell_later")
async def spell_later(parameters: Number, context: TaskExecutionContext) -> Text:
    """Spell a number on the event loop."""
    await asyncio.sleep(0)
    return spell(parameters, context)


@task("forget", cpu_bound=True)
def forget(parameters: "Number", context: "TaskExecutionContext") -> None:
    """Return nothing; the annotations are forward references."""
    assert parameters.n >= context.task_index


@pytest.fixture
def context() -> TaskExecutionContext:
    """Return the context of the first task of some job."""
    return TaskExecutionContext(job_id="a" * 64, job_type="spelling", stage_number=1, task_index=0, task_type="spell")


def results_of(number: int) -> StageResults[Any]:
    """Return the results of a stage without tasks."""
    return StageResults(stage_number=number, model=Text, task_count=0, successful_tasks=0, load=lambda *_: [])


def test_a_task_carries_what_its_handler_says() -> None:
    """A worker learns models, colour and retry policy from the task alone."""
    assert isinstance(spell, SyncTask)
    assert (spell.task_type, spell.parameter_model, spell.result_model) == ("spell", Number, Text)
    assert (spell.is_async, spell.cpu_bound, spell.retry) == (False, False, NO_RETRY)
    assert re.fullmatch(rf".*test_authoring:spell, {HERE}:\d+", spell.where)
    assert (spell.__name__, spell.__doc__) == ("spell", "Spell a number.")
    assert repr(spell) == f"<task 'spell' ({spell.where})>"


def test_a_handler_that_returns_none_has_no_result_model_and_may_use_forward_references() -> None:
    """Annotations are read as Python resolves them, not as text."""
    assert forget.parameter_model is Number
    assert forget.result_model is None
    assert forget.cpu_bound


def test_a_task_is_called_like_the_function_it_was_made_of(context: TaskExecutionContext) -> None:
    """A handler can be tested without anything."""
    assert spell(Number(n=3), context) == Text(text="3 of 0")
    forget(Number(n=3), context)


def test_an_async_task_gives_a_coroutine(context: TaskExecutionContext) -> None:
    """An async handler is awaited by its caller."""
    assert isinstance(spell_later, AsyncTask)
    assert spell_later.is_async
    assert asyncio.run(spell_later(Number(n=3), context)) == Text(text="3 of 0")


def test_the_base_of_both_kinds_of_task_calls_its_handler_too(context: TaskExecutionContext) -> None:
    """A worker that holds a task of either kind can call it."""
    assert super(SyncTask, spell).__call__(Number(n=1), context) == Text(text="1 of 0")


def test_a_task_is_pickled_by_its_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process pool finds a task by importing its module, so the handler itself need not be pickled."""
    monkeypatch.setitem(__import__("sys").modules, forget.__module__, request.module)
    assert pickle.loads(pickle.dumps(forget)) is forget  # noqa: S301  our own bytes


def no_annotations(parameters, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001, D103
    return None


def no_return_annotation(parameters: Number, context: TaskExecutionContext):  # type: ignore[no-untyped-def]  # noqa: ANN201, ARG001, D103
    return None


def one_parameter(parameters: Number) -> Text:  # noqa: ARG001, D103
    return Text(text="")


def plain_parameters(parameters: int, context: TaskExecutionContext) -> Text:  # noqa: ARG001, D103
    return Text(text="")


def other_context(parameters: Number, context: StageExecutionContext) -> Text:  # noqa: ARG001, D103
    return Text(text="")


def plain_result(parameters: Number, context: TaskExecutionContext) -> dict[str, int]:  # noqa: ARG001, D103
    return {}


def optional_result(parameters: Number, context: TaskExecutionContext) -> Text | None:  # noqa: ARG001, D103
    return None


def unknown_model(parameters: "Nowhere", context: TaskExecutionContext) -> Text:  # type: ignore[name-defined]  # noqa: ARG001, D103, F821
    return Text(text="")


@pytest.mark.parametrize(
    ("handler", "complaint"),
    [
        (no_annotations, "has no annotation for its parameter 'parameters'; add one"),
        (no_return_annotation, "has no annotation for its return value; add one"),
        (one_parameter, r"must take exactly \(parameters, context\), but takes \(parameters\)"),
        (plain_parameters, "must be a Contract, but is int"),
        (other_context, "must be TaskExecutionContext, but is StageExecutionContext"),
        (plain_result, r"must return one Contract or None, but returns dict\[str, int\]"),
        (optional_result, r"must return one Contract or None, but returns .*Text \| None"),
        (unknown_model, "cannot be read: name 'Nowhere' is not defined. Define the models at module level"),
    ],
)
def test_a_handler_of_another_form_is_refused_at_its_decorator(handler: Callable[..., Any], complaint: str) -> None:
    """Nothing is guessed about a handler; the message says where it is and what to write."""
    with pytest.raises(WorkflowDefinitionError, match=rf"{handler.__name__}, {HERE}:\d+.*{complaint}"):
        task("wrong")(handler)


@pytest.mark.parametrize("name", ["", "Upper", "with space", "1st", "a" * 101])
def test_a_task_type_that_is_no_type_name_is_refused(name: str) -> None:
    """A name that the store would refuse is refused where it is written."""
    with pytest.raises(WorkflowDefinitionError, match=rf"task type at {HERE}:\d+ .* a lower-case letter"):
        task(name)


def test_the_decorator_without_a_name_is_refused() -> None:
    """``@task`` without parentheses would swallow the handler."""
    with pytest.raises(WorkflowDefinitionError, match=r'write @task\("a_name"\) above the handler'):
        task(one_parameter)  # type: ignore[arg-type]


def test_the_decorator_of_a_workflow_without_a_name_is_refused() -> None:
    """``@workflow`` without parentheses would turn the controller into a function that nothing has registered."""
    with pytest.raises(WorkflowDefinitionError, match=rf'at {HERE}:\d+ must be text.*write @workflow\("a_name"\) above the'):
        workflow(BaseController)  # type: ignore[arg-type]


def test_the_picture_of_a_long_task_type_is_short() -> None:
    """What is wrong with it is said, not all of it."""
    with pytest.raises(WorkflowDefinitionError) as refused:
        task("x" * 5000)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("limit", [0, -1, 10_001, True, 2.0, "2"])
def test_a_most_running_that_cannot_be_is_refused_where_it_is_declared(limit: Any) -> None:
    """A whole number from 1 on; to have none of it run is what a pause is for."""
    with pytest.raises(WorkflowDefinitionError, match=r"max_running of task 'fetch' must be a whole number from 1 to 10000"):
        task("fetch", max_running=limit)


@pytest.mark.parametrize("rate", [0, -1.0, 1e-9, 1e9, float("nan"), float("inf"), True, "2"])
def test_a_rate_that_cannot_be_is_refused_where_it_is_declared(rate: Any) -> None:
    """A number from one a day on."""
    with pytest.raises(WorkflowDefinitionError, match=r"max_per_second of task 'fetch' must be a number from 1/86400"):
        task("fetch", max_per_second=rate)


def test_limits_at_their_bounds_are_carried_by_the_task() -> None:
    """What is declared is what a worker writes to the store."""

    @task("fetch", max_running=10_000, max_per_second=1 / 86_400)
    def fetch(parameters: Number, context: TaskExecutionContext) -> None:
        """Return nothing."""

    assert (fetch.max_running, fetch.max_per_second) == (10_000, 1 / 86_400)


def test_a_cpu_bound_handler_must_be_a_plain_function_at_module_level() -> None:
    """Another process must be able to import it and to run it to its end."""

    def inner(parameters: Number, context: TaskExecutionContext) -> Text:
        return spell(parameters, context)

    with pytest.raises(WorkflowDefinitionError, match=r"inner.* must stand at module level"):
        task("inner", cpu_bound=True)(inner)

    async def later(parameters: Number, context: TaskExecutionContext) -> Text:
        return await spell_later(parameters, context)

    with pytest.raises(WorkflowDefinitionError, match=r"later.* is async, so it cannot be cpu_bound"):
        task("later", cpu_bound=True)(later)


@pytest.mark.parametrize("name", ["", " ", "\t\n\u3000", "\u200b", "a\0b", "a\ud800", "a" * 201])
def test_a_stage_has_a_name_that_can_be_seen_and_stored(name: str) -> None:
    """Blank names, names that no store can hold and endless ones are refused where they are declared."""
    with pytest.raises(WorkflowDefinitionError, match=r"stage 1 at .*test_authoring\.py:\d+ cannot be: name: "):
        stage(1, name, task=spell)
    assert stage(1, "é" * 200, task=spell).definition.name == "é" * 200


@pytest.mark.parametrize("percent", ["95", True, None, 101, -1, float("nan")])
def test_a_success_rate_is_a_number_of_percent(percent: Any) -> None:
    """What only looks like a number is refused where the policy is made."""
    with pytest.raises(ValidationError, match="minimum_success_rate"):
        FailurePolicy.at_least(percent)
    assert FailurePolicy.at_least(95).minimum_success_rate == 95.0


def test_a_stage_carries_its_declaration() -> None:
    """A stage can be read without running it."""
    first = stage(1, "first", task=spell)
    second = stage(
        2,
        "second",
        task=spell_later,
        after=first,
        policy=FailurePolicy.any_may_fail(),
        retry=RetryPolicy(max_attempts=7),
        planning_retry=RetryPolicy(max_attempts=2),
        may_skip=True,
        plan_atomically=True,
    )
    assert second.definition.after == (1,)
    assert second.after == (first,)
    assert second.definition.policy.mode is FailureMode.ANY
    assert (second.definition.retry.max_attempts, second.definition.planning_retry.max_attempts) == (7, 2)
    assert second.definition.may_skip
    assert second.definition.plan_atomically
    assert re.fullmatch(rf"<stage 2 \? \({HERE}:\d+\)>", repr(second))


def test_a_stage_retries_as_it_says_itself_else_as_its_task_says_else_as_the_default() -> None:
    """The nearest declaration wins."""
    assert stage(1, "own", task=spell, retry=RetryPolicy(max_attempts=7)).definition.retry.max_attempts == 7
    assert stage(1, "task", task=spell).definition.retry == NO_RETRY
    assert stage(1, "default", task=spell_later).definition.retry == RetryPolicy()


def test_a_stage_that_follows_more_than_three_is_planned_freely() -> None:
    """Type checkers compare up to three results; the registry compares them all."""
    first = stage(1, "first", task=spell)
    second = stage(2, "second", task=spell, after=(first, first, first, first))
    assert isinstance(second, FreelyPlannedStage)
    assert second.plan(one_parameter) is second.planner  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declare", "complaint"),
    [
        (lambda: stage(0, "zero", task=spell), "stage 0 at .* number: Input should be greater than or equal to 1, got 0"),
        (lambda: stage(1, "", task=spell), "stage 1 at .* name: .*, got ''"),
        (lambda: stage(1, "may", task=spell, may_skip=True), "says may_skip but follows no stage"),  # type: ignore[call-overload]
        (lambda: stage(1, "len", task=len), r"needs a function under @task\(…\) as task"),  # type: ignore[call-overload]
        (lambda: stage(2, "after", task=spell, after=spell), "and stages as after"),  # type: ignore[call-overload]
    ],
)
def test_a_stage_that_cannot_be_is_refused_where_it_is_declared(declare: Callable[[], object], complaint: str) -> None:
    """The message gives the line of the declaration, not one of the library."""
    with pytest.raises(WorkflowDefinitionError, match=complaint) as caught:
        declare()
    assert __file__ in str(caught.value)


@pytest.mark.parametrize("decorator", ["plan", "combine", "aggregate", "orchestrate", "should_advance"])
def test_a_stage_has_one_method_of_each_kind(decorator: str) -> None:
    """A second method would silently replace the first; the message names both."""
    first = stage(1, "first", task=spell)
    declare = getattr(first, decorator)
    assert declare(one_parameter) is one_parameter
    with pytest.raises(WorkflowDefinitionError, match=rf"@….{decorator}: .*one_parameter.* and .*other_context"):
        declare(other_context)


def test_a_stage_finds_its_own_results_among_those_of_all() -> None:
    """Results are found by the stage they are of; a stage without any is named, with those there are."""
    first, second = stage(1, "first", task=spell), stage(2, "second", task=spell)
    results = results_of(1)
    assert first.of({1: results}) is results
    with pytest.raises(StageResultsMissingError, match=r"stage 2 \(second\) has no results.*there are: 1"):
        second.of({1: results})
    with pytest.raises(StageResultsMissingError, match="there are: none"):
        second.of({})


def declare_counting(registry: JobRegistry | None) -> type[BaseController[Number]]:
    """Declare and register a controller."""

    @workflow("counting", version=3, registry=registry)
    class Counting(BaseController[Number]):
        numbers = stage(1, "numbers", task=spell)

        @numbers.plan
        def plan_numbers(self, job: JobExecutionContext[Number]) -> Iterator[Number]:
            yield job.parameters

    return Counting


def test_the_decorator_registers_the_class_and_gives_it_back() -> None:
    """The class stays what it was; its instance and definition are the registry's."""
    registry = JobRegistry()
    counting = declare_counting(registry)
    assert registry.get("counting", 3).controller.__class__ is counting


def test_the_decorator_registers_in_the_default_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application needs no registry of its own."""
    monkeypatch.setattr(JobRegistry, "_default", None)
    counting = declare_counting(None)
    assert JobRegistry.instance().find(counting).version == 3
