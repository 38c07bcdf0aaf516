"""Fan-in: the three atomic operations."""

from collections.abc import Sequence
from typing import Protocol

from stageflow.contracts.advancement import StageAdvance, StageAdvancementResult
from stageflow.contracts.job import JobClosing, JobCompletionResult
from stageflow.contracts.lease import RangeCompletion, TaskCompletionResult
from stageflow.contracts.status import TaskStatus


class CompletionStore(Protocol):
    """Fan-in: the three atomic operations."""

    def complete_tasks(
        self,
        completions: Sequence[RangeCompletion],
        *,
        worker_id: str,
        lease_seconds: float,
        connection: object | None = None,
    ) -> list[TaskCompletionResult]:
        """Record the results of range prefixes and take them off the stages' counters.

        The one completion that empties a stage's counter also receives the lease on its advancement. Of a report that reaches
        beyond a task which ``close_task`` took out of the range, what is before that task is recorded, and the lease ends
        with it: nothing is written for that task and those after it, and the holder's next report is stale.

        Partials are written with the results they combine, in one transaction; one that reaches beyond what is recorded is not.

        Args:
            completions: The reports; of two on one range the later follows the earlier.
            worker_id: Who is to get the lease on an advancement.
            lease_seconds: For how long.
            connection: A connection with a transaction open: the completions are part of it, and commit with it or not at all.
                On PostgreSQL the store's settings hold for the rest of that transaction.

        Raises:
            StoreStateError: A report is longer than its range, and no operator cut it; nothing was written.
        """
        ...

    def close_task(
        self,
        job_id: str,
        stage_number: int,
        task_index: int,
        status: TaskStatus,
        error_details: str | None,
    ) -> bool:
        """End or requeue one unfinished task by an operator's hand; ``False`` where it has ended.

        ``QUEUED`` takes a leased task from its holder; ``FAILED``, ``SKIPPED`` and ``CANCELLED`` record that as its result. A
        holder keeps what is before the task; what is after it can be claimed by others at once.
        """
        ...

    def advance_job_stages(
        self,
        advances: Sequence[StageAdvance],
        *,
        worker_id: str,
        lease_seconds: float,
    ) -> list[StageAdvancementResult]:
        """Store stages' results and open what follows them; each by compare-and-set on its job's stage and on processing.

        The caller also receives, for each, the lease on planning the first stage that is opened and not skipped. All are
        written in one transaction; one that is refused does not hinder the others.

        Raises:
            StoreStateError: One is unfinished, or its job stands elsewhere; nothing was written of any.
        """
        ...

    def check_job_completions(self, closings: Sequence[JobClosing]) -> list[JobCompletionResult]:
        """Under each job's row lock: store the last stage's result, and end the job if every stage is closed.

        Without a token it only looks. All are written in one transaction; one that is refused does not hinder the others.

        Raises:
            JobNotFoundError: There is no such job.
            StoreStateError: A stage of one failed; nothing was written of any.
        """
        ...
