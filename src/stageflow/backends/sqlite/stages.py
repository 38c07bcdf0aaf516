"""Rows of the stages table: opened, closed. Everything here runs in a caller's transaction."""

from collections.abc import Sequence

from stageflow.backends.sqlite.clock import from_micros
from stageflow.backends.sqlite.connection import Row, Transaction
from stageflow.backends.sqlite.events import note_stage_event
from stageflow.backends.sqlite.ranges import insert_range
from stageflow.contracts.event import EventKind
from stageflow.contracts.ids import control_work_type
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.stage import NewStage, StageResultContract, StageResultsFormatter
from stageflow.contracts.status import StageStatus

INSERT_STAGE = (
    "insert into stageflow_stages (job_id, run, stage_number, name, task_type, status, planned, fail_fast,"
    " minimum_success_rate,"
    " group_first, group_last, stored_result, created_at, updated_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def stage_values(job_id: str, run: int, stage: NewStage, now: int) -> tuple[str | int | float | None, ...]:
    """Return the parameters of :data:`INSERT_STAGE`; a skipped stage is closed at once, with a result and no tasks."""
    status = StageStatus.SKIPPED if stage.skipped else StageStatus.PENDING
    return (
        job_id,
        run,
        stage.stage_number,
        stage.name,
        stage.task_type,
        status.value,
        int(stage.skipped),
        int(stage.fail_fast),
        stage.minimum_success_rate,
        stage.group_first,
        stage.group_last,
        _skipped_result(stage.stage_number, now) if stage.skipped else None,
        now,
        now,
    )


def _skipped_result(stage_number: int, now: int) -> str:
    return StageResultsFormatter.to_stored(
        StageResultContract(
            stage_number=stage_number,
            status=StageStatus.SKIPPED,
            task_count=0,
            successful_tasks=0,
            failed_tasks=0,
            success_rate=100.0,
            completed_at=from_micros(now),
        )
    )


def open_stages(tx: Transaction, job: Row, stages: Sequence[NewStage]) -> int | None:
    """Insert stages with the work of planning them; the first of those ranges is held, for the caller to lease.

    Args:
        job: ``job_id, run, job_type, workflow_version, priority``.

    Returns:
        The id of that range; ``None`` where every stage is skipped.
    """
    job_id, run, job_type, workflow_version, priority = job
    first_plan: int | None = None
    for stage in stages:
        stage_id = tx.insert(INSERT_STAGE, stage_values(job_id, run, stage, tx.now))
        if stage.skipped:
            note_stage_event(tx, stage_id, EventKind.STAGE_CLOSED, status=StageStatus.SKIPPED.value)
            continue
        note_stage_event(tx, stage_id, EventKind.STAGE_OPENED)
        range_id = insert_range(
            tx,
            stage_id=stage_id,
            kind=WorkKind.PLAN.value,
            work_type=control_work_type(job_type, workflow_version),
            first=0,
            last=1,
            state="held" if first_plan is None else "ready",
            priority=priority,
        )
        if first_plan is None:
            first_plan = range_id
    return first_plan


def store_stage_result(tx: Transaction, stage_id: int, status: str, stored_result: str | None) -> None:
    """Close a stage with its result; one that has a stored result keeps it."""
    closed = tx.run(
        "update stageflow_stages set status = ?, stored_result = ?, updated_at = ? where stage_id = ? and stored_result is null"
        " and status in ('pending', 'planning', 'processing')",
        (status, stored_result, tx.now, stage_id),
    )
    if closed:
        note_stage_event(tx, stage_id, EventKind.STAGE_CLOSED, status=status)
