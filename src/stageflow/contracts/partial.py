"""Partial combinations: what workers combined of a stage's results while its tasks finished."""

from collections.abc import Callable
from typing import Any, Self

from pydantic import Field, model_validator

from stageflow.contracts.base import LateContract

Combine = Callable[[Any, Any], Any]
"""``combine(left, right)``: two neighbouring results of a stage as one, of the same model; associative, need not commute."""


class Partial(LateContract):
    """The completed results of tasks ``[first, last)`` of a stage, combined in index order.

    Tasks among them that failed are left out. Of a stage and generation no two partials overlap, and a partial is written with
    the results it stands for: each result is in one partial or in none.

    Attributes:
        successful_tasks: How many results it combines.
        value: The stage's result model as JSON text.
    """

    first: int = Field(ge=0)
    last: int = Field(ge=1)
    successful_tasks: int = Field(ge=1)
    value: str

    @model_validator(mode="after")
    def _is_wide_enough(self) -> Self:
        if self.last - self.first < self.successful_tasks:
            msg = f"tasks [{self.first}, {self.last}) cannot have {self.successful_tasks} results; count those that completed"
            raise ValueError(msg)
        return self


PartialLoader = Callable[[int, int], list[Partial]]
"""``load(first_index, limit)``: the next partials from ``first_index`` on, in index order; fewer only at the end."""
