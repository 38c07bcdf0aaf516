"""One unfinished task, ended or requeued by an operator's hand."""

from stageflow.backends.sqlite.barrier import count_off, tally_of
from stageflow.backends.sqlite.checkpoints import forget_checkpoints
from stageflow.backends.sqlite.completion import INSERT_RESULT, NO_TOKEN
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.events import note_stage_event
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Work, delete_range, insert_part, insert_range
from stageflow.contracts.event import EventKind
from stageflow.contracts.status import TERMINAL_TASK_STATUSES, TaskStatus
from stageflow.errors import StoreStateError

_DEFAULT_ERRORS = {
    TaskStatus.FAILED: "failed by an operator",
    TaskStatus.SKIPPED: "skipped by an operator",
    TaskStatus.CANCELLED: "cancelled by an operator",
}


class SqliteClosing(StorePart):
    """Closes single tasks."""

    def close_task(
        self,
        job_id: str,
        stage_number: int,
        task_index: int,
        status: TaskStatus,
        error_details: str | None,
    ) -> bool:
        """End or requeue one unfinished task; ``False`` where it has ended, or is not stored.

        ``QUEUED`` takes a leased task from its holder; ``FAILED``, ``SKIPPED`` and ``CANCELLED`` record that as its result. A
        holder keeps what is before the task; what is after it becomes ready.

        Raises:
            StoreStateError: ``PROCESSING`` and ``COMPLETED`` need a lease.
        """
        if status is not TaskStatus.QUEUED and status not in _DEFAULT_ERRORS:
            msg = f"a task becomes {status} only under its lease; use claim and complete_tasks"
            raise StoreStateError(msg)
        with self._database.transaction() as tx:
            work = _find(tx, job_id, stage_number, task_index)
            if work is None:
                return False
            if status is TaskStatus.QUEUED and (work.job_ended or work.state != "leased"):
                return not work.job_ended
            _take_out(tx, work, task_index)
            note_stage_event(
                tx,
                work.stage_id,
                EventKind.TASK_CLOSED,
                status=status.value,
                tasks=(task_index, task_index + 1),
                attempt=work.attempt,
                worker_id=work.worker_id,
                detail=error_details,
            )
            if status in TERMINAL_TASK_STATUSES:
                _record(tx, work, task_index, status, error_details or _DEFAULT_ERRORS[status])
            else:
                _requeue(tx, work, task_index, error_details)
            return True


def _find(tx: Transaction, job_id: str, stage_number: int, task_index: int) -> Work | None:
    row = tx.row(
        "select w.* from stageflow_jobs j cross join stageflow_stages s"
        " on s.job_id = j.job_id and s.run = j.run and s.stage_number = ?2"
        " cross join stageflow_work w on w.stage_id = s.stage_id where j.job_id = ?1 and w.kind = 'task' and w.first <= ?3"
        " and w.last > ?3 and w.state in ('ready', 'leased', 'waiting', 'held') order by w.generation desc limit 1",
        (job_id, stage_number, task_index),
    )
    return None if row is None else Work._make(row)


def _take_out(tx: Transaction, work: Work, index: int) -> None:
    """Take one index out of an open range: what is before it keeps the row, what is after it becomes a row of its own."""
    if index + 1 < work.last:
        insert_part(tx, work, index + 1, work.last, state="ready" if work.state == "leased" else work.state)
    if index > work.first:
        tx.run("update stageflow_ranges set last = ?, announced_at = null where range_id = ?", (index, work.range_id))
    else:
        delete_range(tx, work.range_id)


def _record(tx: Transaction, work: Work, index: int, status: TaskStatus, error_details: str) -> None:
    tx.run(
        INSERT_RESULT,
        (work.stage_id, index, work.generation, work.attempt, status.value, None, error_details, 0.0, NO_TOKEN, tx.now),
    )
    forget_checkpoints(tx, work.stage_id, [index])
    count_off(tx, work.stage_id, tally_of(status, 1))


def _requeue(tx: Transaction, work: Work, index: int, error_details: str | None) -> None:
    insert_range(
        tx,
        stage_id=work.stage_id,
        kind=work.kind,
        work_type=work.work_type,
        first=index,
        last=index + 1,
        state="ready",
        priority=work.priority,
        generation=work.generation,
        turn=work.turn,
        attempt=work.attempt + 1,
        error_details=error_details,
    )
