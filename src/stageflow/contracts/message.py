"""What travels over an external queue: identities, never payloads."""

from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from stageflow.contracts.base import LateContract, TypeName
from stageflow.contracts.ids import JobId
from stageflow.errors import PoisonMessageError

WIRE_VERSION: Literal[1] = 1


class _QueueMessage(LateContract):
    """A hint that work is ready; the claim in the database decides."""

    wire_version: Literal[1] = WIRE_VERSION
    job_id: JobId
    job_type: TypeName
    run: int = Field(default=1, ge=1)
    stage_number: int = Field(ge=1)

    def to_wire(self) -> str:
        """Return the message as ASCII JSON text."""
        return self.to_json()

    @classmethod
    def from_wire(cls, text: str | bytes) -> Self:
        """Validate a received message.

        Raises:
            PoisonMessageError: It is not JSON, of another wire version, or not this message.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            msg = f"not a {cls.__name__} of wire version {WIRE_VERSION}: {place + ': ' if place else ''}{first['msg']}"
            raise PoisonMessageError(msg) from error


class JobQueueMessage(_QueueMessage):
    """A stage of a job is to be planned or advanced."""

    kind: Literal["job"] = "job"


class TaskQueueMessage(_QueueMessage):
    """Tasks ``[first, last)`` of a stage are ready to run."""

    kind: Literal["task"] = "task"
    task_type: TypeName
    generation: int = Field(default=1, ge=1)
    first: int = Field(ge=0)
    last: int = Field(ge=1)

    @model_validator(mode="after")
    def _names_at_least_one_task(self) -> Self:
        if self.last <= self.first:
            msg = f"the range [{self.first}, {self.last}) holds no task; last must be greater than first"
            raise ValueError(msg)
        return self
