"""Stages: planned, stored and asked for."""

from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.ids import validate_job_id
from stageflow.contracts.partial import Partial
from stageflow.contracts.plan import FirstLease, PlanAnswer, PlanChunk, PlanOutcome
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.task import TaskResult
from stageflow.errors import StoreStateError
from stageflow.ports import Store


class StageRepository:
    """Stores stages and their tasks, and asks for stages and results."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @enforce_contract
    def require_stage(self, stage_id: int) -> StageRecord:
        """Return a stage.

        Raises:
            StoreStateError: It does not exist: a lease named a stage that was never there.
        """
        stage = self._store.get_stage(stage_id)
        if stage is None:
            msg = f"there is no stage with key {stage_id}; {MEND_ROW}"
            raise StoreStateError(msg)
        return stage

    @enforce_contract
    def list_stages(self, job_id: str, run: int) -> list[StageRecord]:
        """Return the stages that a job's run has opened, by number."""
        return self._store.list_stages(validate_job_id(job_id), run)

    @enforce_contract
    def count_running_tasks(self, stage_ids: list[int]) -> list[int]:
        """Return for each stage, in the order asked, how many of its tasks are leased by a worker."""
        return self._store.count_running_tasks(stage_ids)

    @enforce_contract
    def add_tasks(self, chunk: PlanChunk) -> PlanOutcome:
        """Write a chunk of a stage's tasks; only the holder of its plan lease can."""
        return self._store.add_tasks(chunk)

    @enforce_contract
    def add_tasks_and_lease(self, chunks: list[PlanChunk], wishes: list[FirstLease]) -> list[PlanAnswer]:
        """Write chunks of several stages, and lease the first tasks of each to its planner, all in one transaction."""
        return self._store.add_tasks_and_lease(chunks, wishes)

    @enforce_contract
    def list_result_rows(self, stage_id: int, first_index: int, limit: int, failed_only: bool) -> list[ResultRow]:  # noqa: FBT001  the shape of a page loader
        """Return the newest stored result of each index as text, in index order, from an index on."""
        return self._store.list_result_rows(stage_id, first_index=first_index, limit=limit, failed_only=failed_only)

    @enforce_contract
    def list_partials(self, stage_id: int, first_index: int, limit: int) -> list[Partial]:
        """Return the partial combinations that begin at an index or later, in index order."""
        return self._store.list_partials(stage_id, first_index=first_index, limit=limit)

    @enforce_contract
    def list_task_results(self, stage_id: int, first_index: int, limit: int) -> list[TaskResult]:
        """Return the newest result of each index, in index order, from an index on."""
        return self._store.list_task_results(stage_id, first_index=first_index, limit=limit)
