"""The end of a job: completed, failed or cancelled; and its pauses."""

from collections.abc import Sequence
from typing import NamedTuple

from stageflow.backends.sqlite.barrier import close_waiting, drop_control
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.events import note_event, note_stage_event
from stageflow.backends.sqlite.jobs import apply_update, see_job
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Work, delete_range, get_leased, hold_range
from stageflow.backends.sqlite.stages import open_stages, store_stage_result
from stageflow.backends.sqlite.tasks import read_task_results
from stageflow.contracts.event import EventKind
from stageflow.contracts.job import JobClosing, JobCompletionResult, JobEnding, JobRecord, JobUpdate
from stageflow.contracts.stage import HYDRATED_RESULTS, NewStage
from stageflow.contracts.status import (
    TERMINAL_JOB_STATUSES,
    TERMINAL_STAGE_STATUSES,
    JobStatus,
    StageStatus,
    StatusValidator,
    TaskStatus,
    status_from_text,
)
from stageflow.contracts.task import TaskResult
from stageflow.errors import JobNotFoundError, StoreStateError

_UNFINISHED = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})


class _StageEnd(NamedTuple):
    stage_id: int
    stage_number: int
    status: str
    group_last: int
    task_count: int
    successful: int
    failed: int


class _Progress(NamedTuple):
    """How far a job's present run is."""

    status: JobStatus
    total_stages: int
    stages: list[_StageEnd]

    @property
    def closed(self) -> list[_StageEnd]:
        return [stage for stage in self.stages if stage.status in TERMINAL_STAGE_STATUSES]

    @property
    def is_complete(self) -> bool:
        """Whether the last stage was opened and every opened one is closed."""
        highest = max((stage.group_last for stage in self.stages), default=0)
        return len(self.closed) == len(self.stages) and highest == self.total_stages

    @property
    def has_failed(self) -> bool:
        """Whether a stage failed, so that the job cannot complete."""
        return any(stage.status == StageStatus.FAILED for stage in self.stages)


class SqliteEnding(StorePart):
    """Ends, pauses and resumes jobs."""

    def check_job_completions(self, closings: Sequence[JobClosing]) -> list[JobCompletionResult]:
        """Store last stages' results, and end the jobs of which every stage is closed; without a token only look.

        Raises:
            JobNotFoundError: There is no such job.
            StoreStateError: A stage failed, one of ``skipped`` is not, or the stage is not of the job; nothing was written.
        """
        if all(closing.token is None for closing in closings):
            with self._database.reading() as tx:
                return [_look(tx, closing.job_id) for closing in closings]
        with self._database.transaction() as tx:
            return [_look(tx, closing.job_id) if closing.token is None else _close(tx, closing) for closing in closings]

    def end_job(self, ending: JobEnding) -> bool:
        """Fail or cancel a job, close its waiting work, and store the closing stage's result.

        ``False``: it had ended, is not stored, or the token is stale.
        """
        with self._database.transaction() as tx:
            if ending.range_id is not None or ending.token is not None:
                control = get_leased(tx, ending.range_id, ending.token)
                if control is None or control.job_id != ending.job_id:
                    return False
                if control.job_ended:
                    drop_control(tx, control)
                    return False
            return end_open_job(tx, ending)

    def change_job_status(self, job_id: str, new_status: JobStatus, update: JobUpdate) -> JobRecord | None:
        """Change a job's status, guarded by the transition table; ``None`` where it does not exist.

        Raises:
            InvalidTransitionError: The table forbids it; nothing changed.
            StoreStateError: It would complete a job whose stages are not closed.
        """
        with self._database.transaction() as tx:
            row = tx.row("select status from stageflow_jobs where job_id = ?", (job_id,))
            if row is None:
                return None
            current = status_from_text(JobStatus, row[0])
            StatusValidator.validate(current, new_status)
            StatusValidator.require_no_revival(current, new_status)
            if new_status in _UNFINISHED:
                end_open_job(tx, JobEnding(job_id=job_id, status=new_status, error_details=update.error_details))
            elif new_status is not current:
                _move(tx, job_id, current, new_status)
            apply_update(tx, job_id, update)
            return see_job(tx, job_id)


