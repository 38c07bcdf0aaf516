"""A schedule: what creates jobs by a cron expression."""

import json
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from stageflow.contracts.base import JsonObject, LateContract, TypeName, UtcDatetime
from stageflow.contracts.damage import StandIn, nearest_time, nothing, seen_object, seen_row
from stageflow.contracts.ids import JobId
from stageflow.contracts.job import MOST_TIMEOUT_SECONDS, NewJob
from stageflow.contracts.preview import preview
from stageflow.errors import InvalidValueError

MOST_CAUGHT_UP: Final = 1000
"""The most fire times that are made up for after a downtime; of more, the newest."""

ScheduleName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]


class CatchUp(StrEnum):
    """What becomes of fire times that passed while nothing was there to fire.

    ``SKIP``: they are left out. ``ONE``: one job stands for them all. ``ALL``: each has its job, up to 1,000.
    """

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class ScheduleState(StrEnum):
    """Whether a schedule fires: it does, it is paused, or it failed and waits for somebody to correct it."""

    ACTIVE = "active"
    PAUSED = "paused"
    FAILED = "failed"


class NewSchedule(LateContract):
    """A schedule to be stored, in place of one with its name.

    Attributes:
        name: Letters, digits and ``. _ : / -``; the same name means the same schedule.
        parameters: The validated parameters of its jobs as JSON text.
        cron: Five fields: minute, hour, day of month, month, day of week.
        time_zone: In which the fields are meant, such as ``Europe/Vienna``.
        timeout_seconds: Of each job, from its start on.
        next_fire_at: When it fires first.
    """

    name: ScheduleName
    job_type: TypeName
    parameters: str
    cron: str = Field(min_length=1, max_length=500)
    time_zone: str = Field(min_length=1, max_length=100)
    catch_up: Annotated[CatchUp, Field(strict=False)]
    priority: int = Field(default=0, ge=-1000, le=1000)
    timeout_seconds: float | None = Field(default=None, gt=0, le=MOST_TIMEOUT_SECONDS)
    next_fire_at: UtcDatetime

    @classmethod
    def checked(cls, **fields: Any) -> Self:
        """Return the schedule that a caller's arguments make.

        Raises:
            InvalidValueError: An argument has the wrong type or is out of range; the message names it.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = "".join(f"{part}: " for part in first["loc"])
            msg = f"schedule: {name}{first['msg']}, got {preview(first['input'])}; nothing was scheduled, correct the argument"
            raise InvalidValueError(msg) from error


class ScheduleRecord(LateContract):
    """A schedule as the store knows it.

    Attributes:
        next_fire_at: ``None`` where it failed.
        last_fire_at: The newest fire time that a job was made for.
        last_job_id: That job.
        error_details: Why it failed.
        damage: What of its row cannot be read, and is a stand-in here; ``None`` where all can. It cannot fire.
    """

    name: str
    job_type: str
    parameters: JsonObject
    cron: str
    time_zone: str
    catch_up: Annotated[CatchUp, Field(strict=False)]
    priority: int
    timeout_seconds: float | None
    state: Annotated[ScheduleState, Field(strict=False)]
    next_fire_at: UtcDatetime | None
    last_fire_at: UtcDatetime | None
    last_job_id: JobId | None
    error_details: str | None
    created_at: UtcDatetime
    updated_at: UtcDatetime
    damage: str | None = None

    @classmethod
    def from_columns(cls, parameters: str, **columns: Any) -> Self:
        """Return what can be read of a row; what cannot is named in ``damage``, so that one row hides no other."""
        damages: list[str] = []
        seen = {**columns, "parameters": seen_object(parameters, "parameters", damages)}
        return seen_row(cls, seen, _STAND_INS, damages)

    @property
    def parameters_text(self) -> str:
        """The parameters of its jobs as JSON text."""
        return json.dumps(self.parameters)


_STAND_INS: Final[dict[str, StandIn]] = {
    "catch_up": lambda _: CatchUp.SKIP,
    "timeout_seconds": nothing,
    "state": lambda _: ScheduleState.FAILED,
    "next_fire_at": nothing,
    "last_fire_at": nothing,
    "last_job_id": nothing,
    "created_at": nearest_time,
    "updated_at": nearest_time,
}
"""For each column that can hold what its field refuses; the others are of the field's type in both stores."""


class Firing(LateContract):
    """One firing: the schedule moves on from a fire time to the next, and the jobs are there, or nothing happens.

    Attributes:
        expected: The ``next_fire_at`` that the caller saw; who comes second sees another, and does nothing.
        jobs: One for each fire time that is made good; none where all were skipped.
        last_fire_at: The newest of these fire times.
    """

    name: ScheduleName
    expected: UtcDatetime
    next_fire_at: UtcDatetime
    jobs: tuple[NewJob, ...] = Field(default=(), max_length=MOST_CAUGHT_UP)
    last_fire_at: UtcDatetime | None = None

    @model_validator(mode="after")
    def _moves_on(self) -> Self:
        if self.next_fire_at <= self.expected or bool(self.jobs) != (self.last_fire_at is not None):
            msg = f"a firing moves from {self.expected} to a later time, and names the newest fire time of its jobs"
            raise ValueError(msg)
        return self
