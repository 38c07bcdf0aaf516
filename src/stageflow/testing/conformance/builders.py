"""The small sentences from which the scenarios of the store's suite are told.

Everything goes through the port. A scenario creates a job, claims, reports and advances with these, and looks at the
outcome with the functions of :mod:`stageflow.testing.conformance.looking`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from stageflow.contracts.advancement import StageAdvance, StageAdvancementResult
from stageflow.contracts.ids import control_work_type, task_work_type
from stageflow.contracts.job import JobClosing, JobCompletionResult, JobRecord, JobUpdate, NewJob
from stageflow.contracts.lease import (
    ClaimAnswer,
    ClaimOutcome,
    ClaimRequest,
    Lease,
    NamedClaim,
    RangeCompletion,
    RangeReturn,
    Recovery,
    Retry,
    TaskCompletionResult,
    WorkKind,
)
from stageflow.contracts.plan import FirstLease, PlanAnswer, PlanChunk, PlanOutcome
from stageflow.contracts.stage import HYDRATED_RESULTS, NewStage, StageResultContract, StageResultsFormatter
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.ports import Store

JOB_TYPE: Final = "demo"
TASK_TYPE: Final = "work"
LEASE_SECONDS: Final = 30.0
NOON: Final = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)
OK: Final = TaskStatus.COMPLETED
BAD: Final = TaskStatus.FAILED


class MovableStore(Store, Protocol):
    """A store whose clock a test can move."""

    def move_clock(self, seconds: float) -> None:
        """Add to the store's time, for all later calls of this store object."""
        ...


@dataclass(frozen=True)
class Again:
    """An attempt that failed and is to be tried again after a delay."""

    delay_seconds: float = 0.0
    error: str = "the attempt failed"


def job_id_of(name: str) -> str:
    """Return a job id that only this name has."""
    return hashlib.sha256(name.encode()).hexdigest()


def new_stage(
    number: int,
    *,
    task_type: str = TASK_TYPE,
    fail_fast: bool = False,
    minimum_success_rate: float | None = None,
    group: tuple[int, int] | None = None,
    skipped: bool = False,
) -> NewStage:
    """Return a stage to open, alone or in a parallel group."""
    first, last = group or (number, number)
    return NewStage(
        stage_number=number,
        name=f"stage {number}",
        task_type=task_type,
        fail_fast=fail_fast,
        minimum_success_rate=minimum_success_rate,
        group_first=first,
        group_last=last,
        skipped=skipped,
    )


def new_job(
    name: str = "job",
    *,
    job_type: str = JOB_TYPE,
    version: int = 1,
    stages: int = 1,
    priority: int = 0,
    not_before: datetime | None = None,
    idempotency_key: str = "",
    first_stage: NewStage | None = None,
) -> NewJob:
    """Return a job to create; jobs of different names have different ids."""
    return NewJob(
        job_id=job_id_of(name),
        job_type=job_type,
        workflow_version=version,
        total_stages=stages,
        parameters='{"name":"%s"}' % name,  # noqa: UP031  an f-string would need its braces doubled
        metadata={"made_by": "conformance"},
        idempotency_key=idempotency_key,
        priority=priority,
        not_before=not_before,
        first_stage=first_stage or new_stage(1),
    )


def control_type(job: NewJob | JobRecord) -> str:
    """Return the work type of a job's planning and advancing."""
    return control_work_type(job.job_type, job.workflow_version)


def tasks_type(job: NewJob | JobRecord, task_type: str = TASK_TYPE) -> str:
    """Return the work type of a job's tasks."""
    return task_work_type(job.job_type, job.workflow_version, task_type)


def all_types(job: NewJob | JobRecord, *task_types: str) -> list[str]:
    """Return the work types of a job, control and tasks."""
    return [control_type(job), *(tasks_type(job, name) for name in task_types or (TASK_TYPE,))]


def create(store: MovableStore, *jobs: NewJob) -> None:
    """Create jobs that are not there yet."""
    assert store.create_jobs(jobs).created == [True] * len(jobs)


