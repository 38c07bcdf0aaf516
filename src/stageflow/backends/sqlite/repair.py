"""Finished stages, repaired: chosen tasks of them run again."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.events import note_stage_event
from stageflow.backends.sqlite.jobs import read_jobs
from stageflow.backends.sqlite.outcomes import list_closed, spread_out
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import insert_range, json_list
from stageflow.backends.sqlite.resubmission import take_over_stages
from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.event import EventKind
from stageflow.contracts.ids import task_work_type
from stageflow.contracts.job import JobRecord
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.repair import REPAIRABLE, StageRepair, require_repairable
from stageflow.contracts.status import JobStatus, status_from_text
from stageflow.errors import InvalidTransitionError, StoreStateError

_KEEP = (
    "insert into stageflow_results (stage_id, task_index, generation, attempt, status, result, error_details, seconds, token,"
    " completed_at) select ?1, task_index, ?2, attempt, status, result, error_details, seconds, 0, completed_at"
    " from stageflow_results r where stage_id = ?3 and task_index not in (select value from json_each(?4))"
    " and not exists (select 1 from stageflow_results n where n.stage_id = r.stage_id and n.task_index = r.task_index"
    " and n.generation > r.generation)"
)
_KEEP_CLOSED = (
    "insert into stageflow_results (stage_id, task_index, generation, attempt, status, error_details, seconds, token,"
    " completed_at) values (?, ?, ?, ?, ?, ?, 0, 0, ?)"
)
_COUNT = (
    "update stageflow_stages set (successful_tasks, failed_tasks, skipped_tasks, cancelled_tasks, remaining) = ("
    "select count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed'),"
    " count(*) filter (where status = 'skipped'), count(*) filter (where status = 'cancelled'), task_count - count(*)"
    " from stageflow_results r where r.stage_id = ?1) where stage_id = ?1 returning remaining"
)


class _Former(NamedTuple):
    """The stage as the former run left it."""

    source_id: int
    generation: int
    status: str
    task_count: int
    remaining: int
    plan_digest: str
    group_first: int
    group_last: int
    is_stored: int


class _Job(NamedTuple):
    status: str
    run: int
    job_type: str
    workflow_version: int
    priority: int


class SqliteRepair(StorePart):
    """Opens runs that repair a stage."""

    def repair_stage(self, repair: StageRepair) -> JobRecord | None:
        """Queue an ended job whose chosen tasks run again; ``None`` where it does not exist.

        Raises:
            InvalidTransitionError: The job has not ended, or is in another run; nothing changed.
            StoreStateError: The stage has no result in that run or no such tasks, or a stage that is to be taken over did not
                complete; nothing changed.
        """
        with self._database.transaction() as tx:
            row = tx.row(
                "select status, run, job_type, workflow_version, priority from stageflow_jobs where job_id = ?",
                (repair.job_id,),
            )
            if row is None:
                return None
            job = _Job._make(row)
            _require_present(repair, job)
            former = _require_finished(tx, repair)
            stage_id = _open(tx, repair, former)
            _keep(tx, repair, former, stage_id)
            _insert_ranges(tx, repair, job, stage_id, former.generation + 1)
            tx.run(
                "update stageflow_jobs set status = 'queued', run = run + 1, stage = ?, result_data = null,"
                " error_details = null, deadline = null, updated_at = ? where job_id = ?",
                (former.group_first, tx.now, repair.job_id),
            )
            chosen = (repair.tasks[0], repair.tasks[-1] + 1)
            note_stage_event(tx, stage_id, EventKind.STAGE_REPAIRED, status="processing", tasks=chosen, count=len(repair.tasks))
            return read_jobs(tx, [repair.job_id])[0]


def _require_present(repair: StageRepair, job: _Job) -> None:
    require_repairable(repair.job_id, status_from_text(JobStatus, job.status))
    if job.run != repair.former_run:
        msg = (
            f"job {repair.job_id} is in run {job.run}, not {repair.former_run}: it was resubmitted or repaired meanwhile; "
            "look at it again"
        )
        raise InvalidTransitionError(msg)


def _require_finished(tx: Transaction, repair: StageRepair) -> _Former:
    number = repair.stage.stage_number
    row = tx.row(
        "select coalesce(taken_from, stage_id), generation, status, task_count, remaining, plan_digest, group_first,"
        " group_last, stored_result is not null from stageflow_stages where job_id = ? and run = ? and stage_number = ?",
        (repair.job_id, repair.former_run, number),
    )
    former = None if row is None else _Former._make(row)
    if former is None or former.status not in REPAIRABLE or not former.is_stored or former.remaining:
        status = "not opened" if former is None else former.status
        msg = (
            f"stage {number} of job {repair.job_id} is {status} and has no result in run {repair.former_run}, so there is "
            "nothing to repair; resubmit the job."
        )
        raise StoreStateError(msg)
    if repair.tasks[-1] >= former.task_count:
        known = f"tasks 0 to {former.task_count - 1}" if former.task_count else "no tasks"
        msg = f"stage {number} of job {repair.job_id} has {known}, and not task {repair.tasks[-1]}; repair those it has."
        raise StoreStateError(msg)
    return former


def _open(tx: Transaction, repair: StageRepair, former: _Former) -> int:
    """Take the stages before and beside it over, and open the stage between them, so that ids ascend with numbers."""
    stage, job_id, run, last = repair.stage, repair.job_id, repair.former_run, former.group_last
    done = take_over_stages(tx, job_id, run, first=1, last=stage.stage_number - 1, group_last=last)
    stage_id = tx.insert(
        "insert into stageflow_stages (job_id, run, stage_number, generation, name, task_type, status, task_count, remaining,"
        " planned, plan_digest, fail_fast, minimum_success_rate, group_first, group_last, created_at, updated_at)"
        " values (?, ?, ?, ?, ?, ?, 'processing', ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
        (
            job_id,
            run + 1,
            stage.stage_number,
            former.generation + 1,
            stage.name,
            stage.task_type,
            former.task_count,
            former.task_count,
            former.plan_digest,
            int(stage.fail_fast),
            stage.minimum_success_rate,
            former.group_first,
            last,
            tx.now,
            tx.now,
        ),
    )
    done += take_over_stages(tx, job_id, run, first=stage.stage_number + 1, last=last, group_last=last)
    if done != last - 1:
        msg = (
            f"stage {stage.stage_number} of job {job_id} cannot be repaired alone: of the {last - 1} stages before and "
            f"beside it only {done} completed in run {run}; resubmit the job."
        )
        raise StoreStateError(msg)
    return stage_id


def _keep(tx: Transaction, repair: StageRepair, former: _Former, stage_id: int) -> None:
    """Copy all definitions, and the newest results of the tasks that were not chosen, under the former generation."""
    tx.run(
        "insert into stageflow_tasks (stage_id, task_index, parameters, key)"
        " select ?, task_index, parameters, key from stageflow_tasks where stage_id = ?",
        (stage_id, former.source_id),
    )
    chosen = frozenset(repair.tasks)
    tx.run(_KEEP, (stage_id, former.generation, former.source_id, json_list(list(repair.tasks))))
    closed = spread_out(list_closed(tx, former.source_id, 0, former.task_count), 0)
    tx.run_many(
        _KEEP_CLOSED,
        (
            (stage_id, each.task_index, former.generation, each.attempt, each.status, each.error_details, each.completed_at)
            for each in closed
            if each.task_index not in chosen
        ),
    )
    counted = tx.row(_COUNT, (stage_id,))
    missing = (0 if counted is None else counted[0]) - len(chosen)
    if missing:
        msg = f"results of {missing} tasks of stage {repair.stage.stage_number} of job {repair.job_id} are missing; {MEND_ROW}"
        raise StoreStateError(msg)


def _insert_ranges(tx: Transaction, repair: StageRepair, job: _Job, stage_id: int, generation: int) -> None:
    work_type = task_work_type(job.job_type, job.workflow_version, repair.stage.task_type)
    row = tx.row(
        "select turn from stageflow_ranges where work_type = ? and state = 'ready' and priority = ? order by turn limit 1",
        (work_type, job.priority),
    )
    pieces = list(_islands(repair.tasks))
    for turn, (first, last) in enumerate(pieces, 0 if row is None else row[0]):
        insert_range(
            tx,
            stage_id=stage_id,
            kind=WorkKind.TASK.value,
            work_type=work_type,
            first=first,
            last=last,
            state="ready",
            priority=job.priority,
            generation=generation,
            turn=turn,
            stride=len(pieces),
        )
    tx.run("update stageflow_stages set range_count = ? where stage_id = ?", (len(pieces), stage_id))


def _islands(indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield consecutive indexes as first and one past the last."""
    for _, run in groupby(enumerate(indexes), lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        yield members[0], members[-1] + 1
