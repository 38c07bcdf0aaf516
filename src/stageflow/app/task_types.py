"""An operator's hand on task types."""

from stageflow.app.connected import Connected
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.limits import TaskTypeState
from stageflow.engine.limits import limit_task_type, list_task_types, pause_task_type, reset_task_type, resume_task_type


class TaskTypeControl(Connected):
    """Limits and pauses task types, over all workers."""

    @enforce_contract
    def limit_task_type(
        self, job_type: str, task_type: str, *, max_running: int | None = None, max_per_second: float | None = None
    ) -> TaskTypeState:
        """Limit a task type over all workers and all versions of its job type, whatever its code declares; at once.

        It holds until it is taken back with :meth:`reset_task_type`. What runs may end; leases from before count.

        Args:
            job_type: The job type.
            task_type: The task type.
            max_running: The most of its tasks that run at once; ``None`` for no limit.
            max_per_second: The most of its tasks that start in a second; ``None`` for no limit.

        Raises:
            InvalidValueError: A limit is out of range, or nobody knows the type; nothing changed.
        """
        return limit_task_type(
            self.repositories,
            self.telemetry,
            self.registry,
            job_type=job_type,
            task_type=task_type,
            max_running=max_running,
            max_per_second=max_per_second,
        )

    @enforce_contract
    def reset_task_type(self, job_type: str, task_type: str) -> TaskTypeState:
        """Take an operator's limits of a task type back: what its code declares holds again.

        Raises:
            InvalidValueError: Nobody knows the type; nothing changed.
        """
        return reset_task_type(self.repositories, self.telemetry, self.registry, job_type=job_type, task_type=task_type)

    @enforce_contract
    def pause_task_type(self, job_type: str, task_type: str) -> TaskTypeState:
        """Let nothing of a task type start, in any job; running handlers end, and their results are recorded.

        Raises:
            InvalidValueError: Nobody knows the type; nothing changed.
        """
        return pause_task_type(self.repositories, self.telemetry, self.registry, job_type=job_type, task_type=task_type)

    @enforce_contract
    def resume_task_type(self, job_type: str, task_type: str) -> TaskTypeState:
        """Let a paused task type go on; one that is not paused stays as it is.

        Raises:
            InvalidValueError: Nobody knows the type; nothing changed.
        """
        return resume_task_type(self.repositories, self.telemetry, self.registry, job_type=job_type, task_type=task_type)

    @enforce_contract
    def task_types(self) -> list[TaskTypeState]:
        """Return the task types, by name: their limits, whether they are paused, how much runs and how much waits."""
        return list_task_types(self.repositories, self.registry)
