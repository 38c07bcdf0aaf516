"""What planning and advancing read of a job, and what hooks are given of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext
from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.job_state import JobState
from stageflow.contracts.lease import Lease
from stageflow.contracts.orchestration import OrchestrationDataContract
from stageflow.contracts.results import Combination, StageResults
from stageflow.contracts.stage import HYDRATED_RESULTS, StageRecord, StageResultContract, StageResultsFormatter
from stageflow.contracts.status import StageStatus
from stageflow.contracts.stored_results import StoredStageResults
from stageflow.engine.hooks import HookFailedError
from stageflow.errors import StoreStateError
from stageflow.repositories import Repositories
from stageflow.workflow.registry import Workflow


@dataclass(frozen=True)
class JobReading:
    """A job as one lease on its planning or advancing sees it.

    Attributes:
        closed: The stored results of its closed stages by number, each without its task results.
    """

    workflow: Workflow
    repositories: Repositories
    state: JobState
    closed: dict[int, StageResultContract]

    def stage(self, stage_id: int) -> StageRecord:
        """Return a stage of the job's present run.

        Raises:
            StoreStateError: It has none with this key.
        """
        for stage in self.state.stages:
            if stage.stage_id == stage_id:
                return stage
        msg = f"job {self.state.job.job_id} has no stage with key {stage_id}; {MEND_ROW}"
        raise StoreStateError(msg)

    def orchestration_before(self, stage_number: int) -> OrchestrationDataContract | None:
        """Return what the stage before ``stage_number`` decided about what follows it, if anything."""
        before = stage_number - 1
        return self.closed[before].orchestration if before in self.closed else None

    def results_by_stage(self, *, also: int | None = None) -> dict[int, StageResults[Any]]:
        """Return the results of the closed stages by number, skipped ones left out.

        Args:
            also: A stage that is about to close, to be counted as closed.
        """
        return {
            stage.stage_number: results_of(self.repositories, self.workflow, stage)
            for stage in self.state.stages
            if stage.status is not StageStatus.SKIPPED and (stage.stage_number in self.closed or stage.stage_number == also)
        }

    def context(self, *, also: StageResultContract | None = None) -> JobExecutionContext[Any]:
        """Return the typed context for hooks, whose stage results are read when a hook looks at them.

        Args:
            also: The result of a stage that is about to close, to be counted as closed.

        Raises:
            HookFailedError: The stored parameters do not (or no longer) validate.
            PayloadUnreadableError: They lie in the blob store, and are missing or altered there.
            PayloadsUnreachableError: It does not answer.
        """
        results = self.closed if also is None else {**self.closed, also.stage_number: also}
        job, expected = self.state.job, self.workflow.parameters_model
        text = (
            self.repositories.payloads.load(job.shelved["parameters"], "the parameters of the job", patient=True)
            if "parameters" in job.shelved
            else json.dumps(job.parameters)
        )
        try:
            parameters: Contract = expected.from_json(text)
        except ValidationError as error:
            msg = f"the stored parameters of the job are no {expected.__name__}: {error}"
            raise HookFailedError(msg) from error
        model = JobExecutionContext[expected]  # type: ignore[valid-type]  # the model is known at run time only
        return model(
            job_id=job.job_id,
            job_type=job.job_type,
            run=job.run,
            total_stages=job.total_stages,
            parameters=parameters,
            scheduled_for=job.scheduled_for,
            stage_results=StoredStageResults({number: self._hydrating(result) for number, result in results.items()}),
        )

    def hydrated(self, result: StageResultContract) -> StageResultContract:
        """Return a stage's result with its task results, where it is narrow enough to have them."""
        if not result.results_paged or result.task_count > HYDRATED_RESULTS:
            return result
        (stage,) = (each for each in self.state.stages if each.stage_number == result.stage_number)
        payloads = self.repositories.payloads
        rows = [
            payloads.load_result(each, patient=True)
            for each in self.repositories.stages.list_task_results(stage.stage_id, 0, HYDRATED_RESULTS)
        ]
        text = StageResultsFormatter.to_stored(result)
        return StageResultsFormatter.from_stored(result.stage_number, text, rows, most_bytes=payloads.options.max_bytes)

    def _hydrating(self, result: StageResultContract) -> Callable[[], StageResultContract]:
        return partial(self.hydrated, result)


def results_of(repositories: Repositories, workflow: Workflow, stage: StageRecord) -> StageResults[Any]:
    """Return the results of one stage, read page by page when they are asked for."""
    combine = workflow.combine(stage.stage_number)
    return StageResults(
        stage_number=stage.stage_number,
        model=workflow.task(stage.stage_number).result_model,
        task_count=stage.task_count,
        successful_tasks=stage.successful_tasks,
        load=partial(repositories.stages.list_result_rows, stage.stage_id),
        combination=None
        if combine is None
        else Combination(combine, partial(repositories.stages.list_partials, stage.stage_id)),
        load_payload=partial(repositories.payloads.load, patient=True),
    )


def read_leased_job(repositories: Repositories, workflow: Workflow, lease: Lease) -> JobReading:
    """Read the job of a lease on its planning or advancing, as it was when that was leased or later.

    Raises:
        StageflowError: As :func:`read_job`.
    """
    if lease.state is None:
        return read_job(repositories, workflow, lease.job_id)
    return _reading(repositories, workflow, lease.state)


def read_job(repositories: Repositories, workflow: Workflow, job_id: str) -> JobReading:
    """Read a job and its stages in one go.

    Raises:
        JobNotFoundError: There is no such job.
        StageResultsInvalidError: A stored stage result of the job is malformed; the message names the field.
        PayloadUnreadableError: One lies in the blob store, and is missing or altered there.
        PayloadsUnreachableError: The blob store does not answer.
    """
    return _reading(repositories, workflow, repositories.jobs.require_job_state(job_id))


def _reading(repositories: Repositories, workflow: Workflow, state: JobState) -> JobReading:
    closed = {
        stage.stage_number: StageResultsFormatter.from_stored(
            stage.stage_number,
            repositories.payloads.load(stage.stored_result, f"the result of stage {stage.stage_number}", patient=True),
            None,
            most_bytes=repositories.payloads.options.max_bytes,
        )
        for stage in state.stages
        if stage.stored_result is not None
    }
    return JobReading(workflow=workflow, repositories=repositories, state=state, closed=closed)
