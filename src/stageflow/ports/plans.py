"""Fan-out: a stage's tasks, stored."""

from typing import Protocol

from stageflow.contracts.plan import FirstLease, PlanAnswer, PlanChunk, PlanOutcome


class PlanStore(Protocol):
    """Fan-out."""

    def add_tasks(self, chunk: PlanChunk) -> PlanOutcome:
        """Write a chunk of a stage's tasks and their ranges.

        Only the holder of the plan lease can, and only from the stage's ``task_count`` on. The first chunk moves the
        stage to planning; the final one to processing, or, if nothing remains, makes its advancement ready.

        Raises:
            StoreStateError: ``first_index`` is not the stage's ``task_count``.
            InvalidValueError: A key is there twice.
        """
        ...

    def add_tasks_and_lease(self, chunk: PlanChunk, wish: FirstLease) -> PlanAnswer:
        """Write a chunk as :meth:`add_tasks` does, and lease the first of its tasks to its planner in the same transaction."""
        ...
