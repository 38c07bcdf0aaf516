"""Closing a stage: what the store is asked, and what it answers."""

from enum import StrEnum

from pydantic import Field

from stageflow.contracts.base import LateContract
from stageflow.contracts.lease import Lease
from stageflow.contracts.stage import NewStage


class StageAdvance(LateContract):
    """A finished stage is to be closed, under the lease on its advancement, and what follows it opened.

    Attributes:
        stage_result: The stage's result as stored text.
        next_stages: What is opened; empty for the last stage of a job's parallel group.
    """

    range_id: int
    token: int
    stage_id: int
    stage_status: str
    stage_result: str
    next_stages: list[NewStage]


class AdvanceOutcome(StrEnum):
    """What the store did with a stage's result.

    ``SIBLINGS_OPEN``: stored, other stages of the parallel group still run. ``GROUP_CLOSED``: stored, and the group's
    last; the caller keeps the lease and ends the job. ``GROUP_FAILED``: as that, but a sibling's verdict was failed.
    ``PAUSED``: nothing written, the work waits for resume. ``JOB_ENDED``: nothing written, the job is terminal.
    ``STALE``: nothing written, another worker holds the lease. ``ALREADY_ADVANCED``: nothing written, it was done before.
    """

    ADVANCED = "advanced"
    SIBLINGS_OPEN = "siblings_open"
    GROUP_CLOSED = "group_closed"
    GROUP_FAILED = "group_failed"
    PAUSED = "paused"
    JOB_ENDED = "job_ended"
    STALE = "stale"
    ALREADY_ADVANCED = "already_advanced"


class StageAdvancementResult(LateContract):
    """The answer to one :class:`StageAdvance`.

    Attributes:
        job_updated: Whether the job's current stage moved.
        new_stage: The job's current stage afterwards.
        is_final_stage: Whether that is the job's last.
        plan: Lease on planning the first of the opened stages, already handed to the caller.
    """

    outcome: AdvanceOutcome
    job_updated: bool
    new_stage: int = Field(ge=1)
    is_final_stage: bool
    plan: Lease | None = None
