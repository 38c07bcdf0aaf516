"""Stages, tasks and their results, to be read."""

from collections.abc import Sequence

from stageflow.backends.postgres.arrays import dense_array
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.rows import (
    partial_from_row,
    result_rows_from_rows,
    stage_from_row,
    task_from_row,
    task_result_from_row,
)
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.partial import Partial
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.task import TaskRecord, TaskResult


class Tasks(Part):
    """Satisfies ``stageflow.ports.TaskStore``."""

    def get_stage(self, stage_id: int) -> StageRecord | None:
        """Return one stage."""
        rows = self._database.read(query("get_stage"), (stage_id,))
        return stage_from_row(rows[0]) if rows else None

    def list_stages(self, job_id: str, run: int) -> list[StageRecord]:
        """Return the stages of a job's run that were opened, by number."""
        return [stage_from_row(row) for row in self._database.read(query("list_stages"), (job_id, run))]

    def count_running_tasks(self, stage_ids: Sequence[int]) -> list[int]:
        """Return for each stage, in the order asked, how many of its tasks are leased."""
        return [row[0] for row in self._database.read(query("count_running_tasks"), (dense_array(stage_ids),))]

    def list_tasks(self, job_id: str, run: int, stage_number: int, *, first_index: int, limit: int) -> list[TaskRecord]:
        """Return tasks of a stage in index order, from an index on, each with its derived status."""
        rows = self._database.read(query("list_tasks"), (job_id, run, stage_number, first_index, limit))
        return [task_from_row(row, job_id, stage_number) for row in rows]

    def list_failed_tasks(self, job_id: str, run: int, stage_number: int, *, first_index: int, limit: int) -> list[TaskRecord]:
        """Return failed tasks of a stage in index order, from an index on."""
        rows = self._database.read(query("list_failed_tasks"), (job_id, run, stage_number, first_index, limit))
        return [task_from_row(row, job_id, stage_number) for row in rows]

    def list_result_rows(self, stage_id: int, *, first_index: int, limit: int, failed_only: bool) -> list[ResultRow]:
        """Return the newest result of each index, in index order, from an index on."""
        statement = query("list_failed_results" if failed_only else "list_results")
        return result_rows_from_rows(self._database.read(statement, (stage_id, first_index, limit)))

    def list_partials(self, stage_id: int, *, first_index: int, limit: int) -> list[Partial]:
        """Return the partials of the stage's generation that begin at an index or later, in index order."""
        rows = self._database.read(query("list_partials"), (stage_id, first_index, limit))
        return [partial_from_row(row, stage_id) for row in rows]

    def list_task_results(self, stage_id: int, *, first_index: int, limit: int) -> list[TaskResult]:
        """Return the newest result of each index as contracts, in index order, from an index on."""
        stage = self.get_stage(stage_id)
        if stage is None:
            return []
        rows = self._database.read(query("list_results"), (stage_id, first_index, limit))
        return [task_result_from_row(row, stage.job_id, stage.stage_number, stage.task_type) for row in rows]
