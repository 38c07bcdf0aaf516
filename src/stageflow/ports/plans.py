"""Fan-out: a stage's tasks, stored."""

from collections.abc import Sequence
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

    def add_tasks_and_lease(self, chunks: Sequence[PlanChunk], wishes: Sequence[FirstLease]) -> list[PlanAnswer]:
        """Write chunks of several stages as :meth:`add_tasks` does, and lease the first tasks of each to its planner.

        All of it in one transaction; a chunk that is refused does not hinder the others.

        Args:
            chunks: At most one of a stage.
            wishes: One for each chunk.

        Raises:
            StoreStateError: As :meth:`add_tasks`, because of one chunk; nothing was written of any.
            InvalidValueError: The same.
        """
        ...
