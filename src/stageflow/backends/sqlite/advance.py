"""A finished stage's result is stored, and what follows it is opened, exactly once."""

from collections.abc import Sequence
from typing import NamedTuple

from stageflow.backends.sqlite.barrier import close_waiting, drop_control
from stageflow.backends.sqlite.clock import span_micros
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.events import note_stage_event
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Holder, Work, delete_range, get_leased, get_work, hold_range, lease_range
from stageflow.backends.sqlite.stages import open_stages, store_stage_result
from stageflow.contracts.advancement import AdvanceOutcome, StageAdvance, StageAdvancementResult
from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.event import EventKind
from stageflow.contracts.lease import Lease, WorkKind
from stageflow.contracts.stage import NewStage
from stageflow.contracts.status import TERMINAL_STAGE_STATUSES, StageStatus, TaskStatus
from stageflow.errors import StoreStateError


class _Stage(NamedTuple):
    stage_id: int
    job_id: str
    run: int
    stage_number: int
    status: str
    remaining: int
    planned: int
    group_first: int
    group_last: int
    has_result: int


class SqliteAdvance(StorePart):
    """Moves jobs from stage to stage."""

    def advance_job_stages(
        self,
        advances: Sequence[StageAdvance],
        *,
        worker_id: str,
        lease_seconds: float,
    ) -> list[StageAdvancementResult]:
        """Store stages' results and open what follows them; each by compare-and-set on its job's stage and on processing.

        Raises:
            StoreStateError: A stage is unknown or unfinished, or its job is not at it; nothing was written.
        """
        with self._database.transaction() as tx:
            holder = Holder(worker_id, tx.now + span_micros(lease_seconds))
            return [_advance(tx, advance, holder) for advance in advances]


def _advance(tx: Transaction, asked: StageAdvance, holder: Holder) -> StageAdvancementResult:
    stage = _get_stage(tx, asked.stage_id)
    advance = get_leased(tx, asked.range_id, asked.token)
    if advance is None or advance.kind != WorkKind.ADVANCE or advance.stage_id != asked.stage_id:
        gone = get_work(tx, asked.range_id) is None
        closed = gone and stage.has_result and stage.status in TERMINAL_STAGE_STATUSES
        return _answer(tx, stage, AdvanceOutcome.ALREADY_ADVANCED if closed else AdvanceOutcome.STALE)
    if advance.job_ended:
        drop_control(tx, advance)
        return _answer(tx, stage, AdvanceOutcome.JOB_ENDED)
    if advance.job_paused:
        hold_range(tx, asked.range_id)
        return _answer(tx, stage, AdvanceOutcome.PAUSED)
    _require_finished(stage)
    store_stage_result(tx, asked.stage_id, asked.stage_status, asked.stage_result)
    verdict = _close_in_group(tx, stage, asked.stage_status)
    if verdict is AdvanceOutcome.SIBLINGS_OPEN:
        delete_range(tx, asked.range_id)
    if verdict is not None:
        return _answer(tx, stage, verdict)
    if not asked.next_stages:
        return _answer(tx, stage, AdvanceOutcome.GROUP_CLOSED)
    plan = _open_next(tx, stage, advance, asked.next_stages, holder)
    return _answer(tx, stage, AdvanceOutcome.ADVANCED, plan)


def _get_stage(tx: Transaction, stage_id: int) -> _Stage:
    row = tx.row(
        "select stage_id, job_id, run, stage_number, status, remaining, planned, group_first, group_last,"
        " stored_result is not null"
        " from stageflow_stages where stage_id = ?",
        (stage_id,),
    )
    if row is None:
        msg = f"stage {stage_id} is not stored; advance with the stage_id of the lease"
        raise StoreStateError(msg)
    return _Stage._make(row)


def _require_finished(stage: _Stage) -> None:
    if stage.remaining or not stage.planned:
        msg = (
            f"stage {stage.stage_number} of job {stage.job_id} cannot advance: {stage.remaining} tasks remain"
            f"{'' if stage.planned else ' and it is still being planned'}; {MEND_ROW}"
        )
        raise StoreStateError(msg)


