"""What happened to a job."""

from enum import StrEnum
from typing import Final

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.ids import JobId
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.status import TaskStatus

DETAIL_LENGTH: Final = 500
"""The most characters of an error that an event repeats: its last ones, since a traceback names the error at its end."""

MOST_EVENTS: Final = 1000
"""The most events of a page."""

BEFORE_ALL: Final = -2
"""An id before that of every event."""


class EventKind(StrEnum):
    """What happened; there is none for a task that succeeds or is claimed."""

    JOB_SUBMITTED = "job_submitted"
    JOB_PAUSED = "job_paused"
    JOB_RESUMED = "job_resumed"
    JOB_RESUBMITTED = "job_resubmitted"
    JOB_ENDED = "job_ended"
    STAGE_OPENED = "stage_opened"
    STAGE_PLANNED = "stage_planned"
    STAGE_HALTED = "stage_halted"
    STAGE_CLOSED = "stage_closed"
    STAGE_REPAIRED = "stage_repaired"
    TASKS_FAILED = "tasks_failed"
    TASKS_RETRIED = "tasks_retried"
    TASKS_RECOVERED = "tasks_recovered"
    TASKS_SKIPPED = "tasks_skipped"
    TASKS_CANCELLED = "tasks_cancelled"
    TASK_QUARANTINED = "task_quarantined"
    TASK_CLOSED = "task_closed"
    PLANNING_RETRIED = "planning_retried"
    PLANNING_RECOVERED = "planning_recovered"
    ADVANCING_RETRIED = "advancing_retried"
    ADVANCING_RECOVERED = "advancing_recovered"
    STALE_REPORT = "stale_report"


CLOSED_TASKS: Final = {
    TaskStatus.SKIPPED: EventKind.TASKS_SKIPPED,
    TaskStatus.CANCELLED: EventKind.TASKS_CANCELLED,
}
"""The kind of what closes unfinished tasks with a status."""
CONTROL_RETRIED: Final = {
    WorkKind.PLAN: EventKind.PLANNING_RETRIED,
    WorkKind.ADVANCE: EventKind.ADVANCING_RETRIED,
}
"""The kind of a failed attempt to plan or advance a stage."""
CONTROL_RECOVERED: Final = {
    WorkKind.PLAN: EventKind.PLANNING_RECOVERED,
    WorkKind.ADVANCE: EventKind.ADVANCING_RECOVERED,
}
"""The kind of a planning or advancing that a dead worker left."""


class JobEvent(LateContract):
    """One thing that happened to a job; written with the change itself, and never changed.

    Attributes:
        event_id: Ascends in the order of the history; -1 and 0 are the submission and the opening of its first stage.
        run: The run of the job in which it happened.
        stage_number: The stage; of a resubmission the first one that runs again; ``None`` where the whole job is meant.
        generation: How often the stage's results were begun: 2 after its first repair.
        status: What the job, stage or task became.
        first: Index of the first task concerned.
        last: One past the index of the last.
        tasks: How many are concerned; not all from ``first`` on need be among them.
        attempt: The attempt that failed, was lost, or was taken from its holder.
        worker_id: Who planned, reported, or held the lease.
        detail: The first error, or another reason: its last 500 characters, as a traceback names the error at its end.
        at: By the store's clock.
    """

    event_id: int = Field(ge=-1)
    job_id: JobId
    run: int = Field(ge=1)
    stage_number: int | None = None
    generation: int | None = None
    kind: EventKind
    status: str | None = None
    first: int | None = None
    last: int | None = None
    tasks: int | None = None
    attempt: int | None = None
    worker_id: str | None = None
    detail: str | None = None
    at: UtcDatetime
