"""Stages, tasks and results, to be read."""

from collections.abc import Sequence
from typing import NamedTuple

from stageflow.backends.sqlite.connection import Row, Transaction
from stageflow.backends.sqlite.outcomes import list_failed, list_outcomes
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import json_list
from stageflow.backends.sqlite.rows import (
    STAGE,
    STAGES_OF_RUN,
    Outcome,
    StageKey,
    get_stage_key,
    to_partial,
    to_result_rows,
    to_stage_record,
    to_task_record,
    to_task_result,
)
from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.partial import Partial
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import TaskStatus, status_from_text
from stageflow.contracts.task import TaskRecord, TaskResult
from stageflow.errors import MalformedRowError


class _Span(NamedTuple):
    first: int
    last: int
    generation: int
    attempt: int
    state: str
    error_details: str | None
    renewed_at: int | None


class SqliteTasks(StorePart):
    """Reads stages, tasks and results."""

    def get_stage(self, stage_id: int) -> StageRecord | None:
        """Return one stage."""
        with self._database.reading() as tx:
            row = tx.row(STAGE + "where stage_id = ?", (stage_id,))
        return None if row is None else to_stage_record(row)

    def list_stages(self, job_id: str, run: int) -> list[StageRecord]:
        """Return the stages of a job's run that were opened, by number."""
        with self._database.reading() as tx:
            rows = tx.rows(STAGES_OF_RUN, (job_id, run))
        return [to_stage_record(row) for row in rows]

    def count_running_tasks(self, stage_ids: Sequence[int]) -> list[int]:
        """Return for each stage, in the order asked, how many of its tasks are leased."""
        with self._database.reading() as tx:
            rows = tx.rows(
                "select (select coalesce(sum(r.last - r.first), 0) from stageflow_ranges r where r.stage_id = asked.value"
                " and r.kind = 'task' and r.state = 'leased') from json_each(?) asked order by asked.key",
                (json_list(list(stage_ids)),),
            )
        return [row[0] for row in rows]

    def list_tasks(self, job_id: str, run: int, stage_number: int, *, first_index: int, limit: int) -> list[TaskRecord]:
        """Return tasks of a stage in index order, from an index on, each with its derived status."""
        with self._database.reading() as tx:
            stage = _find_stage(tx, job_id, run, stage_number)
            if stage is None:
                return []
            tasks = tx.rows(
                "select task_index, parameters, key from stageflow_tasks where stage_id = ? and task_index >= ?"
                " order by task_index limit ?",
                (stage.stage_id, first_index, limit),
            )
            if not tasks:
                return []
            lowest, highest = tasks[0][0], tasks[-1][0]
            outcomes = list_outcomes(tx, stage.stage_id, lowest, len(tasks))
            spans = _list_spans(tx, stage.stage_id, lowest, highest)
        ended = {outcome.task_index: outcome for outcome in outcomes}
        spread = ((index, span) for span in spans for index in range(max(span.first, lowest), min(span.last, highest + 1)))
        holding = dict(spread)
        return [_derive(stage, task, ended.get(task[0]), holding.get(task[0])) for task in tasks]

    def list_failed_tasks(self, job_id: str, run: int, stage_number: int, *, first_index: int, limit: int) -> list[TaskRecord]:
        """Return failed tasks of a stage in index order, from an index on."""
        with self._database.reading() as tx:
            stage = _find_stage(tx, job_id, run, stage_number)
            if stage is None:
                return []
            failed = {outcome.task_index: outcome for outcome in list_failed(tx, stage.stage_id, first_index, limit)}
            tasks = tx.rows(
                "select t.task_index, t.parameters, t.key from json_each(?) asked cross join stageflow_tasks t"
                " on t.stage_id = ? and t.task_index = asked.value order by t.task_index",
                (json_list(list(failed)), stage.stage_id),
            )
        return [_derive(stage, task, failed[task[0]], None) for task in tasks]

    def list_result_rows(self, stage_id: int, *, first_index: int, limit: int, failed_only: bool) -> list[ResultRow]:
        """Return the newest result of each index, in index order, from an index on."""
        with self._database.reading() as tx:
            outcomes = (list_failed if failed_only else list_outcomes)(tx, stage_id, first_index, limit)
        return to_result_rows(outcomes)

    def list_partials(self, stage_id: int, *, first_index: int, limit: int) -> list[Partial]:
        """Return the partials of the stage's generation that begin at an index or later, in index order."""
        with self._database.reading() as tx:
            rows = tx.rows(
                "select p.first, p.last, p.successful_tasks, p.value from stageflow_partials p where p.stage_id = ?1"
                " and p.generation = (select s.generation from stageflow_stages s where s.stage_id = ?1) and p.first >= ?2"
                " order by p.first limit ?3",
                (stage_id, first_index, limit),
            )
        return [to_partial(stage_id, row) for row in rows]

    def list_task_results(self, stage_id: int, *, first_index: int, limit: int) -> list[TaskResult]:
        """Return the newest result of each index as contracts, in index order, from an index on."""
        with self._database.reading() as tx:
            return read_task_results(tx, stage_id, first_index=first_index, limit=limit)


def read_task_results(tx: Transaction, stage_id: int, *, first_index: int, limit: int) -> list[TaskResult]:
    """Return the newest result of each index as contracts, in index order, from an index on."""
    stage = get_stage_key(tx, stage_id)
    if stage is None:
        return []
    return [to_task_result(stage, outcome) for outcome in list_outcomes(tx, stage_id, first_index, limit)]


def _find_stage(tx: Transaction, job_id: str, run: int, stage_number: int) -> StageKey | None:
    row = tx.row(
        "select coalesce(taken_from, stage_id) from stageflow_stages where job_id = ? and run = ? and stage_number = ?",
        (job_id, run, stage_number),
    )
    return None if row is None else get_stage_key(tx, row[0])


def _list_spans(tx: Transaction, stage_id: int, lowest: int, highest: int) -> list[_Span]:
    rows = tx.rows(
        "select first, last, generation, attempt, state, error_details, case state when 'leased' then renewed_at end"
        " from stageflow_ranges where stage_id = ? and first <= ? and last > ? and kind = 'task'"
        " and state in ('ready', 'leased', 'waiting', 'held')",
        (stage_id, highest, lowest),
    )
    return [_Span._make(row) for row in rows]


def _derive(stage: StageKey, task: Row, outcome: Outcome | None, span: _Span | None) -> TaskRecord:
    if outcome is not None and (span is None or outcome.generation >= span.generation):
        return to_task_record(
            stage,
            task,
            status=status_from_text(TaskStatus, outcome.status),
            attempt=outcome.attempt,
            error_details=outcome.error_details,
            outcome=outcome,
            heartbeat=None,
        )
    if span is None:
        msg = f"task {task[0]} of stage {stage.stage_number} of job {stage.job_id} has neither a result nor a range; {MEND_ROW}"
        raise MalformedRowError(msg)
    leased = span.state == "leased"
    return to_task_record(
        stage,
        task,
        status=TaskStatus.PROCESSING if leased else TaskStatus.QUEUED,
        attempt=span.attempt,
        error_details=span.error_details,
        outcome=None,
        heartbeat=span.renewed_at,
    )