def _look(tx: Transaction, job_id: str) -> JobCompletionResult:
    seen = _report(tx, job_id, updated=False)
    return seen.model_copy(update={"task_results": _read_final_results(tx, job_id)})


def _close(tx: Transaction, closing: JobClosing) -> JobCompletionResult:
    job_id = closing.job_id
    control = get_leased(tx, closing.range_id, closing.token)
    if control is None or control.is_task or control.job_id != job_id or not _may_go_on(tx, control):
        return _report(tx, job_id, updated=False)
    if closing.stage_id is not None and closing.stage_status is not None:
        _require_stage_of(tx, job_id, closing.stage_id)
        store_stage_result(tx, closing.stage_id, closing.stage_status, closing.stage_result)
    if closing.skipped:
        open_stages(tx, (job_id, control.run, control.job_type, control.workflow_version, 0), _all_skipped(closing.skipped))
    progress = _read_progress(tx, job_id)
    if not progress.is_complete:
        return _report(tx, job_id, updated=False)
    _complete_job(tx, job_id, progress, closing.result_data)
    delete_range(tx, control.range_id)
    return _report(tx, job_id, updated=True)


def end_open_job(tx: Transaction, ending: JobEnding) -> bool:
    """Fail or cancel a job that has not ended, whoever asks; ``False`` where it has, or is not stored."""
    if ending.status not in _UNFINISHED:
        msg = f"end_job ends a job as failed or cancelled, not as {ending.status}; use check_job_completion"
        raise StoreStateError(msg)
    row = tx.row("select status, run from stageflow_jobs where job_id = ?", (ending.job_id,))
    if row is None or row[0] in TERMINAL_JOB_STATUSES:
        return False
    tx.run(
        "update stageflow_jobs set status = ?, error_details = coalesce(?, error_details), updated_at = ? where job_id = ?",
        (ending.status.value, ending.error_details, tx.now, ending.job_id),
    )
    tx.job_ended = True
    if ending.range_id is not None:
        delete_range(tx, ending.range_id)
    if ending.stage_id is not None:
        default = StageStatus.FAILED if ending.status is JobStatus.FAILED else StageStatus.CANCELLED
        store_stage_result(tx, ending.stage_id, ending.stage_status or default.value, ending.stage_result)
    _close_job(tx, ending.job_id, row[1])
    note_event(tx, ending.job_id, EventKind.JOB_ENDED, status=ending.status.value, detail=ending.error_details)
    return True


def _require_stage_of(tx: Transaction, job_id: str, stage_id: int) -> None:
    if tx.row("select 1 from stageflow_stages where stage_id = ? and job_id = ?", (stage_id, job_id)) is None:
        msg = f"stage {stage_id} is none of job {job_id}; report the stage that was leased"
        raise StoreStateError(msg)


def _close_job(tx: Transaction, job_id: str, run: int) -> None:
    """Close the job's stages, and the ranges that nobody holds; the others are closed when their leases end."""
    stages = tx.rows("select stage_id from stageflow_stages where job_id = ? and run = ?", (job_id, run))
    for (stage_id,) in stages:
        tx.run(
            "delete from stageflow_ranges where stage_id = ? and kind <> 'task' and state in ('ready', 'waiting', 'held')",
            (stage_id,),
        )
        close_waiting(tx, stage_id, TaskStatus.CANCELLED)
    closed = tx.rows(
        "update stageflow_stages set status = 'cancelled', updated_at = ? where job_id = ? and run = ?"
        " and status in ('pending', 'planning', 'processing') returning stage_id",
        (tx.now, job_id, run),
    )
    for (stage_id,) in closed:
        note_stage_event(tx, stage_id, EventKind.STAGE_CLOSED, status="cancelled")


