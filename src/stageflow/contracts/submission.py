"""A submission: how a job is asked for, and what the answer is."""

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.job import MOST_TIMEOUT_SECONDS, JobRecord
from stageflow.contracts.preview import preview
from stageflow.errors import InvalidValueError


class SubmitOptions(LateContract):
    """What goes with the parameters of a job.

    Attributes:
        idempotency_key: Distinguishes requests that are equal otherwise; the same key means the same job.
        new_run: Make a job of its own in any case.
        priority: Higher is claimed first.
        not_before: Nothing of the job starts earlier, by the store's clock.
        max_running: The most of its tasks that run at once; ``None`` for no limit.
        deadline: The job fails if it has not ended by then, by the store's clock; paused time counts.
        timeout_seconds: As ``deadline``, measured from the job's start, which is when a worker first takes work of it.
    """

    idempotency_key: str = Field(default="", max_length=500)
    new_run: bool = False
    priority: int = Field(default=0, ge=-1000, le=1000)
    not_before: UtcDatetime | None = None
    max_running: int | None = Field(default=None, ge=1, le=1000)
    deadline: UtcDatetime | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, le=MOST_TIMEOUT_SECONDS)

    @field_validator("idempotency_key")
    @classmethod
    def _key_is_visible(cls, value: str) -> str:
        if value and (not value.strip() or "\0" in value):
            msg = "a key needs visible text without NUL; leave it out or name the request"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _one_reason_to_differ(self) -> Self:
        if self.new_run and self.idempotency_key:
            msg = "new_run makes a key of its own; pass either new_run=True or an idempotency_key"
            raise ValueError(msg)
        if self.deadline is not None and self.not_before is not None and self.deadline <= self.not_before:
            msg = "the deadline is not after not_before, so the job could never start in time; move one of them"
            raise ValueError(msg)
        return self

    @classmethod
    def checked(cls, verb: str = "submit", /, **fields: Any) -> Self:
        """Return the options that a caller's arguments make.

        Raises:
            InvalidValueError: An argument has the wrong type or is out of range; the message names it.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = "".join(f"{part}: " for part in first["loc"])
            got = f", got {preview(first['input'])}" if first["loc"] else ""
            msg = f"{verb}: {name}{first['msg']}{got}; nothing was {verb}ted, correct the argument"
            raise InvalidValueError(msg) from error


class SubmitOutcome(StrEnum):
    """What a submission met: nothing, the same job at work, or the same job ended."""

    CREATED = "created"
    RUNNING = "running"
    ENDED = "ended"


class Submission(LateContract):
    """The answer to ``submit``."""

    job: JobRecord
    outcome: SubmitOutcome
