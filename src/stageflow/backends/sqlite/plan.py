"""Fan-out: a stage's tasks, written chunk by chunk under the plan lease."""

from collections.abc import Iterator, Sequence

from stageflow.backends.sqlite.allowances import allowance_of, use_starts
from stageflow.backends.sqlite.barrier import drop_control, open_barrier
from stageflow.backends.sqlite.clock import span_micros
from stageflow.backends.sqlite.connection import Transaction, Value
from stageflow.backends.sqlite.decisions import split_evenly
from stageflow.backends.sqlite.events import note_stage_event
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import (
    Holder,
    Work,
    delete_range,
    get_leased,
    hold_range,
    insert_range,
    json_list,
    lease_head,
)
from stageflow.contracts.event import EventKind
from stageflow.contracts.ids import task_work_type
from stageflow.contracts.lease import Lease, WorkKind
from stageflow.contracts.plan import FirstLease, PlanAnswer, PlanChunk, PlanOutcome
from stageflow.errors import InvalidValueError, StoreStateError

_STARTED = (
    "select 1 from stageflow_results where stage_id = ?1 union all select 1 from stageflow_ranges"
    " where stage_id = ?1 and kind = 'task' and state not in ('ready', 'waiting', 'held') limit 1"
)


class SqlitePlan(StorePart):
    """Writes plans."""

    def add_tasks(self, chunk: PlanChunk) -> PlanOutcome:
        """Write a chunk of a stage's tasks and their ranges.

        Only the holder of the plan lease can, and only from the stage's ``task_count`` on.

        Raises:
            StoreStateError: ``first_index`` is not the stage's ``task_count``, or a task of a plan to be replaced has started.
            InvalidValueError: A key is there twice; nothing was written.
        """
        with self._database.transaction() as tx:
            return _add_tasks(tx, chunk)

    def add_tasks_and_lease(self, chunks: Sequence[PlanChunk], wishes: Sequence[FirstLease]) -> list[PlanAnswer]:
        """Write chunks of several stages, and lease the first tasks of each to its planner, all in one transaction."""
        with self._database.transaction() as tx:
            return [_add_and_lease(tx, chunk, wish) for chunk, wish in zip(chunks, wishes, strict=True)]


def _add_and_lease(tx: Transaction, chunk: PlanChunk, wish: FirstLease) -> PlanAnswer:
    outcome = _add_tasks(tx, chunk)
    lease = _lease_first(tx, chunk, wish) if outcome is PlanOutcome.RECORDED else None
    return PlanAnswer(outcome=outcome, lease=lease)


def _add_tasks(tx: Transaction, chunk: PlanChunk) -> PlanOutcome:
    plan = get_leased(tx, chunk.range_id, chunk.token)
    if plan is None or plan.kind != WorkKind.PLAN or plan.stage_id != chunk.stage_id:
        return PlanOutcome.STALE
    if plan.job_ended:
        drop_control(tx, plan)
        return PlanOutcome.JOB_ENDED
    if plan.job_paused:
        hold_range(tx, plan.range_id)
        return PlanOutcome.PAUSED
    if chunk.replace:
        _forget_tasks(tx, plan.stage_id)
    _require_next_index(tx, plan, chunk)
    if chunk.parameters:
        _insert_tasks(tx, chunk)
        _insert_ranges(tx, plan, chunk)
    _count_tasks(tx, chunk)
    if chunk.final:
        planned = (0, chunk.first_index + len(chunk.parameters))
        note_stage_event(tx, plan.stage_id, EventKind.STAGE_PLANNED, tasks=planned, worker_id=plan.worker_id)
        _end_planning(tx, plan)
    return PlanOutcome.RECORDED


def _lease_first(tx: Transaction, chunk: PlanChunk, wish: FirstLease) -> Lease | None:
    row = tx.row(
        "select w.* from stageflow_ranges r cross join stageflow_work w on w.range_id = r.range_id"
        " where r.stage_id = ? and r.first = ? and r.kind = 'task' and r.state = 'ready'",
        (chunk.stage_id, chunk.first_index),
    )
    work = None if row is None else Work._make(row)
    if work is None or work.halted:
        return None
    allowance = allowance_of(tx, work, wish.max_tasks)
    if not allowance.tasks:
        return None
    holder = Holder(wish.worker_id, tx.now + span_micros(wish.lease_seconds))
    lease, _ = lease_head(tx, work, allowance.tasks, holder)
    use_starts(tx, work.work_type, lease)
    return lease