def _close_in_group(tx: Transaction, stage: _Stage, stage_status: str) -> AdvanceOutcome | None:
    """Return what holds the job at this group of stages; ``None`` where all are closed and none failed."""
    siblings = tx.rows(
        "select stage_id, status from stageflow_stages where job_id = ? and run = ? and group_first = ? and stage_id <> ?"
        " order by stage_number",
        (stage.job_id, stage.run, stage.group_first, stage.stage_id),
    )
    still_open = [stage_id for stage_id, status in siblings if status not in TERMINAL_STAGE_STATUSES]
    if still_open:
        if stage_status == StageStatus.FAILED:
            for stage_id in still_open:
                _halt(tx, stage_id)
                close_waiting(tx, stage_id, TaskStatus.SKIPPED)
        return AdvanceOutcome.SIBLINGS_OPEN
    stored = tx.row("select status from stageflow_stages where stage_id = ?", (stage.stage_id,))
    statuses = [status for _, status in siblings] + ([] if stored is None else [stored[0]])
    return AdvanceOutcome.GROUP_FAILED if StageStatus.FAILED in statuses else None


def _halt(tx: Transaction, stage_id: int) -> None:
    halted = tx.run(
        "update stageflow_stages set halted = 1, updated_at = ? where stage_id = ? and halted = 0", (tx.now, stage_id)
    )
    if halted:
        note_stage_event(tx, stage_id, EventKind.STAGE_HALTED, detail="a sibling failed")


def _open_next(tx: Transaction, stage: _Stage, advance: Work, next_stages: Sequence[NewStage], holder: Holder) -> Lease:
    opened = next((new for new in next_stages if not new.skipped), None)
    if opened is None:
        msg = f"every stage after {stage.stage_number} of job {stage.job_id} is skipped; end the job by check_job_completion"
        raise StoreStateError(msg)
    moved = tx.row(
        "update stageflow_jobs set stage = ?, updated_at = ? where job_id = ? and run = ? and stage = ?"
        " and status = 'processing'"
        " returning job_id, run, job_type, workflow_version, priority",
        (opened.group_first, tx.now, stage.job_id, stage.run, stage.group_first),
    )
    if moved is None:
        raise _not_at_stage(tx, stage)
    delete_range(tx, advance.range_id)
    plan_id = open_stages(tx, moved, next_stages)
    plan = None if plan_id is None else get_work(tx, plan_id)
    if plan is None:
        msg = f"the work of planning stage {opened.stage_number} of job {stage.job_id} was not opened; {MEND_ROW}"
        raise StoreStateError(msg)
    return lease_range(tx, plan, holder)


def _not_at_stage(tx: Transaction, stage: _Stage) -> StoreStateError:
    job = tx.row("select status, stage, run from stageflow_jobs where job_id = ?", (stage.job_id,))
    place = "is not stored" if job is None else f"is {job[0]} at stage {job[1]} of run {job[2]}"
    return StoreStateError(
        f"job {stage.job_id} {place} and cannot advance from stage {stage.stage_number} of run {stage.run}; {MEND_ROW}",
    )


def _answer(tx: Transaction, stage: _Stage, outcome: AdvanceOutcome, plan: Lease | None = None) -> StageAdvancementResult:
    row = tx.row(
        "select j.stage, coalesce(s.group_last, j.stage), j.total_stages from stageflow_jobs j left join stageflow_stages s"
        " on s.job_id = j.job_id and s.run = j.run and s.stage_number = j.stage where j.job_id = ?",
        (stage.job_id,),
    )
    if row is None:
        msg = f"job {stage.job_id} of stage {stage.stage_id} is not stored; {MEND_ROW}"
        raise StoreStateError(msg)
    new_stage, group_last, total_stages = row
    return StageAdvancementResult(
        outcome=outcome,
        job_updated=outcome is AdvanceOutcome.ADVANCED,
        new_stage=new_stage,
        is_final_stage=group_last == total_stages,
        plan=plan,
    )
