"""Deadlines that have passed."""

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.ids import JobId


class Overdue(LateContract):
    """A job that has not ended though its deadline, or that of one of its stages, has passed.

    Attributes:
        run: The run that is late.
        stage_number: The stage whose own time is over; ``None`` where it is the job's.
    """

    job_id: JobId
    run: int = Field(ge=1)
    stage_number: int | None = Field(default=None, ge=1)
    deadline: UtcDatetime


class OverdueEnding(LateContract):
    """How a late job is to fail; a job that is in another run by now, or no longer late, is left alone."""

    job_id: JobId
    run: int = Field(ge=1)
    error_details: str
