"""What the doctor mends; each function looks again under the database's write lock."""

from typing import Final, NamedTuple

from stageflow.backends.sqlite.audits import list_gaps, tally_rows
from stageflow.backends.sqlite.barrier import Tally, count_off
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import insert_range
from stageflow.contracts.ids import control_work_type, task_work_type
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.status import TERMINAL_JOB_STATUSES, TERMINAL_STAGE_STATUSES

_OPEN_STAGE: Final = (
    "select s.stage_id, s.status, s.task_type, s.generation, s.task_count, s.remaining, s.successful_tasks, s.failed_tasks,"
    " s.skipped_tasks, s.cancelled_tasks, s.planned, j.status, j.job_type, j.workflow_version, j.priority"
    " from stageflow_stages s join stageflow_jobs j on j.job_id = s.job_id where s.stage_id = ?"
)
_SET_COUNTERS: Final = (
    "update stageflow_stages set remaining = ?, successful_tasks = ?, failed_tasks = ?, skipped_tasks = ?, cancelled_tasks = ?,"
    " updated_at = ? where stage_id = ?"
)


class _Stage(NamedTuple):
    stage_id: int
    status: str
    task_type: str
    generation: int
    task_count: int
    remaining: int
    successful: int
    failed: int
    skipped: int
    cancelled: int
    planned: int
    job_status: str
    job_type: str
    workflow_version: int
    priority: int

    @property
    def counters(self) -> tuple[int, int, int, int, int]:
        return self.remaining, self.successful, self.failed, self.skipped, self.cancelled


class SqliteMending(StorePart):
    """Satisfies the mending half of ``stageflow.ports.AuditStore``."""

    def mend_movers(self, stage_id: int) -> int:
        """Make ready ranges of the tasks that have neither a result nor a range; returns how many tasks these are.

        They are held while the stage's other tasks wait for the end of its planning.
        """
        with self._database.transaction() as tx:
            stage = _open_stage(tx, stage_id)
            if stage is None:
                return 0
            ((defined,),) = tx.rows(
                "select coalesce(max(task_index) + 1, 0) from stageflow_tasks where stage_id = ?", (stage_id,)
            )
            gaps = list_gaps(tx, stage_id, min(stage.task_count, defined))
            state = "ready" if stage.planned or _has_free_tasks(tx, stage_id) else "held"
            for first, last in gaps:
                insert_range(
                    tx,
                    stage_id=stage_id,
                    kind=WorkKind.TASK.value,
                    work_type=task_work_type(stage.job_type, stage.workflow_version, stage.task_type),
                    first=first,
                    last=last,
                    state=state,
                    priority=stage.priority,
                    generation=stage.generation,
                )
            return sum(last - first for first, last in gaps)

    def mend_counters(self, stage_id: int) -> bool:
        """Set a stage's counters to what its rows add up to, if these cover each task exactly once.

        ``False``, and nothing changed, where they agree already, where the rows themselves are wrong, where somebody is at an
        advancement that the wrong counters opened, and for repaired stages, whose older rows stand beside the newer.
        """
        with self._database.transaction() as tx:
            stage = _open_stage(tx, stage_id)
            if stage is None or stage.generation > 1:
                return False
            tally = tally_rows(tx, stage_id, stage.task_count)
            found = tally.open_tasks, tally.completed, tally.failed, tally.skipped, tally.cancelled
            if tally.missing or tally.doubled or sum(found) != stage.task_count or found == stage.counters:
                return False
            if tally.open_tasks and not _take_back_advance(tx, stage_id):
                return False
            tx.run(_SET_COUNTERS, (*found, tx.now, stage_id))
            count_off(tx, stage_id, Tally())
            _open_control(tx, stage_id)
            return True

    def mend_control(self, stage_id: int) -> bool:
        """Make the planning of a stage ready that has none and needs it, or its advancement."""
        with self._database.transaction() as tx:
            return _open_control(tx, stage_id)


def _open_stage(tx: Transaction, stage_id: int) -> _Stage | None:
    row = tx.row(_OPEN_STAGE, (stage_id,))
    if row is None:
        return None
    stage = _Stage._make(row)
    return None if stage.status in TERMINAL_STAGE_STATUSES or stage.job_status in TERMINAL_JOB_STATUSES else stage


def _has_free_tasks(tx: Transaction, stage_id: int) -> bool:
    return (
        tx.row("select 1 from stageflow_ranges where stage_id = ? and kind = 'task' and state <> 'held' limit 1", (stage_id,))
        is not None
    )


def _take_back_advance(tx: Transaction, stage_id: int) -> bool:
    """Delete an advancement that nobody is at; ``False`` where somebody is."""
    leased = tx.row(
        "select 1 from stageflow_ranges where stage_id = ? and kind = 'advance' and state = 'leased'",
        (stage_id,),
    )
    if leased is not None:
        return False
    tx.run("delete from stageflow_ranges where stage_id = ? and kind = 'advance'", (stage_id,))
    return True


def _open_control(tx: Transaction, stage_id: int) -> bool:
    stage = _open_stage(tx, stage_id)
    if stage is None or (stage.planned and stage.remaining):
        return False
    present = tx.row(
        "select 1 from stageflow_ranges where stage_id = ?1"
        " and (kind <> 'task' or (?2 and state in ('ready', 'leased', 'waiting', 'held')))",
        (stage_id, stage.planned),
    )
    if present is not None:
        return False
    if stage.planned:
        count_off(tx, stage_id, Tally())
        return True
    insert_range(
        tx,
        stage_id=stage_id,
        kind=WorkKind.PLAN.value,
        work_type=control_work_type(stage.job_type, stage.workflow_version),
        first=0,
        last=1,
        state="ready",
        priority=stage.priority,
        generation=stage.generation,
    )
    return True
