"""Chosen tasks of a finished stage that are run again: what the store is asked for, and what a caller is answered."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Self

from pydantic import Field, model_validator

from stageflow.contracts.base import LateContract
from stageflow.contracts.ids import JobId
from stageflow.contracts.stage import NewStage, StageRecord
from stageflow.contracts.status import TERMINAL_JOB_STATUSES, JobStatus, StageStatus, StatusValidator
from stageflow.errors import InvalidTransitionError

REPAIRABLE = frozenset({StageStatus.COMPLETED, StageStatus.COMPLETED_WITH_ERRORS, StageStatus.FAILED})
"""A stage with one of these and a stored result was aggregated: each of its tasks has ended."""
_DONE: Final = frozenset({StageStatus.COMPLETED, StageStatus.COMPLETED_WITH_ERRORS, StageStatus.SKIPPED})


def require_repairable(job_id: str, status: JobStatus) -> None:
    """Do nothing if stages of a job with this status can be repaired.

    Raises:
        InvalidTransitionError: They cannot; the message names its status and what is allowed in it.
    """
    if status not in TERMINAL_JOB_STATUSES:
        msg = (
            f"job {job_id} is {status} and cannot be repaired, which only a job that has ended can; allowed from {status}: "
            f"{StatusValidator.describe_following(status)}"
        )
        raise InvalidTransitionError(msg)


def list_repairable(stages: Sequence[StageRecord]) -> list[int]:
    """Return the stages of a run that ended which can be repaired.

    They have tasks and a result, and whatever came before them or ran beside them completed or was skipped.
    """
    return [
        stage.stage_number
        for stage in stages
        if stage.status in REPAIRABLE
        and stage.stored_result is not None
        and stage.task_count > 0
        and all(
            other.status in _DONE and other.stored_result is not None
            for other in stages
            if other.stage_number <= stage.group_last and other.stage_number != stage.stage_number
        )
    ]


class StageRepair(LateContract):
    """A repair to be begun.

    Attributes:
        former_run: The run that ended; a job that is in another one by now is left alone.
        stage: The stage as it is declared now, in the parallel group in which the former run had opened it.
        tasks: The indexes that run again, ascending, none twice.
    """

    job_id: JobId
    former_run: int = Field(ge=1)
    stage: NewStage
    tasks: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        if self.tasks[0] < 0 or any(one >= next_one for one, next_one in pairwise(self.tasks)):
            msg = "the tasks of a repair are indexes from 0 on, ascending, none of them twice; sort them"
            raise ValueError(msg)
        if self.stage.skipped:
            msg = f"stage {self.stage.stage_number} is to be repaired, and cannot be skipped"
            raise ValueError(msg)
        return self


class Repair(LateContract):
    """The answer to ``repair``: what happened, or what would happen.

    Attributes:
        former_status: How the former run ended.
        former_error: Why; the job's own ``error_details`` are cleared by the new run.
        generation: That of the results which the chosen tasks get.
        tasks: The indexes that run again, ascending.
        kept_tasks: How many tasks of the stage keep their results.
        kept_stages: The stages before and beside it, whose results the new run takes over.
        later_stages: The stages that the former run had opened after it, which are planned and run again.
        dry_run: Nothing was changed.
    """

    job_id: JobId
    former_run: int = Field(ge=1)
    former_status: JobStatus
    former_error: str | None
    run: int = Field(ge=2)
    stage_number: int = Field(ge=1)
    generation: int = Field(ge=2)
    tasks: list[int]
    kept_tasks: int = Field(ge=0)
    kept_stages: list[int]
    later_stages: list[int]
    dry_run: bool
