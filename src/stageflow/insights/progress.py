"""How far a job is."""

from stageflow.contracts.base import LateContract
from stageflow.contracts.job import JobRecord
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.repositories import Repositories


class StageProgress(LateContract):
    """How far a stage is.

    Attributes:
        planned: Whether all its tasks are known.
        remaining: Tasks that have not ended, those that run included.
        running: Tasks that a worker has leased, which it runs one after another; their status is processing.
    """

    stage_number: int
    name: str
    status: StageStatus
    planned: bool
    task_count: int
    completed: int
    failed: int
    skipped: int
    cancelled: int
    remaining: int
    running: int


class JobProgress(LateContract):
    """How far a job is."""

    job_id: str
    job_type: str
    status: JobStatus
    stage: int
    total_stages: int
    stages: list[StageProgress]

    @property
    def total_tasks(self) -> int:
        """Tasks that are known so far."""
        return sum(stage.task_count for stage in self.stages)


def job_progress(repositories: Repositories, job: JobRecord) -> JobProgress:
    """Return how far a job is, from the counters of its stages and the leases on them; nothing is counted over tasks."""
    stages = repositories.stages.list_stages(job.job_id, job.run)
    open_ids = [stage.stage_id for stage in stages if stage.remaining]
    running = dict(zip(open_ids, repositories.stages.count_running_tasks(open_ids), strict=True))
    return JobProgress(
        job_id=job.job_id,
        job_type=job.job_type,
        status=job.status,
        stage=job.stage,
        total_stages=job.total_stages,
        stages=[
            StageProgress(
                stage_number=stage.stage_number,
                name=stage.name,
                status=stage.status,
                planned=stage.status not in {StageStatus.PENDING, StageStatus.PLANNING},
                task_count=stage.task_count,
                completed=stage.successful_tasks,
                failed=stage.failed_tasks,
                skipped=stage.skipped_tasks,
                cancelled=stage.cancelled_tasks,
                remaining=stage.remaining,
                # Read after the counters: what was planned and leased between the two looks is not known to them.
                running=min(running[stage.stage_id], stage.remaining) if stage.remaining else 0,
            )
            for stage in stages
        ],
    )
