"""Checks, when a controller class is created, that its hooks can be called as the engine calls them."""

import inspect
from collections.abc import Callable
from typing import Any, Final

from stageflow.errors import WorkflowDefinitionError
from stageflow.workflow.annotations import parameter_names, place_of

TASK_HOOKS: Final = frozenset({"create_stage_tasks", "create_tasks_from_orchestration"})
HOOKS: Final = TASK_HOOKS | {
    "validate_job_parameters",
    "aggregate_stage_results",
    "should_advance_stage",
    "aggregate_job_results",
}
FINAL_METHODS: Final = frozenset(
    {
        "process_job_queue_message",
        "process_task_queue_message",
        "process_job_stage",
        "_handle_stage_completion",
        "_validate_and_get_stage_results",
    }
)


def check_overrides(controller_class: type, base: type) -> None:
    """Do nothing if what ``controller_class`` itself overrides of ``base`` keeps its form.

    Raises:
        WorkflowDefinitionError: A hook has other parameters, is async, or is no method; or a final method is overridden.
    """
    for name, value in vars(controller_class).items():
        if name in FINAL_METHODS:
            owner = f"{controller_class.__module__}:{controller_class.__qualname__}"
            msg = f"{owner}.{name} overrides {place_of(getattr(base, name))}, which is final; rename yours"
            raise WorkflowDefinitionError(msg)
        if name in HOOKS:
            _check_hook(controller_class, name, value, getattr(base, name))


def is_overridden(controller_class: type, base: type, hook: str) -> bool:
    """Return whether a controller class, or one between it and ``base``, overrides a hook."""
    return getattr(controller_class, hook) is not getattr(base, hook)


def _check_hook(controller_class: type, name: str, value: object, original: Callable[..., Any]) -> None:
    if not inspect.isfunction(value):
        msg = (
            f"{controller_class.__module__}:{controller_class.__qualname__}.{name} must be a plain method like "
            f"{place_of(original)}, but is a {type(value).__name__}"
        )
        raise WorkflowDefinitionError(msg)
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        msg = f"the hook {place_of(value)} must not be async, as {place_of(original)} is not; only task handlers may be async"
        raise WorkflowDefinitionError(msg)
    if inspect.isgeneratorfunction(value) and name not in TASK_HOOKS:
        msg = f"the hook {place_of(value)} yields, but {place_of(original)} returns one value; use return"
        raise WorkflowDefinitionError(msg)
    written, expected = parameter_names(value), parameter_names(original)
    kinds = {parameter.kind for parameter in inspect.signature(value).parameters.values()}
    if written != expected or kinds != {inspect.Parameter.POSITIONAL_OR_KEYWORD}:
        msg = (
            f"the hook {place_of(value)} takes {inspect.signature(value)}, but {place_of(original)} takes "
            f"({', '.join(expected)}); give yours the same parameters, by the same names"
        )
        raise WorkflowDefinitionError(msg)
