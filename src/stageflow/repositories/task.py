"""Tasks: stored and asked for."""

from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.ids import control_work_type, parse_task_id, validate_job_id
from stageflow.contracts.job import JobRecord, TaskUpdate
from stageflow.contracts.lease import ClaimOutcome, Lease, NamedClaim, RangeReturn, WorkKind
from stageflow.contracts.plan import PlanChunk, PlanOutcome
from stageflow.contracts.status import StatusValidator, TaskStatus
from stageflow.contracts.task import TaskDefinition, TaskRecord
from stageflow.errors import InvalidTransitionError, InvalidValueError, JobNotFoundError, StoreStateError, TaskNotFoundError
from stageflow.ports import Store
from stageflow.repositories.payloads import PayloadShelf

_no_update = TaskUpdate()
_page_limit = 5000
_planning_seconds = 30.0
_planned_by_hand = "by hand"
_by_lease = {
    TaskStatus.PROCESSING: "claim_work",
    TaskStatus.COMPLETED: "complete_task_and_check_stage",
}


class TaskRepository:
    """Stores tasks and asks for them; a status changes only through its guarded function."""

    def __init__(self, store: Store, payloads: PayloadShelf) -> None:
        self._store = store
        self._payloads = payloads

    @enforce_contract
    def get_task(self, task_id: str) -> TaskRecord | None:
        """Return a task of its job's present run, or ``None`` where it does not exist.

        Raises:
            InvalidValueError: The id is malformed.
        """
        job_id, stage_number, task_index = parse_task_id(task_id)
        found = self._store.get_jobs([job_id])
        if not found:
            return None
        tasks = self._store.list_tasks(job_id, found[0].run, stage_number, first_index=task_index, limit=1)
        return self._payloads.load_task(tasks[0]) if tasks and tasks[0].task_index == task_index else None

    @enforce_contract
    def require_task(self, task_id: str) -> TaskRecord:
        """Return a task of its job's present run.

        Raises:
            TaskNotFoundError: It does not exist.
        """
        task = self.get_task(task_id)
        if task is None:
            msg = f"there is no task {task_id}; list a job's tasks with `stageflow tasks JOB`"
            raise TaskNotFoundError(msg)
        return task

    @enforce_contract
    def list_tasks_for_job(
        self,
        job_id: str,
        stage_number: int,
        first_index: int = 0,
        limit: int = 1000,
        failed_only: bool = False,  # noqa: FBT001, FBT002  contracts check positional parameters too
    ) -> list[TaskRecord]:
        """Return tasks of a stage of the job's present run in index order, from an index on.

        What of them is too large for a row stands there as a preview.

        Raises:
            JobNotFoundError: The job does not exist.
        """
        if not 1 <= limit <= _page_limit:
            msg = f"limit must be 1 to {_page_limit}, got {limit}; ask for the next page with first_index="
            raise InvalidValueError(msg)
        job = self._require_job(job_id)
        read = self._store.list_failed_tasks if failed_only else self._store.list_tasks
        return read(job_id, job.run, stage_number, first_index=first_index, limit=limit)

    @enforce_contract
    def create_task_from_definition(self, task_def: TaskDefinition) -> TaskRecord:  # type: ignore[type-arg]  # any parameters
        """Add one task to a stage that is not planned yet: a plan of one, which stays open for more.

        Its ``task_index`` must be the next of the stage. The stage's own planner, if a worker runs one, would then find
        tasks that it did not plan and fail the job: this is for hosts that plan by hand.

        Raises:
            JobNotFoundError: The job does not exist.
            StoreStateError: The stage is not open for planning, or the index is not its next.
        """
        job = self._require_job(task_def.job_id)
        what = f"the parameters of a task {task_def.task_type!r}"
        parameters = self._payloads.store(job.job_id, task_def.parameters.to_json(), what)
        lease = self._claim_plan(job, task_def.stage_number)
        try:
            chunk = PlanChunk(
                range_id=lease.range_id,
                token=lease.token,
                stage_id=lease.stage_id,
                first_index=task_def.task_index,
                parameters=[parameters],
                keys=[] if task_def.key is None else [task_def.key],
                digest=_planned_by_hand,
                final=False,
                range_count=1,
            )
            outcome = self._store.add_tasks(chunk)
        finally:
            self._store.return_ranges([RangeReturn(range_id=lease.range_id, token=lease.token, first=0)])
        if outcome is not PlanOutcome.RECORDED:
            msg = f"task {task_def.task_id} was not added: {outcome}; the job is paused or has ended"
            raise StoreStateError(msg)
        return self.require_task(task_def.task_id)

    @enforce_contract
    def update_task_status_with_validation(
        self,
        task_id: str,
        new_status: TaskStatus,
        update: TaskUpdate = _no_update,
    ) -> TaskRecord:
        """Change a task's status by an operator's hand; the same status again changes nothing.

        ``QUEUED`` takes a running task from its worker for another attempt; ``FAILED``, ``SKIPPED`` and ``CANCELLED`` end
        it, through the same barrier as any completion.

        Raises:
            TaskNotFoundError: The task does not exist.
            InvalidTransitionError: The table forbids it, or only the holder of a lease may do it; nothing changed.
        """
        task = self.require_task(task_id)
        if task.status is new_status:
            return task
        StatusValidator.validate(task.status, new_status)
        if new_status in _by_lease:
            msg = f"only the holder of a lease makes a task {new_status}; use {_by_lease[new_status]}"
            raise InvalidTransitionError(msg)
        error = update.error_details or f"{new_status} by an operator"
        self._store.close_task(task.parent_job_id, task.stage, task.task_index, new_status, error)
        return self.require_task(task_id)

    def _require_job(self, job_id: str) -> JobRecord:
        found = self._store.get_jobs([validate_job_id(job_id)])
        if not found:
            msg = f"there is no job {job_id}; list the jobs there are with `stageflow jobs`"
            raise JobNotFoundError(msg)
        return found[0]

    def _claim_plan(self, job: JobRecord, stage_number: int) -> Lease:
        answer = self._store.claim_named(
            NamedClaim(
                worker_id="operator",
                job_id=job.job_id,
                run=job.run,
                stage_number=stage_number,
                kinds=[WorkKind.PLAN],
                work_types=[control_work_type(job.job_type, job.workflow_version)],
                lease_seconds=_planning_seconds,
            )
        )
        if answer.outcome is not ClaimOutcome.WORK:
            msg = f"stage {stage_number} of job {job.job_id} is not open for planning ({answer.outcome}); it is planned already"
            raise StoreStateError(msg)
        return answer.leases[0]
