"""The answers of jobs that have ended."""

import json
import time
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.job import JobRecord, JobResult
from stageflow.contracts.limits import type_scope
from stageflow.contracts.preview import preview
from stageflow.contracts.status import TERMINAL_STAGE_STATUSES, JobStatus
from stageflow.contracts.validated import first_fault
from stageflow.errors import InvalidValueError, JobCancelledError, JobFailedError, WaitTimeoutError, WorkflowDefinitionError
from stageflow.repositories import Repositories
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry

M = TypeVar("M", bound=Contract)

_LOOK_AGAIN_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 31_536_000


def wait_for_end(repositories: Repositories, job_id: str, timeout: float | None) -> JobResult:
    """Return how a job ended, as soon as it has; otherwise as :func:`wait_until_ended`."""
    wait_until_ended(repositories, job_id, timeout)
    return to_job_result(repositories.jobs.require_seen_job(job_id))


def wait_until_ended(repositories: Repositories, job_id: str, timeout: float | None) -> None:
    """Return as soon as a job has ended.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidValueError: The timeout is no length of time.
        WaitTimeoutError: It had not ended after ``timeout`` seconds.
    """
    if timeout is not None and not 0 <= timeout <= _LONGEST_WAIT_SECONDS:
        msg = f"timeout must be 0 to {_LONGEST_WAIT_SECONDS} seconds, got {timeout}; leave it out to wait for ever"
        raise InvalidValueError(msg)
    deadline = None if timeout is None else time.monotonic() + timeout
    wakeup = repositories.store.job_wakeup(job_id)
    try:
        # Listening comes before looking, so that no end falls between the two.
        while not (job := repositories.jobs.require_job_state(job_id).job).is_terminal:
            patience = _LOOK_AGAIN_SECONDS if deadline is None else min(_LOOK_AGAIN_SECONDS, deadline - time.monotonic())
            if patience <= 0:
                msg = f"job {job_id} is {job.status} at stage {job.stage} after {timeout} s; {_advice(repositories, job)}"
                raise WaitTimeoutError(msg)
            wakeup.wait(patience)
    finally:
        wakeup.close()


def _advice(repositories: Repositories, job: JobRecord) -> str:
    """Return what may let a job end: to resume what is paused, or else patience."""
    if job.status is JobStatus.PAUSED:
        return f"resume it with `stageflow resume {job.job_id}`, then wait again"
    stages = repositories.jobs.require_job_state(job.job_id).stages
    waiting = {stage.task_type for stage in stages if stage.status not in TERMINAL_STAGE_STATUSES}
    for known in repositories.limits.list_task_types():
        if known.job_type == job.job_type and known.task_type in waiting and known.paused_since is not None:
            named = type_scope(known.job_type, known.task_type)
            return f"its task type {named} is paused: resume it with `stageflow resume-type {named}`, then wait again"
    return "is a worker running? wait longer"


def to_job_result(job: JobRecord) -> JobResult:
    """Return the answer of a job that has ended."""
    results = job.stage_results.values()
    return JobResult(
        job_id=job.job_id,
        job_type=job.job_type,
        status=job.status,
        run=job.run,
        total_stages=job.total_stages,
        total_tasks=sum(result.task_count for result in results),
        successful_tasks=sum(result.successful_tasks for result in results),
        failed_tasks=sum(result.failed_tasks for result in results),
        stage_results=job.stage_results,
        result_data=job.result_data,
        error_details=job.error_details,
        damage=job.damage,
        created_at=job.created_at,
        completed_at=job.updated_at,
    )


def answer_of(registry: JobRegistry, repositories: Repositories, job: JobRecord) -> Contract | None:
    """Return the job's stored answer as the model that ``aggregate_job_results`` is annotated to return.

    Raises:
        JobFailedError: The job failed.
        JobCancelledError: The job was cancelled.
        InvalidValueError: The stored answer is not of that model.
        PayloadUnreadableError: The answer is too large for a row, and is missing from the blob store, or altered.
    """
    match job.status:
        case JobStatus.FAILED:
            msg = f"job {job.job_id} failed: {job.error_details}"
            raise JobFailedError(msg)
        case JobStatus.CANCELLED:
            msg = f"job {job.job_id} was cancelled: {job.error_details}"
            raise JobCancelledError(msg)
        case _:
            pass
    if job.result_data is None:
        return None
    text = (
        repositories.payloads.load(job.shelved["result_data"], f"the answer of job {job.job_id}")
        if "result_data" in job.shelved
        else json.dumps(job.result_data)
    )
    controller = registry.get(job.job_type, job.workflow_version).controller
    model = _answer_model(type(controller))
    try:
        return model.from_json(text)
    except ValidationError as error:
        msg = (
            f"the stored answer of job {job.job_id} is no {model.__name__}: {first_fault(error)}; the model "
            "was changed since. Let it take the stored answer too, or read that as it is: app.job(job_id).result_data"
        )
        raise InvalidValueError(msg) from error


def require_answer(answer: Contract | None, model: type[M], job_id: str) -> M:
    """Return an answer that is of this model.

    Raises:
        InvalidValueError: It is of another, or there is none.
    """
    if type(answer) is not model:
        msg = (
            f"job {job_id} was asked for a {model.__name__}, and answered {preview(answer)}; ask for what its workflow answers"
        )
        raise InvalidValueError(msg)
    return answer


def _answer_model(controller: type[BaseController[Any]]) -> type[Contract]:
    annotation = get_type_hints(controller.aggregate_job_results)["return"]
    parts = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    models = [part for part in parts if isinstance(part, type) and issubclass(part, Contract) and part is not Contract]
    if len(models) != 1:
        msg = (
            f"{controller.__qualname__}.aggregate_job_results must be annotated with the one model that it returns, "
            f"it says {annotation}; write -> YourModel"
        )
        raise WorkflowDefinitionError(msg)
    return models[0]