def _move(tx: Transaction, job_id: str, current: JobStatus, new_status: JobStatus) -> None:
    if new_status in TERMINAL_JOB_STATUSES:
        progress = _read_progress(tx, job_id)
        if not progress.is_complete or progress.has_failed:
            msg = f"job {job_id} has open or failed stages and cannot become {new_status}; use check_job_completion"
            raise StoreStateError(msg)
        tx.job_ended = True
    tx.run("update stageflow_jobs set status = ?, updated_at = ? where job_id = ?", (new_status.value, tx.now, job_id))
    if new_status in TERMINAL_JOB_STATUSES:
        note_event(tx, job_id, EventKind.JOB_ENDED, status=new_status.value)
    elif new_status is JobStatus.PAUSED:
        note_event(tx, job_id, EventKind.JOB_PAUSED, status=new_status.value)
    elif current is JobStatus.PAUSED:
        note_event(tx, job_id, EventKind.JOB_RESUMED, status=new_status.value)
    if current is JobStatus.PAUSED:
        _open_held(tx, job_id)


def _open_held(tx: Transaction, job_id: str) -> None:
    """Make held work ready, except tasks that wait for the end of their planning."""
    stages = tx.rows(
        "select s.stage_id, s.planned from stageflow_jobs j join stageflow_stages s on s.job_id = j.job_id and s.run = j.run"
        " where j.job_id = ?",
        (job_id,),
    )
    opened = sum(
        tx.run(
            "update stageflow_ranges set state = 'ready', announced_at = null"
            " where stage_id = ? and state = 'held' and (kind <> 'task' or ?)",
            (stage_id, planned),
        )
        for stage_id, planned in stages
    )
    if opened:
        tx.work_ready = True


def _may_go_on(tx: Transaction, control: Work) -> bool:
    if control.job_ended:
        drop_control(tx, control)
        return False
    if control.job_paused:
        hold_range(tx, control.range_id)
        return False
    return True


def _all_skipped(stages: Sequence[NewStage]) -> Sequence[NewStage]:
    if not all(stage.skipped for stage in stages):
        msg = "check_job_completion takes skipped stages only; open the others by advance_job_stage"
        raise StoreStateError(msg)
    return stages


def _complete_job(tx: Transaction, job_id: str, progress: _Progress, result_data: str | None) -> None:
    if progress.has_failed:
        msg = f"job {job_id} has a failed stage and cannot complete; end it by end_job"
        raise StoreStateError(msg)
    with_errors = any(stage.status == StageStatus.COMPLETED_WITH_ERRORS for stage in progress.stages)
    status = JobStatus.COMPLETED_WITH_ERRORS if with_errors else JobStatus.COMPLETED
    tx.run(
        "update stageflow_jobs set status = ?, result_data = ?, updated_at = ? where job_id = ?",
        (status.value, result_data, tx.now, job_id),
    )
    note_event(tx, job_id, EventKind.JOB_ENDED, status=status.value)
    tx.job_ended = True


def _read_progress(tx: Transaction, job_id: str) -> _Progress:
    job = tx.row("select status, total_stages, run from stageflow_jobs where job_id = ?", (job_id,))
    if job is None:
        msg = f"job {job_id} is not stored; use the job_id that submit returned"
        raise JobNotFoundError(msg)
    rows = tx.rows(
        "select coalesce(taken_from, stage_id), stage_number, status, group_last, task_count, successful_tasks, failed_tasks"
        " from stageflow_stages where job_id = ? and run = ? order by stage_number",
        (job_id, job[2]),
    )
    return _Progress(status_from_text(JobStatus, job[0]), job[1], [_StageEnd._make(row) for row in rows])


def _report(tx: Transaction, job_id: str, *, updated: bool) -> JobCompletionResult:
    progress = _read_progress(tx, job_id)
    closed = progress.closed
    return JobCompletionResult(
        job_id=job_id,
        job_complete=progress.is_complete,
        job_updated=updated,
        status=progress.status,
        final_stage=closed[-1].stage_number if closed else 0,
        total_tasks=sum(stage.task_count for stage in closed),
        successful_tasks=sum(stage.successful for stage in closed),
        failed_tasks=sum(stage.failed for stage in closed),
    )


def _read_final_results(tx: Transaction, job_id: str) -> list[TaskResult]:
    closed = _read_progress(tx, job_id).closed
    return read_task_results(tx, closed[-1].stage_id, first_index=0, limit=HYDRATED_RESULTS) if closed else []
