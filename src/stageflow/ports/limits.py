"""Limits and pauses of task types, over all workers."""

from collections.abc import Sequence
from typing import Protocol

from stageflow.contracts.limits import TaskTypeLimit, TaskTypeState


class LimitStore(Protocol):
    """Limits and pauses of task types, over all workers.

    A limit of running tasks is exact for leases that hold: no claim gives out more. What was leased in the very moment in which
    a limit or a pause was set may still run, and so may a handler whose lease was recovered.
    """

    def declare_limits(self, limits: Sequence[TaskTypeLimit]) -> None:
        """Keep what code declares for its task types; it holds where no operator has said otherwise."""
        ...

    def limit_task_type(self, limit: TaskTypeLimit) -> None:
        """Let these limits hold, whatever is declared."""
        ...

    def reset_task_type(self, job_type: str, task_type: str) -> None:
        """Let what is declared hold again."""
        ...

    def pause_task_type(self, job_type: str, task_type: str) -> None:
        """Give out no lease of the type from now on; what runs may end. Again, it changes nothing."""
        ...

    def resume_task_type(self, job_type: str, task_type: str) -> None:
        """Give out leases of the type again, and have its ready work announced again."""
        ...

    def list_task_types(self) -> list[TaskTypeState]:
        """Return the task types that have or had a limit or a pause, and those with open work, by name."""
        ...

    def get_job_limit(self, job_id: str) -> int | None:
        """Return how many tasks of a job may run at once; ``None`` where it has no limit, or is not there."""
        ...
