"""Finds the stages that are declared on a class."""

from functools import cache
from typing import Any

from stageflow.errors import WorkflowDefinitionError
from stageflow.workflow.stage import Stage


@cache
def declared_stages(controller_class: type) -> tuple[Stage[Any, Any], ...]:
    """Return the stages of a class and its bases by number; an attribute of a subclass hides one of the same name.

    Raises:
        WorkflowDefinitionError: The numbers are not 1 to n, each once.
    """
    visible: dict[str, object] = {}
    for base in reversed(controller_class.__mro__):
        visible.update(vars(base))
    stages = sorted(
        (value for value in visible.values() if isinstance(value, Stage)),
        key=lambda stage: stage.definition.number,
    )
    for expected, stage in enumerate(stages, start=1):
        number = stage.definition.number
        if number < expected:
            msg = f"{stages[expected - 2]!r} and {stage!r} have the same number; number stages 1, 2, 3, …"
            raise WorkflowDefinitionError(msg)
        if number > expected:
            msg = f"{stage!r} follows no stage {expected}; number the stages of {controller_class.__qualname__} 1, 2, 3, …"
            raise WorkflowDefinitionError(msg)
    return tuple(stages)


def declared_stage(controller_class: type, stage_number: int) -> Stage[Any, Any]:
    """Return the stage with this number.

    Raises:
        WorkflowDefinitionError: The class has none.
    """
    stages = declared_stages(controller_class)
    if not 1 <= stage_number <= len(stages):
        msg = f"{controller_class.__qualname__} has stages 1 to {len(stages)}, not {stage_number}"
        raise WorkflowDefinitionError(msg)
    return stages[stage_number - 1]


def preceding_stage(controller_class: type, stage: Stage[Any, Any]) -> Stage[Any, Any] | None:
    """Return the stage whose results ``context.predecessor()`` reads: the one it follows, else the one numbered before it."""
    if len(stage.after) == 1:
        return stage.after[0]
    number = stage.definition.number
    return declared_stage(controller_class, number - 1) if number > 1 else None
