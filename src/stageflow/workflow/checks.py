"""Compares, at registration, what the methods of a workflow take and return with what its stages declare."""

import inspect
from collections.abc import Callable
from types import NoneType
from typing import Any, Final, NoReturn, TypeVar, get_args, get_origin

from stageflow.contracts.base import Contract
from stageflow.contracts.context import StageExecutionContext
from stageflow.contracts.orchestration import OrchestrationDataContract
from stageflow.errors import WorkflowDefinitionError
from stageflow.workflow.annotations import (
    RETURN,
    agrees,
    is_contract,
    is_open,
    item_type,
    job_argument,
    model_argument,
    parameter_names,
    place_of,
    require_annotations,
    results_argument,
    type_text,
    without_none,
)
from stageflow.workflow.controller import BaseController
from stageflow.workflow.declared import preceding_stage
from stageflow.workflow.overrides import is_overridden
from stageflow.workflow.stage import Keyed, Stage

Controller = type[BaseController[Any]]
Parameter = tuple[str, Any]

_PLANS_FROM_ORCHESTRATION: Final = ("aggregate_stage_results", "create_tasks_from_orchestration")


def parameters_model_of(controller_class: Controller) -> type[Contract]:
    """Return the ``J`` of ``BaseController[J]``.

    Raises:
        WorkflowDefinitionError: The class does not say, or it is no contract.
    """
    argument = _argument_of_base(controller_class)
    if not (isinstance(argument, type) and issubclass(argument, Contract)):
        said = "nothing" if argument is None else type_text(argument)
        msg = (
            f"{controller_class.__module__}:{controller_class.__qualname__} must say the Contract of its job parameters, as in "
            f"class {controller_class.__name__}(BaseController[Parameters]); it says {said}"
        )
        raise WorkflowDefinitionError(msg)
    return argument


def _argument_of_base(controller_class: type) -> object | None:
    for base in vars(controller_class).get("__orig_bases__", controller_class.__bases__):
        origin = get_origin(base) or base
        if origin is BaseController:
            return next(iter(get_args(base)), None)
        if issubclass(origin, BaseController):
            inner = _argument_of_base(origin)
            if isinstance(inner, TypeVar):
                given: dict[object, object] = dict(zip(origin.__parameters__, get_args(base), strict=False))
                return given.get(inner)
            return inner
    return None


def check_stages(controller_class: Controller, stages: tuple[Stage[Any, Any], ...], model: type[Contract]) -> None:
    """Do nothing if every stage can be planned and every declared method fits its stage.

    Args:
        controller_class: The class the user wrote.
        stages: Its stages, by number.
        model: The model of its job parameters.

    Raises:
        WorkflowDefinitionError: Something does not fit; the message names both places.
    """
    _check_task_types(stages)
    _check_names(stages)
    for stage in stages:
        _check_order(controller_class, stages, stage)
        _check_predecessor(controller_class, stage)
        if stage.planner is None:
            _require_other_plan(controller_class, stages, stage)
        else:
            _check_planner(_method(controller_class, stage, stage.planner), stage, model)
        if stage.combiner is not None:
            _check_combiner(_method(controller_class, stage, stage.combiner), stage)
        if stage.aggregator is not None:
            _check_aggregator(_method(controller_class, stage, stage.aggregator), stage, model)
        if stage.orchestrator is not None:
            _check_orchestrator(_method(controller_class, stage, stage.orchestrator), stage, model)
        if stage.judge is not None:
            _check_judge(_method(controller_class, stage, stage.judge), stage, model)


def _check_task_types(stages: tuple[Stage[Any, Any], ...]) -> None:
    seen: dict[str, Stage[Any, Any]] = {}
    for stage in stages:
        first = seen.setdefault(stage.task.task_type, stage)
        if first.task is not stage.task:
            msg = (
                f"task type {stage.task.task_type!r} stands for two handlers, {first.task.where} in {first!r} and "
                f"{stage.task.where} in {stage!r}; give one of them another name"
            )
            raise WorkflowDefinitionError(msg)