def ask(
    store: MovableStore,
    *work_types: str,
    worker: str = "ada",
    max_tasks: int = 1000,
    max_leases: int = 100,
    lease_seconds: float = LEASE_SECONDS,
) -> ClaimAnswer:
    """Claim once and return the whole answer."""
    return store.claim(
        ClaimRequest(
            worker_id=worker,
            work_types=list(work_types),
            max_tasks=[max_tasks] * len(work_types),
            max_leases=max_leases,
            lease_seconds=lease_seconds,
        )
    )


def claim_all(
    store: MovableStore,
    *work_types: str,
    worker: str = "ada",
    max_tasks: int = 1000,
    max_leases: int = 100,
) -> list[Lease]:
    """Claim until the store says that it is empty."""
    leases: list[Lease] = []
    while len(leases) < max_leases:
        answer = ask(store, *work_types, worker=worker, max_tasks=max_tasks, max_leases=max_leases - len(leases))
        leases += answer.leases
        if answer.outcome is ClaimOutcome.EMPTY:
            break
    return leases


def claim_one(store: MovableStore, *work_types: str, worker: str = "ada", max_tasks: int = 1000) -> Lease:
    """Claim the one best range, which must be there."""
    answer = ask(store, *work_types, worker=worker, max_tasks=max_tasks, max_leases=1)
    assert answer.outcome is ClaimOutcome.WORK
    assert len(answer.leases) == 1
    return answer.leases[0]


def claim_plan(store: MovableStore, job: NewJob, *, worker: str = "ada") -> Lease:
    """Claim the planning of a job that has nothing else to be planned or advanced beside it."""
    lease = claim_one(store, control_type(job), worker=worker)
    assert (lease.kind, lease.job_id) == (WorkKind.PLAN, job.job_id)
    return lease


def claim_advance(store: MovableStore, job: NewJob, *, worker: str = "ada") -> Lease:
    """Claim the advancing of a job that has nothing else to be planned or advanced beside it."""
    lease = claim_one(store, control_type(job), worker=worker)
    assert (lease.kind, lease.job_id, lease.tasks) == (WorkKind.ADVANCE, job.job_id, [])
    return lease


def take_advance(store: MovableStore, job: NewJob, answer: TaskCompletionResult) -> Lease:
    """Return the advance lease that a report gave, or claim it where the report did not empty the stage itself."""
    return claim_advance(store, job) if answer.advance is None else answer.advance


def name_claim(
    job: NewJob,
    *kinds: WorkKind,
    worker: str = "host",
    stage_number: int = 1,
    run: int = 1,
    generation: int = 1,
    first: int = 0,
    last: int = 1,
    max_tasks: int = 1000,
) -> NamedClaim:
    """Return the claim of what a message names."""
    return NamedClaim(
        worker_id=worker,
        job_id=job.job_id,
        run=run,
        stage_number=stage_number,
        generation=generation,
        kinds=list(kinds),
        work_types=all_types(job),
        first=first,
        last=last,
        max_tasks=max_tasks,
        lease_seconds=LEASE_SECONDS,
    )


def parameters_of(index: int) -> str:
    """Return the parameters that the builders plan for an index."""
    return f'{{"index":{index}}}'


def rolling_digest(digest_before: str, parameters: Sequence[str]) -> str:
    """Return a digest that does not depend on where chunks were cut; a store keeps what it is given."""
    digest = digest_before
    for text in parameters:
        digest = hashlib.sha256((digest + text).encode()).hexdigest()
    return digest


def chunk(
    plan: Lease,
    count: int,
    *,
    first_index: int = 0,
    digest_before: str = "",
    keys: Sequence[str | None] = (),
    final: bool = True,
    claimable: bool = True,
    range_count: int = 1,
    replace: bool = False,
) -> PlanChunk:
    """Return ``count`` tasks to be added to a stage under planning."""
    parameters = [parameters_of(index) for index in range(first_index, first_index + count)]
    return PlanChunk(
        range_id=plan.range_id,
        token=plan.token,
        stage_id=plan.stage_id,
        first_index=first_index,
        parameters=parameters,
        keys=list(keys),
        digest=rolling_digest(digest_before, parameters),
        final=final,
        claimable=claimable,
        range_count=range_count,
        replace=replace,
    )


