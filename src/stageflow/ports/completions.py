"""Fan-in: the three atomic operations."""

from collections.abc import Sequence
from typing import Protocol

from stageflow.contracts.advancement import StageAdvancementResult
from stageflow.contracts.job import JobCompletionResult
from stageflow.contracts.lease import RangeCompletion, TaskCompletionResult
from stageflow.contracts.stage import NewStage
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

    def advance_job_stage(
        self,
        *,
        range_id: int,
        token: int,
        stage_id: int,
        stage_status: str,
        stage_result: str,
        next_stages: Sequence[NewStage],
        worker_id: str,
        lease_seconds: float,
    ) -> StageAdvancementResult:
        """Store a stage's result and open what follows it; compare-and-set on the current stage and on processing.

        The caller also receives the lease on planning the first stage that is opened and not skipped.
        """
        ...

    def check_job_completion(
        self,
        *,
        job_id: str,
        range_id: int | None,
        token: int | None,
        stage_id: int | None,
        stage_status: str | None,
        stage_result: str | None,
        result_data: str | None,
        skipped: Sequence[NewStage],
    ) -> JobCompletionResult:
        """Under the job's row lock: store the last stage's result, and end the job if every stage is closed.

        Without a token it only looks.
        """
        ...