def _check_order(controller_class: Controller, stages: tuple[Stage[Any, Any], ...], stage: Stage[Any, Any]) -> None:
    for earlier in stage.after:
        if earlier not in stages:
            msg = (
                f"{stage!r} follows {earlier!r}, which is no stage of {controller_class.__qualname__}; "
                "name a stage of the same class (a subclass that replaces a stage also replaces those that follow it)"
            )
            raise WorkflowDefinitionError(msg)
        if earlier.definition.number >= stage.definition.number:
            msg = f"{stage!r} follows {earlier!r}, which does not come before it; number them in the order they run"
            raise WorkflowDefinitionError(msg)


def _check_predecessor(controller_class: Controller, stage: Stage[Any, Any]) -> None:
    expected = stage.task.predecessor
    if expected is None:
        return
    before = preceding_stage(controller_class, stage)
    if before is None or before.task.result_model is not expected:
        gives = "it follows no stage" if before is None else f"{before!r} gives {type_text(before.task.result_model)}"
        msg = (
            f"task {stage.task.where} of {stage!r} declares predecessor={type_text(expected)}, but {gives}; declare the result "
            "model of the stage that it follows"
        )
        raise WorkflowDefinitionError(msg)


def _require_other_plan(controller_class: Controller, stages: tuple[Stage[Any, Any], ...], stage: Stage[Any, Any]) -> None:
    if is_overridden(controller_class, BaseController, "create_stage_tasks"):
        return
    number = stage.definition.number
    if number > 1:
        orchestrated = stages[number - 2].orchestrator is not None
        if orchestrated or any(is_overridden(controller_class, BaseController, hook) for hook in _PLANS_FROM_ORCHESTRATION):
            return
    decorator = f"@{stage.attribute.rpartition('.')[2]}.plan"
    msg = f"nobody plans {stage!r}; declare a planner under {decorator}, or override create_stage_tasks"
    raise WorkflowDefinitionError(msg)


def _check_names(stages: tuple[Stage[Any, Any], ...]) -> None:
    seen: dict[str, Callable[..., Any]] = {}
    for stage in stages:
        for declared in (stage.planner, stage.combiner, stage.aggregator, stage.orchestrator, stage.judge):
            if declared is not None and seen.setdefault(declared.__name__, declared) is not declared:
                msg = (
                    f"{place_of(seen[declared.__name__])} is hidden by {place_of(declared)}, which has the same name; "
                    "give each declared method a name of its own"
                )
                raise WorkflowDefinitionError(msg)


def _method(controller_class: Controller, stage: Stage[Any, Any], declared: Callable[..., Any]) -> Callable[..., Any]:
    """Return what the controller will call: the declared function, or what a subclass put in its place."""
    for base in controller_class.__mro__:
        if declared.__name__ in vars(base):
            method: object = vars(base)[declared.__name__]
            if inspect.isfunction(method):
                return method
            break
    owner = controller_class.__qualname__
    msg = f"{place_of(declared)}, declared for {stage!r}, is no method of {owner}; define it in the class"
    raise WorkflowDefinitionError(msg)


def _check_planner(method: Callable[..., Any], stage: Stage[Any, Any], model: type[Contract]) -> None:
    hints = _hints(method, stage, 1 + len(stage.after))
    _check_job(method, hints[0], stage, model)
    for parameter, earlier in zip(hints[1:], stage.after, strict=False):
        _check_results(method, parameter, stage, earlier, may_skip=stage.definition.may_skip)
    name, hint = hints[-1]
    expected = stage.task.parameter_model
    item = hint if is_open(hint) else item_type(hint)
    keyed = model_argument(item, Keyed)
    if not agrees(item if keyed is None else keyed, expected):
        _refuse(method, stage, name, hint, f"Iterator[{type_text(expected)}], what {stage.task.where} takes")