def plan_all(store: MovableStore, job: NewJob, count: int, *, range_count: int = 1) -> Lease:
    """Claim a job's planning and plan the whole stage in one chunk; returns the plan lease, used up."""
    plan = claim_plan(store, job)
    assert store.add_tasks(chunk(plan, count, range_count=range_count)) is PlanOutcome.RECORDED
    return plan


def start(store: MovableStore, job: NewJob, count: int, *, range_count: int = 1) -> Lease:
    """Create a job and plan its first stage; returns the plan lease, used up."""
    create(store, job)
    return plan_all(store, job, count, range_count=range_count)


def report(lease: Lease, *outcomes: TaskStatus | Again, first: int | None = None) -> RangeCompletion:
    """Return what became of a prefix of a lease, from its first index on."""
    start_index = lease.first if first is None else first
    indexes = range(start_index, start_index + len(outcomes))
    statuses = [TaskStatus.QUEUED if isinstance(outcome, Again) else outcome for outcome in outcomes]
    return RangeCompletion(
        range_id=lease.range_id,
        token=lease.token,
        stage_id=lease.stage_id,
        first=start_index,
        statuses=statuses,
        results=[f'{{"of":{index}}}' if status is OK else None for index, status in zip(indexes, statuses, strict=True)],
        errors=[None if status is OK else f"task {index} is {status}" for index, status in zip(indexes, statuses, strict=True)],
        seconds=[0.25] * len(statuses),
        completed_at=[NOON.timestamp()] * len(statuses),
        retries=[
            Retry(task_index=index, delay_seconds=outcome.delay_seconds, error_details=outcome.error)
            for index, outcome in zip(indexes, outcomes, strict=True)
            if isinstance(outcome, Again)
        ],
    )


def complete_ok(lease: Lease, count: int | None = None, *, first: int | None = None) -> RangeCompletion:
    """Return the good news about a prefix of a lease, the whole of it by default."""
    start_index = lease.first if first is None else first
    return report(lease, *[OK] * (lease.last - start_index if count is None else count), first=first)


def complete(store: MovableStore, *completions: RangeCompletion, worker: str = "ada") -> list[TaskCompletionResult]:
    """Report one batch of completions."""
    return store.complete_tasks(completions, worker_id=worker, lease_seconds=LEASE_SECONDS)


def complete_one(store: MovableStore, completion: RangeCompletion, *, worker: str = "ada") -> TaskCompletionResult:
    """Report one completion."""
    return complete(store, completion, worker=worker)[0]


def run_all(store: MovableStore, job: NewJob, *, worker: str = "ada") -> Lease:
    """Complete every claimable task of a job, and return the advance lease that the last one gave."""
    answers = [
        complete_one(store, complete_ok(lease), worker=worker) for lease in claim_all(store, tasks_type(job), worker=worker)
    ]
    advances = [answer.advance for answer in answers if answer.advance is not None]
    assert len(advances) == 1
    return advances[0]


def give_back(lease: Lease, first: int | None = None) -> RangeReturn:
    """Return the giving back of a lease's tail, the whole of it by default."""
    return RangeReturn(range_id=lease.range_id, token=lease.token, first=lease.first if first is None else first)


def stored_result(store: MovableStore, lease: Lease, status: StageStatus | None = None) -> tuple[str, str]:
    """Return status and stored text of the result of a leased advancement's stage, as its counts give it."""
    stage = store.get_stage(lease.stage_id)
    assert stage is not None
    results = store.list_task_results(stage.stage_id, first_index=0, limit=HYDRATED_RESULTS + 1)
    paged = len(results) > HYDRATED_RESULTS
    by_counts = StageResultContract.from_stage_record(stage, None if paged else results, store.now())
    result = by_counts if status is None else by_counts.model_copy(update={"status": status})
    return result.status.value, StageResultsFormatter.to_stored(result)


