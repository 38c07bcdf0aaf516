"""What hooks are given to read: the job's context and the results of its closed stages."""

import json
from functools import partial
from typing import Any

from pydantic import ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext
from stageflow.contracts.job import JobRecord
from stageflow.contracts.results import StageResults
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import StageStatus, StatusValidator
from stageflow.engine.hooks import HookFailedError
from stageflow.repositories import Repositories
from stageflow.workflow.registry import Workflow


def job_context(workflow: Workflow, job: JobRecord) -> JobExecutionContext[Any]:
    """Return the typed context of a stored job.

    Raises:
        HookFailedError: The stored parameters do not (or no longer) validate.
    """
    try:
        parameters: Contract = workflow.parameters_model.model_validate_json(json.dumps(job.parameters))
    except ValidationError as error:
        msg = f"the stored parameters of the job are no {workflow.parameters_model.__name__}: {error}"
        raise HookFailedError(msg) from error
    model = JobExecutionContext[workflow.parameters_model]  # type: ignore[name-defined]  # the model is known at run time only
    return model(
        job_id=job.job_id,
        job_type=job.job_type,
        run=job.run,
        total_stages=job.total_stages,
        parameters=parameters,
        stage_results=job.stage_results,
    )


def results_of(repositories: Repositories, workflow: Workflow, stage: StageRecord) -> StageResults[Any]:
    """Return the results of one stage, read page by page when they are asked for."""
    return StageResults(
        stage_number=stage.stage_number,
        model=workflow.task(stage.stage_number).result_model,
        task_count=stage.task_count,
        successful_tasks=stage.successful_tasks,
        load=partial(repositories.stages.list_result_rows, stage.stage_id),
    )


def results_by_stage(
    repositories: Repositories,
    workflow: Workflow,
    job: JobRecord,
    *,
    also: int | None = None,
) -> dict[int, StageResults[Any]]:
    """Return the results of a job's closed stages by number, skipped ones left out.

    Args:
        also: A stage that is about to close, to be counted as closed.
    """
    stages = repositories.stages.list_stages(job.job_id, job.run)
    return {
        stage.stage_number: results_of(repositories, workflow, stage)
        for stage in stages
        if stage.status is not StageStatus.SKIPPED and (StatusValidator.is_terminal(stage.status) or stage.stage_number == also)
    }
