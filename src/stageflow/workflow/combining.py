"""The declared ``combine`` of a stage, as the engine calls it."""

from collections.abc import Callable
from typing import Any

from stageflow.contracts.base import Contract
from stageflow.contracts.partial import Combine
from stageflow.contracts.preview import preview
from stageflow.errors import ContractViolationError
from stageflow.workflow.annotations import place_of
from stageflow.workflow.stage import Stage


def combine_of(controller: object, stage: Stage[Any, Any]) -> Combine | None:
    """Return the method that combines a stage's results, its answers checked; ``None`` where the stage declares none.

    Args:
        controller: The instance on which it is called, so that a subclass can override it.
        stage: A stage of the controller.
    """
    if stage.combiner is None:
        return None
    method: Callable[[Any, Any], Any] = getattr(controller, stage.combiner.__name__)
    model = stage.task.result_model

    def combine(left: Contract, right: Contract) -> Contract:
        combined: Contract = method(left, right)
        if type(combined) is not model:
            raise _violation(method, model, combined)
        return combined

    return combine


def _violation(method: Callable[..., Any], model: type[Contract] | None, combined: object) -> ContractViolationError:
    expected = "None" if model is None else model.__name__
    actual = type(combined).__name__
    return ContractViolationError(
        f"{place_of(method)}: return value must be {expected}, got {actual}: {preview(combined)}. "
        f"Return the two results combined, as exactly this model.",
        function=method.__qualname__,
        parameter=None,
        expected=expected,
        actual=actual,
        path="return value",
        preview=preview(combined),
    )
