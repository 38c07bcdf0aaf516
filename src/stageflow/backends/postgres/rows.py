"""Rows as contracts: text becomes an enum, a datetime or an object here, or fails and says which row."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from psycopg.rows import TupleRow
from pydantic import TypeAdapter, ValidationError

from stageflow.contracts.base import JsonObject
from stageflow.contracts.damage import MEND_ROW, ROW_FAULTS, malformed, seen_object, seen_row
from stageflow.contracts.dead_letter import DeadLetter, DeadLetterState
from stageflow.contracts.ids import make_task_id
from stageflow.contracts.job import JOB_STAND_INS, JobRecord
from stageflow.contracts.job_state import JobState
from stageflow.contracts.lease import Lease, WorkKind
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.outbox import Announcement
from stageflow.contracts.partial import Partial
from stageflow.contracts.payload import read_object_or_preview, shelved
from stageflow.contracts.preview import preview
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import StageRecord, StageResultContract
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus, status_from_text
from stageflow.contracts.task import TaskRecord, TaskResult
from stageflow.contracts.worker import WorkerRecord
from stageflow.errors import MalformedRowError

T = TypeVar("T")

_NOTHING: Final[Mapping[str, str]] = {}

_result_rows: Final[TypeAdapter[list[ResultRow]]] = TypeAdapter(list[ResultRow])
_task_statuses: Final = {status.value: status for status in TaskStatus}


def json_object(text: str | None) -> JsonObject | None:
    """Read a stored JSON object, or the preview of one in the blob store."""
    return None if text is None else read_object_or_preview(text, "a JSON column")


def read_row(noun: str, key: object, build: Callable[[], T]) -> T:
    """Return what a row becomes, or fail and say which row it is."""
    try:
        return build()
    except ROW_FAULTS as error:
        what = f"{noun} {key}"
        raise malformed(what, error) from error


_LEASE_COLUMNS: Final = 17
_JOB_COLUMNS: Final = 18


def lease_from_row(row: TupleRow, state: JobState | None = None) -> Lease:
    """Read the columns of ``stageflow.read_lease``."""
    return read_row("range", row[0], lambda: _lease(row, state))


def lease_from_rows(rows: Sequence[TupleRow]) -> Lease:
    """Read the columns of ``stageflow.read_lease``, and those of ``stageflow.read_job_state`` beside them, one row a stage."""
    states = [row[_LEASE_COLUMNS:] for row in rows]
    if states[0][0] is None:
        return lease_from_row(rows[0])
    try:
        return lease_from_row(rows[0], state_from_rows(states))
    except MalformedRowError:
        # What gave the lease is not to fail for it. Who carries it out reads the job again, meets the same, and fails the job.
        return lease_from_row(rows[0])


def state_from_rows(rows: Sequence[TupleRow]) -> JobState:
    """Read the columns of ``stageflow.read_job_state``, one row a stage."""
    job, now = rows[0], rows[0][-1]
    return JobState(
        job=job_from_row(job[:_JOB_COLUMNS], {}),
        stages=[stage_from_row(row[_JOB_COLUMNS:-1]) for row in rows],
        now=now,
    )


def _lease(row: TupleRow, state: JobState | None) -> Lease:
    return Lease(
        range_id=row[0],
        token=row[1],
        kind=status_from_text(WorkKind, row[2]),
        job_id=row[3],
        job_type=row[4],
        workflow_version=row[5],
        run=row[6],
        stage_id=row[7],
        stage_number=row[8],
        generation=row[9],
        task_type=row[10],
        first=row[11],
        last=row[12],
        attempt=row[13],
        deaths=row[14],
        suspect=row[15],
        tasks=row[16],
        state=state,
    )


def job_from_row(
    row: TupleRow, stage_results: dict[str, StageResultContract], shelved_results: Mapping[str, str] = _NOTHING
) -> JobRecord:
    """Read the 18 columns of a job.

    Raises:
        MalformedRowError: They are not what the contract says.
    """
    damages: list[str] = []
    job = seen_job_from_row(row, stage_results, damages, shelved_results)
    if damages:
        msg = f"job {row[0]}: {job.damage}; {MEND_ROW}"
        raise MalformedRowError(msg)
    return job


def seen_job_from_row(
    row: TupleRow,
    stage_results: dict[str, StageResultContract],
    damages: list[str],
    shelved_results: Mapping[str, str] = _NOTHING,
) -> JobRecord:
    """Read what can be read of the 18 columns of a job; what cannot is added to ``damages``, which the job then names.

    Raises:
        MalformedRowError: Something besides its JSON objects and times is not what the contract says.
    """
    return read_row("job", row[0], lambda: _seen_job(row, stage_results, damages, shelved_results))


def _seen_job(
    row: TupleRow,
    stage_results: dict[str, StageResultContract],
    damages: list[str],
    shelved_results: Mapping[str, str],
) -> JobRecord:
    columns = {
        "job_id": row[0],
        "job_type": row[1],
        "workflow_version": row[2],
        "status": status_from_text(JobStatus, row[3]),
        "run": row[4],
        "stage": row[5],
        "total_stages": row[6],
        "parameters": seen_object(row[7], "parameters", damages),
        "metadata": seen_object(row[8], "metadata", damages),
        "result_data": None if row[9] is None else seen_object(row[9], "result_data", damages),
        "error_details": row[10],
        "idempotency_key": row[11],
        "priority": row[12],
        "not_before": row[13],
        "created_at": row[14],
        "updated_at": row[15],
        "deadline": row[16],
        "timeout_seconds": row[17],
        "stage_results": stage_results,
        "shelved": {**shelved(parameters=row[7], result_data=row[9]), **shelved_results},
    }
    return seen_row(JobRecord, columns, JOB_STAND_INS, damages)


def stage_from_row(row: TupleRow) -> StageRecord:
    """Read the 21 columns of a stage."""
    return read_row(
        "stage",
        f"{row[3]} of job {row[1]}",
        lambda: StageRecord(
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
            halted=row[14],
            plan_digest=row[15],
            group_first=row[16],
            group_last=row[17],
            stored_result=row[18],
            created_at=row[19],
            updated_at=row[20],
            deadline=row[21],
        ),
    )


def task_from_row(row: TupleRow, job_id: str, stage_number: int) -> TaskRecord:
    """Read the 12 columns of a task."""
    task_id = make_task_id(job_id, stage_number, row[0])
    return read_row(
        "task",
        task_id,
        lambda: TaskRecord(
            task_id=task_id,
            parent_job_id=job_id,
            job_type=row[4],
            task_type=row[3],
            status=status_from_text(TaskStatus, row[6]),
            stage=stage_number,
            task_index=row[0],
            key=row[1],
            parameters=read_object_or_preview(row[2], "the parameters"),
            result_data=json_object(row[8]),
            error_details=row[9],
            attempt=row[7],
            heartbeat=row[10],
            created_at=row[5],
            updated_at=row[11],
            shelved=shelved(parameters=row[2], result_data=row[8]),
        ),
    )


def task_result_from_row(row: tuple[Any, ...], job_id: str, stage_number: int, task_type: str) -> TaskResult:
    """Read the 7 columns of a result."""
    task_id = make_task_id(job_id, stage_number, row[0])
    return read_row(
        "the result of task",
        task_id,
        lambda: TaskResult(
            task_id=task_id,
            job_id=job_id,
            stage_number=stage_number,
            task_index=row[0],
            attempt=row[1],
            task_type=task_type,
            status=status_from_text(TaskStatus, row[2]),
            result_data=json_object(row[3]),
            error_details=row[4],
            execution_time_seconds=row[5],
            completed_at=row[6],
            shelved=shelved(result_data=row[3]),
        ),
    )


def result_rows_from_rows(rows: list[TupleRow]) -> list[ResultRow]:
    """Read the first 5 columns of many results at once, their JSON left as text."""
    try:
        return _result_rows.validate_python(
            [
                {
                    "task_index": row[0],
                    "attempt": row[1],
                    "status": _task_statuses[row[2]],
                    "result": row[3],
                    "error_details": row[4],
                }
                for row in rows
            ]
        )
    except (ValidationError, KeyError) as error:
        msg = f"a row of a task's result is malformed: {preview(error)}; {MEND_ROW}"
        raise MalformedRowError(msg) from error


def partial_from_row(row: TupleRow, stage_id: int) -> Partial:
    """Read the 4 columns of a partial."""
    return read_row(
        "the partial of a stage's tasks",
        (stage_id, row[0]),
        lambda: Partial(first=row[0], last=row[1], successful_tasks=row[2], value=row[3]),
    )


def announcement_from_row(row: TupleRow) -> Announcement:
    """Read the 10 columns of a ready range."""
    return read_row("range", row[0], lambda: _announcement(row))


def _announcement(row: TupleRow) -> Announcement:
    range_id, kind, job_id, job_type, run, stage_number, task_type, generation, first, last = row
    message: JobQueueMessage | TaskQueueMessage
    if status_from_text(WorkKind, kind) is WorkKind.TASK:
        message = TaskQueueMessage(
            job_id=job_id,
            job_type=job_type,
            run=run,
            stage_number=stage_number,
            task_type=task_type,
            generation=generation,
            first=first,
            last=last,
        )
    else:
        message = JobQueueMessage(job_id=job_id, job_type=job_type, run=run, stage_number=stage_number)
    return Announcement(range_id=range_id, message=message)


def dead_letter_from_row(row: TupleRow) -> DeadLetter:
    """Read the 8 columns of a parked message."""
    return read_row("dead letter", row[5], lambda: _dead_letter(row))


def _dead_letter(row: TupleRow) -> DeadLetter:
    return DeadLetter(
        queue=row[0],
        message_id=row[1],
        body=bytes(row[2]),
        reason=row[3],
        delivery_count=row[4],
        letter_id=row[5],
        state=status_from_text(DeadLetterState, row[6]),
        created_at=row[7],
    )


def worker_from_row(row: TupleRow) -> WorkerRecord:
    """Read the 7 columns of a worker."""
    return read_row("worker", row[0], lambda: _worker(row))


def _worker(row: TupleRow) -> WorkerRecord:
    return WorkerRecord(
        worker_id=row[0],
        host=row[1],
        pid=row[2],
        slots=row[3],
        work_types=row[4],
        started_at=row[5],
        seen_at=row[6],
    )


def time_from_row(row: TupleRow) -> datetime:
    """Read one time."""
    time: datetime = row[0]
    return time
