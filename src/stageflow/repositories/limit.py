"""Limits: declared by code, changed by operators."""

from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.limits import TaskTypeLimit, TaskTypeState
from stageflow.ports import Store


class LimitRepository:
    """What may run at once, start in a second, or start at all, by task type and by job."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @enforce_contract
    def declare_limits(self, limits: list[TaskTypeLimit]) -> None:
        """Keep what code declares; it holds where no operator has said otherwise."""
        self._store.declare_limits(limits)

    @enforce_contract
    def limit_task_type(self, limit: TaskTypeLimit) -> None:
        """Let an operator's limits hold, whatever is declared."""
        self._store.limit_task_type(limit)

    @enforce_contract
    def reset_task_type(self, job_type: str, task_type: str) -> None:
        """Let what is declared hold again."""
        self._store.reset_task_type(job_type, task_type)

    @enforce_contract
    def pause_task_type(self, job_type: str, task_type: str) -> None:
        """Give out no lease of a task type from now on."""
        self._store.pause_task_type(job_type, task_type)

    @enforce_contract
    def resume_task_type(self, job_type: str, task_type: str) -> None:
        """Give out leases of a task type again."""
        self._store.resume_task_type(job_type, task_type)

    @enforce_contract
    def list_task_types(self) -> list[TaskTypeState]:
        """Return the task types that have or had a limit or a pause, and those with open work."""
        return self._store.list_task_types()

    @enforce_contract
    def get_job_limit(self, job_id: str) -> int | None:
        """Return how many tasks of a job may run at once; ``None`` for no limit."""
        return self._store.get_job_limit(job_id)
