"""Submit and cancel jobs."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from secrets import token_hex
from typing import Any

from stageflow.contracts.base import Contract, checked_text
from stageflow.contracts.ids import make_job_id
from stageflow.contracts.job import JobRecord, JobUpdate, NewJob
from stageflow.contracts.preview import preview, redact
from stageflow.contracts.stage import NewStage
from stageflow.contracts.status import JobStatus
from stageflow.contracts.submission import Submission, SubmitOptions, SubmitOutcome
from stageflow.errors import ContractViolationError, InvalidValueError
from stageflow.repositories import PayloadShelf, Repositories
from stageflow.telemetry import Telemetry
from stageflow.workflow.registry import Workflow


def submit_jobs(
    workflow: Workflow,
    requests: Sequence[Contract],
    options: SubmitOptions,
    repositories: Repositories,
    telemetry: Telemetry,
    *,
    connection: object = None,
) -> list[Submission]:
    """Create one job per request, in one transaction; a request that was made before finds its job.

    Raises:
        ContractViolationError: A request is not the workflow's parameter model.
        InvalidValueError: A request cannot be stored; nothing is created.
        IdempotencyConflictError: The key was used with other parameters; nothing is created.
        PayloadsUnreachableError: Parameters are too large for a row, and the blob store does not answer; nothing is created.
    """
    first_stage = workflow.definition.new_stage(1)
    jobs = [new_job(workflow, request, options, first_stage) for request in requests]
    answer = repositories.jobs.create_jobs([to_row(job, repositories.payloads) for job in jobs], connection)
    answered = list(zip(jobs, answer.created, strict=True))
    for job, is_new in answered:
        if is_new:
            telemetry.emit("job_created", job.job_id, job_type=job.job_type)
    # Inside the application's transaction nothing can be read back but by its own connection.
    met = [] if connection is not None else [job.job_id for job, is_new in answered if not is_new]
    stored = {job.job_id: job for job in repositories.jobs.get_jobs(met)} if met else {}
    return [_answer(job, stored, answer.created_at, is_new=is_new) for job, is_new in answered]


def cancel_job(job_id: str, reason: str, repositories: Repositories, telemetry: Telemetry) -> JobRecord:
    """Cancel a job: nothing of it starts any more, running handlers are told, late results are recorded.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidTransitionError: It has ended otherwise.
        InvalidValueError: The reason is blank, or cannot be stored.
    """
    if not reason.strip():
        msg = "the reason is blank; say why the job is cancelled, or leave the reason out"
        raise InvalidValueError(msg)
    update = JobUpdate(error_details=redact(checked_text(reason, "the reason")))
    job = repositories.jobs.update_job_status_with_validation(job_id, JobStatus.CANCELLED, update)
    telemetry.emit("job_cancelled", job_id)
    return job


def new_job(workflow: Workflow, request: Contract, options: SubmitOptions, first_stage: NewStage) -> NewJob:
    """Return the job that a request makes, whose parameters are validated."""
    parameters = validated(workflow, request)
    idempotency_key = token_hex(16) if options.new_run else options.idempotency_key
    return NewJob(
        job_id=make_job_id(workflow.job_type, parameters, idempotency_key),
        job_type=workflow.job_type,
        workflow_version=workflow.version,
        total_stages=workflow.definition.total_stages,
        parameters=parameters.to_json(),
        idempotency_key=idempotency_key,
        priority=options.priority,
        not_before=options.not_before,
        max_running=options.max_running,
        deadline=options.deadline,
        timeout_seconds=options.timeout_seconds,
        first_stage=first_stage,
    )


def to_row(job: NewJob, payloads: PayloadShelf) -> NewJob:
    """Return the job as its row will hold it: with a reference, where its parameters are too large."""
    text = payloads.store(job.job_id, job.parameters, f"the parameters of a job {job.job_type!r}")
    return job if text is job.parameters else job.model_copy(update={"parameters": text})


def validated(workflow: Workflow, request: Contract, verb: str = "submit") -> Contract:
    """Return a job's parameters as the workflow's ``validate_job_parameters`` leaves them.

    Raises:
        ContractViolationError: They are not its model.
    """
    if type(request) is not workflow.parameters_model:
        raise _wrong_model(workflow, request, verb, "parameters", request)
    checked: Any = workflow.controller.validate_job_parameters(request)
    if type(checked) is not workflow.parameters_model:
        raise _wrong_model(workflow, request, verb, "validate_job_parameters", checked)
    answer: Contract = checked
    return answer


def _wrong_model(workflow: Workflow, request: object, verb: str, parameter: str, value: object) -> ContractViolationError:
    expected = workflow.parameters_model.__name__
    msg = (
        f"{verb}({workflow.job_type!r}): {parameter} must be {expected}, got {type(value).__name__}: {preview(value)}; "
        f"pass {expected}(...)"
    )
    return ContractViolationError(
        msg,
        function=verb,
        parameter=parameter,
        expected=expected,
        actual=type(value).__name__,
        path=parameter,
        preview=preview(request),
    )


def _answer(job: NewJob, stored: Mapping[str, JobRecord], now: datetime, *, is_new: bool) -> Submission:
    if is_new:
        return Submission(job=JobRecord.from_new_job(job, now), outcome=SubmitOutcome.CREATED)
    if job.job_id not in stored:
        return Submission(job=JobRecord.from_new_job(job, now), outcome=SubmitOutcome.RUNNING)
    met = stored[job.job_id]
    return Submission(job=met, outcome=SubmitOutcome.ENDED if met.is_terminal else SubmitOutcome.RUNNING)
