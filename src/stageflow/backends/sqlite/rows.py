"""Rows on their way out: into the contracts."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from stageflow.backends.sqlite.clock import stored_time
from stageflow.backends.sqlite.connection import Row, Transaction
from stageflow.contracts.base import Contract
from stageflow.contracts.damage import MEND_ROW, ROW_FAULTS, malformed, seen_object, seen_row
from stageflow.contracts.ids import make_task_id
from stageflow.contracts.job import JOB_STAND_INS, JobRecord
from stageflow.contracts.partial import Partial
from stageflow.contracts.payload import read_object_or_preview, shelved
from stageflow.contracts.preview import preview
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import StageRecord, StageResultContract
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus, status_from_text
from stageflow.contracts.task import TaskRecord, TaskResult
from stageflow.errors import MalformedRowError

_result_rows: Final[TypeAdapter[list[ResultRow]]] = TypeAdapter(list[ResultRow])
_task_statuses: Final = {status.value: status for status in TaskStatus}
_NOTHING: Final[Mapping[str, str]] = {}

STAGE: Final = (
    "select coalesce(taken_from, stage_id), job_id, run, stage_number, generation, name, task_type, status, task_count,"
    " remaining, successful_tasks, failed_tasks, skipped_tasks, cancelled_tasks, halted, plan_digest, group_first,"
    " group_last, stored_result, created_at, updated_at, deadline from stageflow_stages "
)
STAGES_OF_RUN: Final = STAGE + "where job_id = ? and run = ? order by stage_number"
JOB: Final = (
    "select job_id, job_type, workflow_version, status, run, stage, total_stages, parameters, metadata, result_data,"
    " error_details, idempotency_key, priority, not_before, created_at, updated_at, deadline, timeout_seconds"
    " from stageflow_jobs "
)

C = TypeVar("C", bound=Contract)


class Outcome(NamedTuple):
    """How one index of a stage ended: by a result, or by a range that was closed over it."""

    task_index: int
    generation: int
    attempt: int
    status: str
    result: str | None
    error_details: str | None
    seconds: float
    completed_at: int


class StageKey(NamedTuple):
    """What names the tasks of a stage."""

    stage_id: int
    job_id: str
    job_type: str
    stage_number: int
    generation: int
    task_type: str
    task_count: int
    created_at: int
    updated_at: int


def to_stage_record(row: Row) -> StageRecord:
    """Return a row of :data:`STAGE` as its contract.

    Raises:
        MalformedRowError: It is not what the contract says.
    """
    try:
        return StageRecord(
            stage_id=row[0],
            job_id=row[1],
            run=row[2],
            stage_number=row[3],
            generation=row[4],
            name=row[5],
            task_type=row[6],
            status=status_from_text(StageStatus, row[7]),
            task_count=row[8],
            remaining=row[9],
            successful_tasks=row[10],
            failed_tasks=row[11],
            skipped_tasks=row[12],
            cancelled_tasks=row[13],
            halted=bool(row[14]),
            plan_digest=row[15],
            group_first=row[16],
            group_last=row[17],
            stored_result=row[18],
            created_at=stored_time(row[19]),
            updated_at=stored_time(row[20]),
            deadline=stored_time(row[21]),
        )
    except ROW_FAULTS as error:
        what = f"stage {row[3]} of job {row[1]}"
        raise malformed(what, error) from error


def to_job_record(
    row: Row, stage_results: dict[str, StageResultContract], shelved_results: Mapping[str, str] = _NOTHING
) -> JobRecord:
    """Return a row of :data:`JOB` with its stage results as the contract.

    Raises:
        MalformedRowError: It is not what the contract says.
    """
    damages: list[str] = []
    job = to_seen_job(row, stage_results, damages, shelved_results)
    if damages:
        msg = f"job {row[0]}: {job.damage}; {MEND_ROW}"
        raise MalformedRowError(msg)
    return job


def to_seen_job(
    row: Row,
    stage_results: dict[str, StageResultContract],
    damages: list[str],
    shelved_results: Mapping[str, str] = _NOTHING,
) -> JobRecord:
    """Return a row of :data:`JOB` with what can be read of it; what cannot is added to ``damages``, which the job then names.

    Raises:
        MalformedRowError: Something besides its JSON objects and times is not what the contract says.
    """
    columns = {
        "job_id": row[0],
        "job_type": row[1],
        "workflow_version": row[2],
        "run": row[4],
        "stage": row[5],
        "total_stages": row[6],
        "parameters": seen_object(row[7], "parameters", damages),
        "metadata": seen_object(row[8], "metadata", damages),
        "result_data": None if row[9] is None else seen_object(row[9], "result_data", damages),
        "error_details": row[10],
        "idempotency_key": row[11],
        "priority": row[12],
        "not_before": stored_time(row[13]),
        "created_at": stored_time(row[14]),
        "updated_at": stored_time(row[15]),
        "deadline": stored_time(row[16]),
        "timeout_seconds": row[17],
        "stage_results": stage_results,
        "shelved": {**shelved(parameters=row[7], result_data=row[9]), **shelved_results},
    }
    try:
        columns["status"] = status_from_text(JobStatus, row[3])
        return seen_row(JobRecord, columns, JOB_STAND_INS, damages)
    except ROW_FAULTS as error:
        what = f"job {row[0]}"
        raise malformed(what, error) from error


def to_result_rows(outcomes: Iterable[Outcome]) -> list[ResultRow]:
    """Return many outcomes as text, validated at once."""
    try:
        return _result_rows.validate_python(
            [
                {
                    "task_index": outcome.task_index,
                    "attempt": outcome.attempt,
                    "status": _task_statuses[outcome.status],
                    "result": outcome.result,
                    "error_details": outcome.error_details,
                }
                for outcome in outcomes
            ]
        )
    except (ValidationError, KeyError) as error:
        msg = f"a row of a task's result is malformed: {preview(error)}; {MEND_ROW}"
        raise MalformedRowError(msg) from error


def to_partial(stage_id: int, row: Row) -> Partial:
    """Return first, last, successful tasks and value as the contract.

    Raises:
        MalformedRowError: They are not what the contract says.
    """
    first, last, successful_tasks, value = row
    try:
        return Partial(first=first, last=last, successful_tasks=successful_tasks, value=value)
    except ROW_FAULTS as error:
        what = f"the partial of tasks [{first}, {last}) of the stage with key {stage_id}"
        raise malformed(what, error) from error


def to_task_result(stage: StageKey, outcome: Outcome) -> TaskResult:
    """Return an outcome as the contract of a task's result.

    Raises:
        MalformedRowError: It is not what the contract says.
    """
    task_id = make_task_id(stage.job_id, stage.stage_number, outcome.task_index)
    try:
        return TaskResult(
            task_id=task_id,
            job_id=stage.job_id,
            stage_number=stage.stage_number,
            task_index=outcome.task_index,
            attempt=outcome.attempt,
            task_type=stage.task_type,
            status=status_from_text(TaskStatus, outcome.status),
            result_data=None if outcome.result is None else read_object_or_preview(outcome.result, "the result"),
            error_details=outcome.error_details,
            execution_time_seconds=outcome.seconds,
            completed_at=stored_time(outcome.completed_at),
            shelved=shelved(result_data=outcome.result),
        )
    except ROW_FAULTS as error:
        what = f"the result of task {task_id}"
        raise malformed(what, error) from error


def to_task_record(
    stage: StageKey,
    task: Row,
    *,
    status: TaskStatus,
    attempt: int,
    error_details: str | None,
    outcome: Outcome | None,
    heartbeat: int | None,
) -> TaskRecord:
    """Return a task with its derived status as the contract.

    Raises:
        MalformedRowError: It is not what the contract says.
    """
    task_index, parameters, key = task
    task_id = make_task_id(stage.job_id, stage.stage_number, task_index)
    result = None if outcome is None else outcome.result
    try:
        return TaskRecord(
            task_id=task_id,
            parent_job_id=stage.job_id,
            job_type=stage.job_type,
            task_type=stage.task_type,
            status=status,
            stage=stage.stage_number,
            task_index=task_index,
            key=key,
            parameters=read_object_or_preview(parameters, "the parameters"),
            result_data=None if result is None else read_object_or_preview(result, "the result"),
            error_details=error_details,
            attempt=attempt,
            heartbeat=stored_time(heartbeat),
            created_at=stored_time(stage.created_at),
            updated_at=stored_time(stage.updated_at if outcome is None else outcome.completed_at),
            shelved=shelved(parameters=parameters, result_data=result),
        )
    except ROW_FAULTS as error:
        what = f"task {task_id}"
        raise malformed(what, error) from error


def get_stage_key(tx: Transaction, stage_id: int) -> StageKey | None:
    """Return what names the tasks of a stage."""
    row = tx.row(
        "select s.stage_id, s.job_id, j.job_type, s.stage_number, s.generation, s.task_type, s.task_count,"
        " s.created_at, s.updated_at"
        " from stageflow_stages s join stageflow_jobs j on j.job_id = s.job_id where s.stage_id = ?",
        (stage_id,),
    )
    return None if row is None else StageKey._make(row)