def _check_combiner(method: Callable[..., Any], stage: Stage[Any, Any]) -> None:
    expected = stage.task.result_model
    if expected is None:
        msg = (
            f"{place_of(method)} combines the results of {stage!r}, but {stage.task.where} returns none; let it return a "
            "Contract, or drop the combine"
        )
        raise WorkflowDefinitionError(msg)
    for name, hint in _hints(method, stage, 2):
        if not agrees(hint, expected):
            _refuse(method, stage, name, hint, f"{type_text(expected)}, what {stage.task.where} gives")


def _check_aggregator(method: Callable[..., Any], stage: Stage[Any, Any], model: type[Contract]) -> None:
    job, results, (name, hint) = _hints(method, stage, 2)
    _check_job(method, job, stage, model)
    _check_results(method, results, stage, stage, may_skip=False)
    if not (is_open(hint) or is_contract(hint)):
        _refuse(method, stage, name, hint, "a Contract")


def _check_orchestrator(method: Callable[..., Any], stage: Stage[Any, Any], model: type[Contract]) -> None:
    job, results, (name, hint) = _hints(method, stage, 2)
    _check_job(method, job, stage, model)
    _check_results(method, results, stage, stage, may_skip=False)
    if not agrees(without_none(hint)[0], OrchestrationDataContract):
        _refuse(method, stage, name, hint, "OrchestrationDataContract | None")


def _check_judge(method: Callable[..., Any], stage: Stage[Any, Any], model: type[Contract]) -> None:
    job, (stage_name, stage_hint), (name, hint) = _hints(method, stage, 2)
    _check_job(method, job, stage, model)
    if not agrees(stage_hint, StageExecutionContext):
        _refuse(method, stage, stage_name, stage_hint, "StageExecutionContext")
    if not agrees(hint, bool):
        _refuse(method, stage, name, hint, "bool")


def _check_job(method: Callable[..., Any], parameter: Parameter, stage: Stage[Any, Any], model: type[Contract]) -> None:
    name, hint = parameter
    if not is_open(hint) and not agrees(job_argument(hint), model):
        _refuse(method, stage, name, hint, f"JobExecutionContext[{type_text(model)}], the parameters of its controller")


def _check_results(
    method: Callable[..., Any],
    parameter: Parameter,
    stage: Stage[Any, Any],
    source: Stage[Any, Any],
    *,
    may_skip: bool,
) -> None:
    name, hint = parameter
    result = source.task.result_model or NoneType
    bare, takes_none = without_none(hint)
    if not is_open(hint) and (takes_none is not may_skip or not agrees(results_argument(bare), result)):
        wanted = f"StageResults[{type_text(result)}]{' | None' if may_skip else ''}"
        skipped = ", and declares may_skip" if may_skip else ""
        _refuse(method, stage, name, hint, f"{wanted}, what {source.task.where} gives in {source!r}{skipped}")


def _hints(method: Callable[..., Any], stage: Stage[Any, Any], count: int) -> list[Parameter]:
    """Return names and annotations of a method's parameters after ``self``, and last of what it returns."""
    names = parameter_names(method)[1:]
    if len(names) != count:
        follows = ", ".join(repr(earlier) for earlier in stage.after) or "no stage"
        msg = f"{place_of(method)} must take {count} parameters after self, but takes {names}; {stage!r} follows {follows}"
        raise WorkflowDefinitionError(msg)
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        msg = f"{place_of(method)} is async, but {stage!r} needs a plain method; only task handlers may be async"
        raise WorkflowDefinitionError(msg)
    hints = require_annotations(method, [*names, RETURN])
    return [(name, hints[name]) for name in [*names, RETURN]]


def _refuse(method: Callable[..., Any], stage: Stage[Any, Any], name: str, hint: object, expected: str) -> NoReturn:
    written = f"returns {type_text(hint)}" if name == RETURN else f"takes {name}: {type_text(hint)}"
    msg = f"{place_of(method)} {written}, but {stage!r} needs {expected}. Correct one of them."
    raise WorkflowDefinitionError(msg)
