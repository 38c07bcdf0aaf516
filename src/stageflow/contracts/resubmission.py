"""A job that is run again: what the store is asked for, and what a caller is answered."""

from typing import Self

from pydantic import Field, model_validator

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.ids import JobId
from stageflow.contracts.job import MOST_TIMEOUT_SECONDS
from stageflow.contracts.stage import NewStage
from stageflow.contracts.status import JobStatus, StatusValidator
from stageflow.errors import InvalidTransitionError

RESUBMITTABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})


def require_resubmittable(job_id: str, status: JobStatus) -> None:
    """Do nothing if a job with this status can be run again.

    Raises:
        InvalidTransitionError: It cannot; the message names its status and what is allowed in it.
    """
    if status not in RESUBMITTABLE:
        msg = (
            f"job {job_id} is {status} and cannot be resubmitted, which only a failed or cancelled job can; allowed from "
            f"{status}: {StatusValidator.describe_following(status)}"
        )
        raise InvalidTransitionError(msg)


class NewRun(LateContract):
    """A run to be opened for a job that failed or was cancelled.

    Attributes:
        former_run: The run that ended; a job that is in another one by now is left alone.
        stages: What is opened, alone or as a parallel group; the stages before are taken over from the former run.
        deadline: Of the new run; that of the former one does not count any more.
        timeout_seconds: Of the new run, from its start on; ``None`` keeps that of the former one.
    """

    job_id: JobId
    former_run: int = Field(ge=1)
    stages: tuple[NewStage, ...] = Field(min_length=1)
    deadline: UtcDatetime | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, le=MOST_TIMEOUT_SECONDS)

    @property
    def from_stage(self) -> int:
        """The first stage that runs again."""
        return self.stages[0].stage_number

    @model_validator(mode="after")
    def _is_one_group(self) -> Self:
        first, last = self.stages[0].group_first, self.stages[0].group_last
        numbers = [stage.stage_number for stage in self.stages]
        if numbers != list(range(first, last + 1)) or any(stage.skipped for stage in self.stages):
            msg = f"a run opens one stage or one whole parallel group, none of it skipped, got stages {numbers}"
            raise ValueError(msg)
        return self


class Resubmission(LateContract):
    """The answer to ``resubmit``: what happened, or what would happen.

    Attributes:
        former_status: How the former run ended.
        former_error: Why; the job's own ``error_details`` are cleared by the new run.
        from_stage: The first stage that runs again.
        kept_stages: The stages whose results the new run takes over.
        kept_tasks: How many tasks they have.
        dry_run: Nothing was changed.
    """

    job_id: JobId
    former_run: int = Field(ge=1)
    former_status: JobStatus
    former_error: str | None
    run: int = Field(ge=2)
    from_stage: int = Field(ge=1)
    kept_stages: list[int]
    kept_tasks: int = Field(ge=0)
    dry_run: bool
