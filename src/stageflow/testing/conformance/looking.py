"""What a scenario looks at afterwards: the state through the port, the partition, and whether the job can still end."""

from collections import Counter
from dataclasses import dataclass

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.ids import task_work_type
from stageflow.contracts.job import JobEnding, JobRecord, NewJob
from stageflow.contracts.lease import ClaimRequest, Lease, SeenLease, WorkKind
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import TERMINAL_TASK_STATUSES, JobStatus, TaskStatus
from stageflow.contracts.task import TaskRecord
from stageflow.insights.audit import judge_stage
from stageflow.testing.conformance.builders import (
    LEASE_SECONDS,
    TASK_TYPE,
    MovableStore,
    advance,
    chunk,
    complete_ok,
    complete_one,
    control_type,
    finish,
    new_stage,
    recover,
    resume,
)

_PAGE = 400
_OPEN = (TaskStatus.QUEUED, TaskStatus.PROCESSING)
_MANY_LIVES = 1_000_000


def get_job(store: MovableStore, job: NewJob | JobRecord) -> JobRecord:
    """Return a job with its stage results; it must exist."""
    return store.get_jobs([job.job_id])[0]


def get_status(store: MovableStore, job: NewJob | JobRecord) -> JobStatus:
    """Return a job's status."""
    return get_shallow_job(store, job.job_id).status


def get_shallow_job(store: MovableStore, job_id: str) -> JobRecord:
    """Return a job without its stage results, which may be malformed; it must exist."""
    return store.list_jobs(status=None, job_type=None, id_prefix=job_id, limit=1, after=None)[0]


def get_stage(store: MovableStore, job: NewJob | JobRecord, number: int = 1) -> StageRecord:
    """Return one stage of a job's present run; it must have been opened."""
    run = get_shallow_job(store, job.job_id).run
    return next(stage for stage in store.list_stages(job.job_id, run) if stage.stage_number == number)


def get_tasks(store: MovableStore, job: NewJob | JobRecord, number: int = 1, *, run: int | None = None) -> list[TaskRecord]:
    """Return all tasks of a stage of a run, the present one by default, page by page."""
    run = get_shallow_job(store, job.job_id).run if run is None else run
    tasks: list[TaskRecord] = []
    while page := store.list_tasks(
        job.job_id,
        run,
        number,
        first_index=tasks[-1].task_index + 1 if tasks else 0,
        limit=_PAGE,
    ):
        tasks += page
    return tasks


def get_statuses(store: MovableStore, job: NewJob | JobRecord, number: int = 1) -> list[TaskStatus]:
    """Return the statuses of a stage's tasks, in index order."""
    return [task.status for task in get_tasks(store, job, number)]


def get_rows(store: MovableStore, stage: StageRecord) -> list[ResultRow]:
    """Return all result rows of a stage, page by page."""
    rows: list[ResultRow] = []
    while page := store.list_result_rows(
        stage.stage_id,
        first_index=rows[-1].task_index + 1 if rows else 0,
        limit=_PAGE,
        failed_only=False,
    ):
        rows += page
    return rows


def get_leases(store: MovableStore) -> list[SeenLease]:
    """Return the live leases of a store, by range."""
    return sorted(store.list_leases(1000), key=lambda lease: lease.range_id)


@dataclass(frozen=True)
class Snapshot:
    """Everything of a job that the port shows; equal snapshots mean that nothing was written."""

    job: JobRecord
    stages: list[StageRecord]
    tasks: list[list[TaskRecord]]
    leases: list[SeenLease]


def snapshot(store: MovableStore, job: NewJob | JobRecord) -> Snapshot:
    """Take a snapshot of a job."""
    record = get_shallow_job(store, job.job_id)
    stages = store.list_stages(record.job_id, record.run)
    tasks = [get_tasks(store, record, stage.stage_number) for stage in stages]
    return Snapshot(job=record, stages=stages, tasks=tasks, leases=get_leases(store))


def check_partition(store: MovableStore, job: NewJob | JobRecord, *, run: int | None = None) -> None:
    """Assert, for each stage of a run, that results and ranges cover its tasks exactly once and its counters are their sums.

    Of the present run where none is named.
    """
    record = get_shallow_job(store, job.job_id)
    for stage in store.list_stages(record.job_id, record.run if run is None else run):
        _check_stage(stage, get_tasks(store, record, stage.stage_number, run=run), get_rows(store, stage))
    if not record.is_terminal and run is None:
        assert [ailment for audit in store.audit_stages([record.job_id]) for ailment in judge_stage(audit)] == []


