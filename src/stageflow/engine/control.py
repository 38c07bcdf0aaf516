"""What people do to a job that is under way: pause it, and let it go on."""

from stageflow.contracts.job import JobRecord
from stageflow.contracts.status import JobStatus, StageStatus, StatusValidator
from stageflow.errors import InvalidTransitionError
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry


def pause_job(job_id: str, repositories: Repositories, telemetry: Telemetry) -> JobRecord:
    """Pause a job: nothing of it starts any more, and what runs may end and is recorded; a paused job stays as it is.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidTransitionError: It has ended; nothing changed.
    """
    job = repositories.jobs.update_job_status_with_validation(job_id, JobStatus.PAUSED)
    telemetry.emit("job_paused", job_id)
    return job


def resume_job(job_id: str, repositories: Repositories, telemetry: Telemetry) -> JobRecord:
    """Let a paused job go on where it stood; one that had not started waits in the queue again.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidTransitionError: It is not paused; nothing changed.
    """
    state = repositories.jobs.require_job_state(job_id)
    if state.job.status is not JobStatus.PAUSED:
        status = state.job.status
        allowed = StatusValidator.describe_following(status)
        msg = f"job {job_id} is {status} and cannot be resumed, which only a paused job can; allowed from {status}: {allowed}"
        raise InvalidTransitionError(msg)
    current = [stage for stage in state.stages if stage.stage_number >= state.job.stage]
    began = any(stage.status is not StageStatus.PENDING for stage in current)
    job = repositories.jobs.update_job_status_with_validation(job_id, JobStatus.PROCESSING if began else JobStatus.QUEUED)
    telemetry.emit("job_resumed", job_id)
    return job
