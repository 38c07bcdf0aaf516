"""What an explanation is made of: the rows of one job, read together."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from stageflow.contracts.job import JobRecord
from stageflow.contracts.job_state import JobState
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.limits import TaskTypeState, type_scope
from stageflow.contracts.open_work import OpenGroup, OpenRange, OpenState
from stageflow.contracts.retry import RetryPolicy
from stageflow.contracts.stage import FailurePolicy, StageDefinition, StageRecord
from stageflow.contracts.status import TERMINAL_STAGE_STATUSES, JobStatus
from stageflow.contracts.worker import WorkerRecord
from stageflow.errors import UnknownWorkflowError
from stageflow.repositories import Repositories
from stageflow.workflow.registry import JobRegistry

LIVE_SECONDS: Final = 60.0
"""A worker that was seen within so many seconds is alive; it is seen with every heartbeat."""

_HEADS: Final = 20
_REMEMBERED_SECONDS: Final = 604_800.0
_LOOKS: Final = 3


@dataclass(frozen=True)
class Case:
    """The rows of one job, read together, and the workers there are.

    Attributes:
        work: The open work of each stage, by its key.
        workers: Those seen within a week, by id.
        settled: Nothing moved between the two looks, so that counters and ranges can be compared.
        uses_queue: An external queue tells hosts and workers of ready work.
        task_types: Those with limits, pauses or open work, by scope; read where tasks are ready.
        job_limit: How many tasks of the job may run at once.
        queue_error: Why that queue cannot be reached; ``None`` where it can, there is none, or nothing is to be told.
    """

    state: JobState
    work: dict[int, list[OpenGroup]]
    workers: dict[str, WorkerRecord]
    stages: dict[int, StageDefinition]
    settled: bool
    uses_queue: bool = False
    queue_error: str | None = None
    task_types: dict[str, TaskTypeState] = field(default_factory=dict)
    job_limit: int | None = None

    @property
    def job(self) -> JobRecord:
        """The job."""
        return self.state.job

    @property
    def now(self) -> datetime:
        """The store's time at which the rows were read."""
        return self.state.now

    @property
    def is_paused(self) -> bool:
        """Whether the job is paused: what is ready is held as soon as a worker meets it."""
        return self.job.status is JobStatus.PAUSED

    @property
    def has_ready_work(self) -> bool:
        """Whether work could be claimed, so that an external queue should have told of it."""
        return any(group.state is OpenState.READY for groups in self.work.values() for group in groups)

    @property
    def open_stages(self) -> list[StageRecord]:
        """The stages that are not closed, or of which work is left, by number."""
        return [
            stage for stage in self.state.stages if stage.status not in TERMINAL_STAGE_STATUSES or stage.stage_id in self.work
        ]

    def groups_of(self, stage: StageRecord) -> list[OpenGroup]:
        """Return the open work of a stage."""
        return self.work[stage.stage_id] if stage.stage_id in self.work else []

    @cached_property
    def living(self) -> list[WorkerRecord]:
        """The workers that are alive, as far as can be told: seen lately, and none of their leases here is overdue."""
        oldest = self.now - timedelta(seconds=LIVE_SECONDS)
        heads = [head for groups in self.work.values() for group in groups for head in group.heads]
        silent = {head.worker_id for head in heads if head.state is OpenState.LEASED and self.is_silent(head)}
        return [worker for worker in self.workers.values() if worker.seen_at >= oldest and worker.worker_id not in silent]

    def live_workers(self, work_type: str) -> list[WorkerRecord]:
        """Return the workers that are alive and know a kind of work."""
        return [worker for worker in self.living if work_type in worker.work_types]

    def heard_of(self, leased: OpenRange) -> datetime:
        """Return when the holder of a lease gave its last proof of life."""
        if leased.worker_id not in self.workers:
            return leased.touched_at
        return max(leased.touched_at, self.workers[leased.worker_id].seen_at)

    def is_silent(self, leased: OpenRange) -> bool:
        """Return whether a lease has ended, or its holder missed a heartbeat: a live one sends at least two in a lease."""
        expires = lease_end(leased)
        return self.now >= expires or self.now - self.heard_of(leased) > (expires - leased.touched_at) / 2

    def retry_of(self, stage: StageRecord) -> RetryPolicy | None:
        """Return a stage's retry policy, where its workflow is registered here."""
        return self.stages[stage.stage_number].retry if stage.stage_number in self.stages else None

    def policy_of(self, stage: StageRecord) -> FailurePolicy | None:
        """Return a stage's failure policy, where its workflow is registered here."""
        return self.stages[stage.stage_number].policy if stage.stage_number in self.stages else None


def lease_end(leased: OpenRange) -> datetime:
    """Return when a lease ends; one that does not say ended when it began."""
    return leased.lease_expires_at or leased.touched_at


def read_case(
    repositories: Repositories,
    registry: JobRegistry,
    job_id: str,
) -> Case:
    """Return the rows of a job.

    Read again where they moved meanwhile: job and ranges are two looks. A job that is well may never stand still.

    Raises:
        JobNotFoundError: There is no such job.
    """
    task_types: dict[str, TaskTypeState] = {}
    for _ in range(_LOOKS):
        state = repositories.jobs.require_job_state(job_id)
        work: dict[int, list[OpenGroup]] = {}
        for group in repositories.store.list_open_work([stage.stage_id for stage in state.stages], heads=_HEADS):
            work.setdefault(group.stage_id, []).append(group)
            if group.kind is WorkKind.TASK and group.state is OpenState.READY and not task_types:
                task_types = _task_types(repositories)
        case = Case(
            state=state,
            work=work,
            workers={worker.worker_id: worker for worker in repositories.leases.list_workers(_REMEMBERED_SECONDS)},
            stages=_definitions(registry, state.job),
            settled=repositories.jobs.require_job_state(job_id).stages == state.stages,
            task_types=task_types,
            job_limit=repositories.limits.get_job_limit(job_id) if task_types else None,
        )
        if case.settled:
            break
    return case


def _task_types(repositories: Repositories) -> dict[str, TaskTypeState]:
    return {type_scope(state.job_type, state.task_type): state for state in repositories.limits.list_task_types()}


def _definitions(registry: JobRegistry, job: JobRecord) -> dict[int, StageDefinition]:
    try:
        workflow = registry.get(job.job_type, job.workflow_version)
    except UnknownWorkflowError:
        return {}  # it may be known to the workers only, and explanations go without its policies
    return {stage.number: stage for stage in workflow.definition.stages}