def _check_stage(stage: StageRecord, tasks: list[TaskRecord], rows: list[ResultRow]) -> None:
    counted = Counter(task.status for task in tasks)
    ended = [(task.task_index, task.status) for task in tasks if task.status in TERMINAL_TASK_STATUSES]
    assert [task.task_index for task in tasks] == list(range(stage.task_count)), "each task is there once, in index order"
    assert stage.remaining == sum(counted[status] for status in _OPEN), "what remains is the width of the open ranges"
    assert stage.successful_tasks == counted[TaskStatus.COMPLETED]
    assert stage.failed_tasks == counted[TaskStatus.FAILED]
    assert stage.skipped_tasks == counted[TaskStatus.SKIPPED]
    assert stage.cancelled_tasks == counted[TaskStatus.CANCELLED]
    assert [(row.task_index, row.status) for row in rows] == ended, "each ended task has one result row, and no other has"


def drain(store: MovableStore, job: NewJob | JobRecord, *, rounds: int = 60) -> JobRecord:
    """Bring a job to its end from wherever it stands, with a worker that never fails; assert that it gets there.

    Leases that others hold are waited out, a pause is lifted, what is due later is waited for. An ended job must have no
    open task afterwards.
    """
    for _ in range(rounds):
        record = get_shallow_job(store, job.job_id)
        if record.is_terminal and not _open_width(store, record):
            check_partition(store, record)
            return record
        if record.status is JobStatus.PAUSED:
            resume(store, record)
        store.move_clock(LEASE_SECONDS * 10)
        recover(store, death_budget=_MANY_LIVES)
        for lease in _claim_for(store, record):
            carry_out(store, lease)
    record = get_shallow_job(store, job.job_id)
    stages = [(stage.stage_number, stage.status, stage.remaining) for stage in store.list_stages(record.job_id, record.run)]
    msg = f"the job does not end: it is {record.status}, its stages are {stages}"
    raise AssertionError(msg)


def carry_out(store: MovableStore, lease: Lease, *, worker: str = "closer") -> None:
    """Do what a lease asks for, and what its end hands over."""
    match lease.kind:
        case WorkKind.PLAN:
            _plan_nothing_more(store, lease)
        case WorkKind.TASK:
            answer = complete_one(store, complete_ok(lease), worker=worker)
            if answer.advance is not None:
                carry_out(store, answer.advance, worker=worker)
        case WorkKind.ADVANCE:
            _close_stage(store, lease, worker)


def _plan_nothing_more(store: MovableStore, lease: Lease) -> None:
    stage = store.get_stage(lease.stage_id)
    assert stage is not None
    outcome = store.add_tasks(chunk(lease, 0, first_index=stage.task_count, digest_before=stage.plan_digest))
    assert outcome in {PlanOutcome.RECORDED, PlanOutcome.JOB_ENDED}


def _close_stage(store: MovableStore, lease: Lease, worker: str) -> None:
    stage = store.get_stage(lease.stage_id)
    job = get_shallow_job(store, lease.job_id)
    assert stage is not None
    following = [new_stage(stage.group_last + 1)] if stage.group_last < job.total_stages else []
    answer = advance(store, lease, *following, worker=worker)
    match answer.outcome:
        case AdvanceOutcome.ADVANCED:
            assert answer.plan is not None
            carry_out(store, answer.plan, worker=worker)
        case AdvanceOutcome.GROUP_CLOSED:
            assert finish(store, lease).job_updated
        case AdvanceOutcome.GROUP_FAILED:
            assert fail_with(store, lease, "a stage failed")
        case AdvanceOutcome.SIBLINGS_OPEN | AdvanceOutcome.JOB_ENDED:
            pass
        case AdvanceOutcome.PAUSED | AdvanceOutcome.STALE | AdvanceOutcome.ALREADY_ADVANCED:
            msg = f"a fresh lease on the advancing of a running job was answered {answer.outcome}"
            raise AssertionError(msg)


def fail_with(store: MovableStore, lease: Lease, error: str) -> bool:
    """Fail a job as the holder of one of its control leases."""
    return store.end_job(
        JobEnding(
            job_id=lease.job_id,
            status=JobStatus.FAILED,
            error_details=error,
            range_id=lease.range_id,
            token=lease.token,
        )
    )


def _open_width(store: MovableStore, job: JobRecord) -> int:
    return sum(stage.remaining for stage in store.list_stages(job.job_id, job.run))


def _claim_for(store: MovableStore, job: JobRecord) -> list[Lease]:
    names = {stage.task_type for stage in store.list_stages(job.job_id, job.run)} | {TASK_TYPE}
    work_types = [control_type(job), *(task_work_type(job.job_type, job.workflow_version, name) for name in sorted(names))]
    request = ClaimRequest(
        worker_id="closer",
        work_types=work_types,
        max_tasks=[1000] * len(work_types),
        max_leases=100,
        lease_seconds=LEASE_SECONDS,
    )
    return store.claim(request).leases