def advance_of(store: MovableStore, lease: Lease, *next_stages: NewStage, status: StageStatus | None = None) -> StageAdvance:
    """Return what closes a stage whose tasks have ended."""
    stage_status, text = stored_result(store, lease, status)
    return StageAdvance(
        range_id=lease.range_id,
        token=lease.token,
        stage_id=lease.stage_id,
        stage_status=stage_status,
        stage_result=text,
        next_stages=list(next_stages),
    )


def closing_of(
    store: MovableStore, lease: Lease, *skipped: NewStage, answer: str | None = None, status: StageStatus | None = None
) -> JobClosing:
    """Return what ends a job whose last stage's tasks have ended."""
    stage_status, text = stored_result(store, lease, status)
    return JobClosing(
        job_id=lease.job_id,
        range_id=lease.range_id,
        token=lease.token,
        stage_id=lease.stage_id,
        stage_status=stage_status,
        stage_result=text,
        result_data=answer,
        skipped=list(skipped),
    )


def advance(
    store: MovableStore,
    lease: Lease,
    *next_stages: NewStage,
    status: StageStatus | None = None,
    worker: str = "ada",
) -> StageAdvancementResult:
    """Close a stage and open what follows it."""
    asked = advance_of(store, lease, *next_stages, status=status)
    (answer,) = store.advance_job_stages([asked], worker_id=worker, lease_seconds=LEASE_SECONDS)
    return answer


def plan_and_lease(store: MovableStore, asked: PlanChunk, wish: FirstLease) -> PlanAnswer:
    """Write the chunk of one stage, and lease the first of its tasks."""
    (answer,) = store.add_tasks_and_lease([asked], [wish])
    return answer


def finish(
    store: MovableStore,
    lease: Lease,
    *skipped: NewStage,
    status: StageStatus | None = None,
    result_data: str | None = None,
) -> JobCompletionResult:
    """Close the last stage and end the job in one call."""
    return close_job(store, closing_of(store, lease, *skipped, answer=result_data, status=status))


def close_job(store: MovableStore, closing: JobClosing) -> JobCompletionResult:
    """Ask for the end of one job."""
    (answer,) = store.check_job_completions([closing])
    return answer


def look_at_completion(store: MovableStore, job: NewJob) -> JobCompletionResult:
    """Ask whether a job is complete, without a lease."""
    return close_job(store, JobClosing(job_id=job.job_id))


def set_status(store: MovableStore, job: NewJob | JobRecord, status: JobStatus) -> JobRecord:
    """Change a job's status; the job must exist."""
    record = store.change_job_status(job.job_id, status, JobUpdate())
    assert record is not None
    return record


def pause(store: MovableStore, job: NewJob | JobRecord) -> None:
    """Pause a job."""
    assert set_status(store, job, JobStatus.PAUSED).status is JobStatus.PAUSED


def resume(store: MovableStore, job: NewJob | JobRecord) -> None:
    """Resume a job that had started."""
    assert set_status(store, job, JobStatus.PROCESSING).status is JobStatus.PROCESSING


def cancel(store: MovableStore, job: NewJob | JobRecord) -> None:
    """Cancel a job."""
    assert set_status(store, job, JobStatus.CANCELLED).status is JobStatus.CANCELLED


def recover(store: MovableStore, *, death_budget: int = 3, limit: int = 1000) -> Recovery:
    """Recover by the store's clock."""
    return store.recover(expired=None, death_budget=death_budget, limit=limit)


def let_leases_expire(store: MovableStore, *, death_budget: int = 3) -> Recovery:
    """Move the clock past every lease and recover."""
    store.move_clock(LEASE_SECONDS + 1)
    return recover(store, death_budget=death_budget)
