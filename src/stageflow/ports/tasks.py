"""Stages, tasks and their results, to be read."""

from collections.abc import Sequence
from typing import Protocol

from stageflow.contracts.partial import Partial
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.task import TaskRecord, TaskResult


class TaskStore(Protocol):
    """Stages, tasks and their results, to be read."""

    def get_stage(self, stage_id: int) -> StageRecord | None:
        """Return one stage."""
        ...

    def list_stages(self, job_id: str, run: int) -> list[StageRecord]:
        """Return the stages of a job's run that were opened, by number."""
        ...

    def count_running_tasks(self, stage_ids: Sequence[int]) -> list[int]:
        """Return for each stage, in the order asked, how many of its tasks are leased: those whose status is processing."""
        ...

    def list_tasks(
        self,
        job_id: str,
        run: int,
        stage_number: int,
        *,
        first_index: int,
        limit: int,
    ) -> list[TaskRecord]:
        """Return tasks of a stage in index order, from an index on, each with its derived status."""
        ...

    def list_failed_tasks(self, job_id: str, run: int, stage_number: int, *, first_index: int, limit: int) -> list[TaskRecord]:
        """Return failed tasks of a stage in index order, from an index on."""
        ...

    def list_result_rows(self, stage_id: int, *, first_index: int, limit: int, failed_only: bool) -> list[ResultRow]:
        """Return the newest result of each index, in index order, from an index on."""
        ...

    def list_partials(self, stage_id: int, *, first_index: int, limit: int) -> list[Partial]:
        """Return the partials of the stage's generation that begin at an index or later, in index order.

        Those of older generations stand for results that may have been replaced since.
        """
        ...

    def list_task_results(self, stage_id: int, *, first_index: int, limit: int) -> list[TaskResult]:
        """Return the newest result of each index as contracts, in index order, from an index on."""
        ...
