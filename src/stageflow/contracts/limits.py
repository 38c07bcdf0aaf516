"""Limits of task types: how many of their tasks run at once, how many start in a second, and whether any may."""

from typing import Final

from pydantic import Field

from stageflow.contracts.base import LateContract, TypeName, UtcDatetime

MOST_RUNNING: Final = 10_000
"""The largest limit of running tasks; beyond it, leave the limit out."""
FASTEST_RATE: Final = 100_000.0
SLOWEST_RATE: Final = 1 / 86_400
"""One start a day."""


class TaskTypeLimit(LateContract):
    """How much of a task type may be done at a time, over all workers and all versions of the job type.

    Attributes:
        max_running: The most of its tasks that run at once; ``None`` for no limit.
        max_per_second: The most of its tasks that start in a second, on average; ``None`` for no limit.
    """

    job_type: TypeName
    task_type: TypeName
    max_running: int | None = Field(default=None, ge=1, le=MOST_RUNNING)
    max_per_second: float | None = Field(default=None, ge=SLOWEST_RATE, le=FASTEST_RATE, allow_inf_nan=False)

    @property
    def scope(self) -> str:
        """Under which name the store keeps it."""
        return type_scope(self.job_type, self.task_type)


class TaskTypeState(LateContract):
    """What a task type may do, and what it does.

    Attributes:
        max_running: The limit that holds.
        max_per_second: The rate that holds.
        declared_max_running: What the code of the worker that declared last says.
        declared_max_per_second: Likewise.
        overridden: An operator's word holds in place of what is declared.
        paused_since: Since when nothing of it starts; ``None`` where it is not paused.
        running: Leases on its tasks; a lease runs its tasks one after the other, so each is a running task.
        ready: Tasks that wait for a slot.
        next_start_at: With a rate: when the next task may start; past, where one may now.
    """

    job_type: str
    task_type: str
    max_running: int | None = None
    max_per_second: float | None = None
    declared_max_running: int | None = None
    declared_max_per_second: float | None = None
    overridden: bool = False
    paused_since: UtcDatetime | None = None
    running: int = Field(default=0, ge=0)
    ready: int = Field(default=0, ge=0)
    next_start_at: UtcDatetime | None = None


def type_scope(job_type: str, task_type: str) -> str:
    """Return the name of a task type over all versions of its job type."""
    return f"{job_type}/{task_type}"


def scope_of(work_type: str) -> str | None:
    """Return the scope of a kind of work; ``None`` for planning and advancing, which have no limits."""
    job_type, _, rest = work_type.partition("/")
    task_type = rest.partition("/")[2]
    return type_scope(job_type, task_type) if task_type else None
