"""Limits and pauses of task types."""

from collections.abc import Sequence

from stageflow.backends.postgres.arrays import number_array
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.limits import TaskTypeLimit, TaskTypeState, type_scope


class Limits(Part):
    """Satisfies ``stageflow.ports.LimitStore``."""

    def declare_limits(self, limits: Sequence[TaskTypeLimit]) -> None:
        """Keep what code declares for its task types; it holds where no operator has said otherwise."""
        self._database.write(
            query("declare_limits"),
            (
                [limit.scope for limit in limits],
                number_array([limit.max_running for limit in limits]),
                number_array([limit.max_per_second for limit in limits]),
            ),
        )

    def limit_task_type(self, limit: TaskTypeLimit) -> None:
        """Let these limits hold, whatever is declared."""
        self._database.write(query("limit_task_type"), (limit.scope, True, limit.max_running, limit.max_per_second))

    def reset_task_type(self, job_type: str, task_type: str) -> None:
        """Let what is declared hold again."""
        self._database.write(query("limit_task_type"), (type_scope(job_type, task_type), False, None, None))

    def pause_task_type(self, job_type: str, task_type: str) -> None:
        """Give out no lease of the type from now on; what runs may end."""
        self._database.write(query("pause_task_type"), (type_scope(job_type, task_type), True))

    def resume_task_type(self, job_type: str, task_type: str) -> None:
        """Give out leases of the type again, and have its ready work announced again."""
        self._database.write(query("pause_task_type"), (type_scope(job_type, task_type), False))

    def list_task_types(self) -> list[TaskTypeState]:
        """Return the task types that have or had a limit or a pause, and those with open work, by name."""
        return [
            TaskTypeState(
                job_type=row[0],
                task_type=row[1],
                max_running=row[2],
                max_per_second=row[3],
                declared_max_running=row[4],
                declared_max_per_second=row[5],
                overridden=row[6],
                paused_since=row[7],
                running=row[8],
                ready=row[9],
                next_start_at=row[10],
            )
            for row in self._database.read(query("list_task_types"))
        ]

    def get_job_limit(self, job_id: str) -> int | None:
        """Return how many tasks of a job may run at once; ``None`` where it has no limit, or is not there."""
        rows = self._database.read(query("get_job_limit"), (job_id,))
        return rows[0][0] if rows else None
