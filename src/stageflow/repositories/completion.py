"""Fan-in: the three atomic operations. They store and answer; what happens next is decided above."""

from stageflow.contracts.advancement import StageAdvance, StageAdvancementResult
from stageflow.contracts.base import json_object_text
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.ids import validate_job_id
from stageflow.contracts.job import JobClosing, JobCompletionResult
from stageflow.contracts.lease import Lease, RangeCompletion, TaskCompletionResult
from stageflow.contracts.stage import NewStage, StageResultContract, StageResultsFormatter
from stageflow.contracts.task import TaskResult
from stageflow.ports import Store
from stageflow.repositories.payloads import PayloadShelf


class StageCompletionRepository:
    """Atomic data operations on the barrier of a stage."""

    def __init__(self, store: Store, payloads: PayloadShelf) -> None:
        self._store = store
        self._payloads = payloads

    @enforce_contract
    def complete_tasks_and_check_stages(
        self,
        completions: list[RangeCompletion],
        worker_id: str,
        lease_seconds: float,
        connection: object = None,
    ) -> list[TaskCompletionResult]:
        """Record prefixes of leased ranges; of all finishers of a stage exactly one is told that it was the last.

        That one also gets the lease on the stage's advancement. A repeated, late or stale report is a typed no-op.

        Args:
            completions: The reports.
            worker_id: Who reports.
            lease_seconds: How long the lease on the advancement lasts.
            connection: The connection of a handler's transaction: the completions commit with it or not at all.
        """
        return self._store.complete_tasks(completions, worker_id=worker_id, lease_seconds=lease_seconds, connection=connection)

    @enforce_contract
    def complete_task_and_check_stage(
        self,
        lease: Lease,
        result: TaskResult,
        worker_id: str,
        lease_seconds: float,
    ) -> TaskCompletionResult:
        """Record the result of one task, the first unreported one of a lease: a batch of one."""
        completion = RangeCompletion(
            range_id=lease.range_id,
            token=lease.token,
            stage_id=lease.stage_id,
            first=result.task_index,
            statuses=[result.status],
            results=[self._result_text(lease, result)],
            errors=[result.error_details],
            seconds=[result.execution_time_seconds],
            completed_at=[result.completed_at.timestamp()],
        )
        return self._store.complete_tasks([completion], worker_id=worker_id, lease_seconds=lease_seconds)[0]

    @enforce_contract
    def advance_of(self, lease: Lease, result: StageResultContract, next_stages: list[NewStage]) -> StageAdvance:
        """Return what the store is to be asked to close the stage of an advance lease, and to open what follows."""
        return StageAdvance(
            range_id=lease.range_id,
            token=lease.token,
            stage_id=lease.stage_id,
            stage_status=result.status,
            stage_result=self._stage_result_text(lease, result),
            next_stages=next_stages,
        )

    @enforce_contract
    def advance_job_stages(
        self, advances: list[StageAdvance], worker_id: str, lease_seconds: float
    ) -> list[StageAdvancementResult]:
        """Store stages' results and open what follows them, in one transaction.

        Each by compare-and-set on its job's current stage and on ``processing``: no double advance, no revival of an ended job.
        """
        return self._store.advance_job_stages(advances, worker_id=worker_id, lease_seconds=lease_seconds)

    @enforce_contract
    def advance_job_stage(
        self,
        lease: Lease,
        result: StageResultContract,
        next_stages: list[NewStage],
        worker_id: str,
        lease_seconds: float,
    ) -> StageAdvancementResult:
        """Store one stage's result and open what follows it: a batch of one."""
        return self.advance_job_stages([self.advance_of(lease, result, next_stages)], worker_id, lease_seconds)[0]

    @enforce_contract
    def check_job_completion(self, job_id: str) -> JobCompletionResult:
        """Say whether every stage of a job is closed, under the job's row lock; changes nothing."""
        (answer,) = self._store.check_job_completions([JobClosing(job_id=validate_job_id(job_id))])
        return answer.model_copy(update={"task_results": [self._payloads.load_result(each) for each in answer.task_results]})

    @enforce_contract
    def closing_of(
        self, lease: Lease, result: StageResultContract, result_data: str | None, skipped: list[NewStage]
    ) -> JobClosing:
        """Return what the store is to be asked to end a job.

        Args:
            lease: The lease on the last stage's advancement.
            result: The last stage's result.
            result_data: The job's answer as JSON text.
            skipped: Stages that are skipped because the job ends early.
        """
        return JobClosing(
            job_id=lease.job_id,
            range_id=lease.range_id,
            token=lease.token,
            stage_id=lease.stage_id,
            stage_status=result.status,
            stage_result=self._stage_result_text(lease, result),
            result_data=result_data,
            skipped=skipped,
        )

    @enforce_contract
    def complete_jobs(self, closings: list[JobClosing]) -> list[JobCompletionResult]:
        """Store last stages' results and end the jobs of which every stage is closed: ``check_job_completion`` that writes."""
        return self._store.check_job_completions(closings)

    @enforce_contract
    def complete_job(
        self,
        lease: Lease,
        result: StageResultContract,
        result_data: str | None,
        skipped: list[NewStage],
    ) -> JobCompletionResult:
        """End one job: a batch of one."""
        return self.complete_jobs([self.closing_of(lease, result, result_data, skipped)])[0]

    def _stage_result_text(self, lease: Lease, result: StageResultContract) -> str:
        text, what = StageResultsFormatter.to_stored(result), f"the result of stage {result.stage_number}"
        return self._payloads.store(lease.job_id, text, what, patient=True)

    def _result_text(self, lease: Lease, result: TaskResult) -> str | None:
        if result.result_data is None:
            return None
        what = f"the result of a task {result.task_type!r}"
        return self._payloads.store(lease.job_id, json_object_text(result.result_data), what)
