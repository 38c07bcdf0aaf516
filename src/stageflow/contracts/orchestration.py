"""How a finished stage steers what follows."""

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from stageflow.contracts.base import JsonObject, LateContract


class OrchestrationAction(StrEnum):
    """What is to happen after the stage."""

    CREATE_TASKS = "CREATE_TASKS"
    SKIP_STAGE = "SKIP_STAGE"
    PARALLEL_STAGES = "PARALLEL_STAGES"
    COMPLETE_JOB = "COMPLETE_JOB"
    FAIL_JOB = "FAIL_JOB"


class OrchestrationDataContract(LateContract):
    """A stage's decision about what follows it; the engine carries out all five actions.

    Attributes:
        action: ``CREATE_TASKS`` makes one task of the next stage per item; ``SKIP_STAGE`` skips the next stage;
            ``PARALLEL_STAGES`` runs the named stages side by side; ``COMPLETE_JOB`` and ``FAIL_JOB`` end the job now.
        items: Parameters of the next stage's tasks, one object each; only with ``CREATE_TASKS``.
        next_stage_parameters: What every item gets besides its own; a key in both is an error. Also read under the
            name ``stage_2_parameters``.
        item_count: ``len(items)``; checked when given.
        stages: The following stages that run together; only with ``PARALLEL_STAGES``.
        reason: Why the job ends; needed by ``COMPLETE_JOB`` and ``FAIL_JOB``.
    """

    action: OrchestrationAction
    items: list[JsonObject] = Field(default_factory=list)
    next_stage_parameters: JsonObject = Field(default_factory=dict)
    item_count: int = Field(default=0, ge=0)
    stages: list[int] = Field(default_factory=list)
    reason: str | None = Field(default=None, min_length=1)
    metadata: JsonObject = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read_the_older_name_and_count(cls, fields: Any) -> Any:
        match fields:
            case {"stage_2_parameters": parameters, **others} if "next_stage_parameters" not in others:
                fields = {**others, "next_stage_parameters": parameters}
            case _:
                pass
        match fields:
            case {"item_count": _}:
                return fields
            case {"items": list(items)}:
                return {**fields, "item_count": len(items)}
            case _:
                return fields

    @model_validator(mode="after")
    def _fields_fit_the_action(self) -> Self:
        if self.item_count != len(self.items):
            msg = f"item_count is {self.item_count} but there are {len(self.items)} items; leave item_count out or correct it"
            raise ValueError(msg)
        if self.action is not OrchestrationAction.CREATE_TASKS and (self.items or self.next_stage_parameters):
            msg = f"items and next_stage_parameters go with CREATE_TASKS only, not with {self.action}"
            raise ValueError(msg)
        if (self.action is OrchestrationAction.PARALLEL_STAGES) != bool(self.stages):
            msg = f"stages must be given with PARALLEL_STAGES and with nothing else; action is {self.action}"
            raise ValueError(msg)
        if self.stages and self.stages != list(range(self.stages[0], self.stages[0] + len(self.stages))):
            msg = f"parallel stages must be consecutive and ascending, got {self.stages}"
            raise ValueError(msg)
        ends = self.action in {OrchestrationAction.COMPLETE_JOB, OrchestrationAction.FAIL_JOB}
        if ends and (self.reason is None or not self.reason.strip()):
            msg = f"{self.action} needs a reason; say why the job ends"
            raise ValueError(msg)
        return self
