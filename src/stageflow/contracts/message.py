"""What travels over an external queue: identities, never payloads."""

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from stageflow.contracts.base import LateContract, TypeName
from stageflow.contracts.ids import JobId
from stageflow.contracts.json_text import MESSAGE_BYTES, require_single_keys, require_size
from stageflow.errors import InvalidValueError, PoisonMessageError

WIRE_VERSION: Literal[1] = 1

_LARGEST: Final = 2**31 - 1
"""Runs, stages and task indices are 32-bit integers in every store; a larger one names nothing that there can be."""


def _whole(value: object) -> object:
    """Refuse what is equal to 1 without being it: ``true`` and ``1.0``."""
    if type(value) is not int:
        msg = f"the wire version must be the whole number {WIRE_VERSION}"
        raise ValueError(msg)
    return value


class _QueueMessage(LateContract):
    """A hint that work is ready; the claim in the database decides."""

    wire_version: Annotated[Literal[1], BeforeValidator(_whole)] = WIRE_VERSION
    job_id: JobId
    job_type: TypeName
    run: int = Field(default=1, ge=1, le=_LARGEST)
    stage_number: int = Field(ge=1, le=_LARGEST)

    def to_wire(self) -> str:
        """Return the message as ASCII JSON text."""
        return self.to_json()

    @classmethod
    def from_wire(cls, text: str | bytes) -> Self:
        """Validate a received message.

        Raises:
            PoisonMessageError: It is not JSON, of another wire version, or not this message.
        """
        require_readable_message(text)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise poison_of(error, cls.__name__) from error


class JobQueueMessage(_QueueMessage):
    """A stage of a job is to be planned or advanced."""

    kind: Literal["job"] = "job"


class TaskQueueMessage(_QueueMessage):
    """Tasks ``[first, last)`` of a stage are ready to run."""

    kind: Literal["task"] = "task"
    task_type: TypeName
    generation: int = Field(default=1, ge=1, le=_LARGEST)
    first: int = Field(ge=0, le=_LARGEST)
    last: int = Field(ge=1, le=_LARGEST)

    @model_validator(mode="after")
    def _names_at_least_one_task(self) -> Self:
        if self.last <= self.first:
            msg = f"the range [{self.first}, {self.last}) holds no task; last must be greater than first"
            raise ValueError(msg)
        return self


def require_readable_message(text: str | bytes) -> None:
    """Do nothing if a received message may be parsed.

    Raises:
        PoisonMessageError: It is larger than a queue carries, names a key twice, or is nested too deeply.
    """
    try:
        require_size(text, MESSAGE_BYTES, "the message")
        require_single_keys(text, "the fields of the message")
    except InvalidValueError as error:
        raise PoisonMessageError(str(error)) from error


def poison_of(error: ValidationError, kind: str = "message of stageflow") -> PoisonMessageError:
    """Return the error of a message that is not what it should be; it names the first bad field and repeats nothing of it."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return PoisonMessageError(f"not a {kind} of wire version {WIRE_VERSION}: {place + ': ' if place else ''}{first['msg']}")
