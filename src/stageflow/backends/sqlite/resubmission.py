"""Jobs that failed or were cancelled, run again."""

from stageflow.backends.sqlite.clock import to_micros
from stageflow.backends.sqlite.connection import Row, Transaction
from stageflow.backends.sqlite.events import note_event, note_stage_event
from stageflow.backends.sqlite.jobs import read_jobs
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import insert_range
from stageflow.backends.sqlite.stages import INSERT_STAGE, stage_values
from stageflow.contracts.event import EventKind
from stageflow.contracts.ids import control_work_type
from stageflow.contracts.job import JobRecord
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.resubmission import NewRun, require_resubmittable
from stageflow.contracts.status import JobStatus, status_from_text
from stageflow.errors import InvalidTransitionError, StoreStateError

_TAKE_OVER = (
    "insert into stageflow_stages (job_id, run, stage_number, generation, name, task_type, status, task_count, remaining,"
    " successful_tasks, failed_tasks, skipped_tasks, cancelled_tasks, planned, halted, plan_digest, fail_fast,"
    " minimum_success_rate, group_first, group_last, stored_result, taken_from, created_at, updated_at)"
    " select job_id, run + 1, stage_number, generation, name, task_type, status, task_count, remaining, successful_tasks,"
    " failed_tasks, skipped_tasks, cancelled_tasks, planned, halted, plan_digest, fail_fast, minimum_success_rate,"
    " group_first, group_last, stored_result, coalesce(taken_from, stage_id), created_at, updated_at"
    " from stageflow_stages where job_id = ?1 and run = ?2 and stage_number between ?3 and ?4 and group_last <= ?5"
    " and status in ('completed', 'completed_with_errors', 'skipped') and stored_result is not null order by stage_number"
)


class SqliteResubmission(StorePart):
    """Opens new runs of jobs that ended badly."""

    def resubmit_job(self, new_run: NewRun) -> JobRecord | None:
        """Queue a failed or cancelled job with a run of its own; ``None`` where it does not exist.

        Whatever of the former run is still leased or ready sees a job that has ended (the view ``stageflow_work``).

        Raises:
            InvalidTransitionError: The job has not failed and is not cancelled, or is in another run; nothing changed.
            StoreStateError: A stage that is to be taken over did not complete; nothing changed.
        """
        with self._database.transaction() as tx:
            job = tx.row(
                "select status, run, job_type, workflow_version, priority, not_before from stageflow_jobs where job_id = ?",
                (new_run.job_id,),
            )
            if job is None:
                return None
            require_resubmittable(new_run.job_id, status_from_text(JobStatus, job[0]))
            if job[1] != new_run.former_run:
                msg = (
                    f"job {new_run.job_id} is in run {job[1]}, not {new_run.former_run}: it was resubmitted meanwhile; "
                    "look at it again"
                )
                raise InvalidTransitionError(msg)
            _take_over(tx, new_run)
            tx.run(
                "update stageflow_jobs set status = 'queued', run = run + 1, stage = ?, result_data = null,"
                " error_details = null, deadline = ?, timeout_seconds = coalesce(?, timeout_seconds), updated_at = ?"
                " where job_id = ?",
                (
                    new_run.from_stage,
                    None if new_run.deadline is None else to_micros(new_run.deadline),
                    new_run.timeout_seconds,
                    tx.now,
                    new_run.job_id,
                ),
            )
            note_event(tx, new_run.job_id, EventKind.JOB_RESUBMITTED, status="queued", stage_number=new_run.from_stage)
            _open(tx, new_run, job)
            return read_jobs(tx, [new_run.job_id])[0]


def take_over_stages(tx: Transaction, job_id: str, run: int, *, first: int, last: int, group_last: int) -> int:
    """Make completed stages of a run, in groups that end in time, stages of the next run as well; return how many."""
    return tx.run(_TAKE_OVER, (job_id, run, first, last, group_last))


def _take_over(tx: Transaction, new_run: NewRun) -> None:
    before = new_run.from_stage - 1
    done = take_over_stages(tx, new_run.job_id, new_run.former_run, first=1, last=before, group_last=before)
    if done != new_run.from_stage - 1:
        msg = (
            f"job {new_run.job_id} cannot go on from stage {new_run.from_stage}: only {done} stages before it completed in run "
            f"{new_run.former_run}; resubmit the whole job."
        )
        raise StoreStateError(msg)


def _open(tx: Transaction, new_run: NewRun, job: Row) -> None:
    _, _, job_type, workflow_version, priority, not_before = job
    waits = not_before is not None and not_before > tx.now
    for stage in new_run.stages:
        stage_id = tx.insert(INSERT_STAGE, stage_values(new_run.job_id, new_run.former_run + 1, stage, tx.now))
        note_stage_event(tx, stage_id, EventKind.STAGE_OPENED)
        insert_range(
            tx,
            stage_id=stage_id,
            kind=WorkKind.PLAN.value,
            work_type=control_work_type(job_type, workflow_version),
            first=0,
            last=1,
            state="waiting" if waits else "ready",
            priority=priority,
            not_before=not_before if waits else None,
        )