def _forget_tasks(tx: Transaction, stage_id: int) -> None:
    if tx.row(_STARTED, (stage_id,)) is not None:
        msg = f"tasks of stage {stage_id} have started, so its plan cannot be replaced; plan with claimable=False"
        raise StoreStateError(msg)
    tx.run("delete from stageflow_ranges where stage_id = ? and kind = 'task'", (stage_id,))
    tx.run("delete from stageflow_tasks where stage_id = ?", (stage_id,))
    tx.run("update stageflow_stages set task_count = 0, remaining = 0, plan_digest = '' where stage_id = ?", (stage_id,))


def _require_next_index(tx: Transaction, plan: Work, chunk: PlanChunk) -> None:
    row = tx.row("select task_count from stageflow_stages where stage_id = ?", (plan.stage_id,))
    task_count = None if row is None else row[0]
    if task_count != chunk.first_index:
        msg = (
            f"a chunk of stage {plan.stage_number} of job {plan.job_id} begins at task {chunk.first_index}, but {task_count} "
            f"tasks are stored; go on from there, or set replace to plan the stage anew"
        )
        raise StoreStateError(msg)


def _insert_tasks(tx: Transaction, chunk: PlanChunk) -> None:
    _require_new_keys(tx, chunk)
    tx.run_many(
        "insert into stageflow_tasks (stage_id, task_index, parameters, key) values (?, ?, ?, ?)",
        _task_rows(chunk),
    )


def _task_rows(chunk: PlanChunk) -> Iterator[tuple[Value, ...]]:
    stage_id, first = chunk.stage_id, chunk.first_index
    if not chunk.keys:
        return ((stage_id, index, text, None) for index, text in enumerate(chunk.parameters, first))
    pairs = zip(chunk.parameters, chunk.keys, strict=True)
    return ((stage_id, index, text, key) for index, (text, key) in enumerate(pairs, first))


def _require_new_keys(tx: Transaction, chunk: PlanChunk) -> None:
    seen: dict[str, None] = {}
    for key in chunk.keys:
        if key is not None and key in seen:
            raise _doubled(key)
        if key is not None:
            seen[key] = None
    if seen:
        stored = tx.row(
            "select t.key from json_each(?) asked cross join stageflow_tasks t on t.stage_id = ?"
            " and t.key = asked.value order by asked.key limit 1",
            (json_list(list(seen)), chunk.stage_id),
        )
        if stored is not None:
            raise _doubled(stored[0])


def _doubled(key: str) -> InvalidValueError:
    return InvalidValueError(
        f"two tasks of the stage have the key '{key}'; nothing was written: give each task its own key, or none"
    )


def _insert_ranges(tx: Transaction, plan: Work, chunk: PlanChunk) -> None:
    work_type = task_work_type(plan.job_type, plan.workflow_version, plan.task_type)
    first, last = chunk.first_index, chunk.first_index + len(chunk.parameters)
    row = tx.row(
        "select turn from stageflow_ranges where work_type = ? and state = 'ready' and priority = ? order by turn limit 1",
        (work_type, plan.priority),
    )
    before = tx.row("select range_count from stageflow_stages where stage_id = ?", (plan.stage_id,))
    planned = 0 if before is None else before[0]
    pieces = list(split_evenly(first, last, chunk.range_count if chunk.claimable else 1))
    # Each range of a stage has a turn of its own and goes on by their number: stages take turns, however many ranges they have.
    for turn, (start, end) in enumerate(pieces, (0 if row is None else row[0]) + planned):
        insert_range(
            tx,
            stage_id=plan.stage_id,
            kind=WorkKind.TASK.value,
            work_type=work_type,
            first=start,
            last=end,
            state="ready" if chunk.claimable else "held",
            priority=plan.priority,
            generation=plan.generation,
            turn=turn,
            stride=planned + len(pieces),
        )
    tx.run("update stageflow_stages set range_count = range_count + ? where stage_id = ?", (len(pieces), plan.stage_id))


def _count_tasks(tx: Transaction, chunk: PlanChunk) -> None:
    tx.run(
        "update stageflow_stages set task_count = task_count + ?, remaining = remaining + ?, plan_digest = ?, updated_at = ?,"
        " planned = ?, status = ? where stage_id = ?",
        (
            len(chunk.parameters),
            len(chunk.parameters),
            chunk.digest,
            tx.now,
            int(chunk.final),
            "processing" if chunk.final else "planning",
            chunk.stage_id,
        ),
    )


def _end_planning(tx: Transaction, plan: Work) -> None:
    delete_range(tx, plan.range_id)
    opened = tx.run(
        "update stageflow_ranges set state = 'ready', announced_at = null where stage_id = ? and kind = 'task'"
        " and state = 'held'",
        (plan.stage_id,),
    )
    if opened:
        tx.work_ready = True
    open_barrier(tx, plan.stage_id)
