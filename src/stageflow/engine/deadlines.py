"""End what is late: jobs whose deadline has passed, and jobs of which a stage's has."""

from typing import Final

from stageflow.contracts.deadline import Overdue, OverdueEnding
from stageflow.contracts.job_state import JobState
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import TERMINAL_STAGE_STATUSES
from stageflow.errors import JobNotFoundError
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry

OVERDUE_BATCH: Final = 100


def end_overdue(repositories: Repositories, telemetry: Telemetry) -> int:
    """Fail jobs that are late by the store's clock, and return how many; safe from any number of processes at once.

    What waits is closed, running handlers are told, their late results are recorded, and nothing advances.
    """
    ended = 0
    for late in repositories.deadlines.list_overdue(OVERDUE_BATCH):
        try:
            state = repositories.jobs.require_job_state(late.job_id)
        except JobNotFoundError:
            continue  # purged meanwhile
        ended += _end(late, state, repositories, telemetry)
    return ended


def end_if_overdue(state: JobState, repositories: Repositories, telemetry: Telemetry) -> bool:
    """Fail a job that was late when it was read, and return whether this call did; nothing of it is to begin any more."""
    late = _lateness(state)
    return late is not None and _end(late, state, repositories, telemetry)


def _lateness(state: JobState) -> Overdue | None:
    job = state.job
    if job.is_terminal:
        return None
    open_stages = [stage for stage in state.stages if stage.status not in TERMINAL_STAGE_STATUSES]
    deadlines = [(job.deadline, None), *((stage.deadline, stage.stage_number) for stage in open_stages)]
    for deadline, stage_number in deadlines:
        if deadline is not None and deadline <= state.now:
            return Overdue(job_id=job.job_id, run=job.run, stage_number=stage_number, deadline=deadline)
    return None


def _end(late: Overdue, state: JobState, repositories: Repositories, telemetry: Telemetry) -> bool:
    error = _error_of(late, state)
    ended = repositories.deadlines.end_overdue(OverdueEnding(job_id=late.job_id, run=late.run, error_details=error))
    if ended:
        telemetry.emit("job_overdue", late.job_id, stage=late.stage_number, error=error)
    return ended


def _error_of(late: Overdue, state: JobState) -> str:
    """Return a sentence that names the deadline and what was unfinished."""
    moment = f"{late.deadline:%Y-%m-%d %H:%M:%S} UTC"
    which = "its deadline" if late.stage_number is None else f"the deadline of stage {late.stage_number}"
    unfinished = [_unfinished(stage) for stage in state.stages if stage.status not in TERMINAL_STAGE_STATUSES]
    opened = max((stage.group_last for stage in state.stages), default=0)
    if opened < state.job.total_stages:
        following = opened + 1
        last = state.job.total_stages
        unfinished.append(f"stage {last} not begun" if following == last else f"stages {following} to {last} not begun")
    return (
        f"the job had not ended by {which}, {moment}; unfinished: {'; '.join(unfinished) or 'the end of the job'}. "
        "Give it more time, or less to do, and resubmit it."
    )


def _unfinished(stage: StageRecord) -> str:
    named = f"stage {stage.stage_number} ({stage.name}) {stage.status}"
    return f"{named}, {stage.remaining} of {stage.task_count} tasks without a result" if stage.task_count else named
