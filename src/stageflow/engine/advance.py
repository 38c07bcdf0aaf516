"""Close a finished stage: its results, the controller's verdict, then the next stage or the end of the job (fan-in)."""

from dataclasses import dataclass, replace
from functools import partial

from stageflow.contracts.advancement import AdvanceOutcome, StageAdvancementResult
from stageflow.contracts.base import Contract
from stageflow.contracts.context import StageExecutionContext
from stageflow.contracts.job import JobCompletionResult, JobEnding
from stageflow.contracts.lease import Lease
from stageflow.contracts.preview import redact
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import NewStage, StageAggregate, StageRecord, StageResultContract, StageResultsFormatter
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.engine.calls import Steps
from stageflow.engine.deadlines import end_if_overdue
from stageflow.engine.hooks import RetryPlanningError, call_hook
from stageflow.engine.reading import JobReading, read_job, read_leased_job, results_of
from stageflow.engine.route import EndJob, OpenStages, Route, choose_route, why_failed
from stageflow.engine.unreachable import give_back_unreachable
from stageflow.errors import (
    HookError,
    InvalidValueError,
    MalformedRowError,
    PayloadsUnreachableError,
    PayloadUnreadableError,
    StageResultsInvalidError,
    StageResultsMissingError,
    StoreStateError,
)
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.workflow.registry import Workflow


@dataclass(frozen=True)
class Advanced:
    """What advancing did.

    Attributes:
        stage_closed: The stage's result was stored by this call.
        plan: The lease on planning what follows, if it was handed over.
        job_ended: This call ended the job.
    """

    stage_closed: bool
    plan: Lease | None = None
    job_ended: bool = False


@dataclass(frozen=True)
class _Closing:
    """A stage that is being closed, and everything needed for it."""

    lease: Lease
    reading: JobReading
    stage: StageRecord
    repositories: Repositories
    telemetry: Telemetry


def advance_stage(
    lease: Lease,
    workflow: Workflow,
    repositories: Repositories,
    telemetry: Telemetry,
) -> Steps[Advanced]:
    """Turn the finished stage that an advance lease names into the next one, or into the end of the job.

    The only place where that happens. What a hook raises fails the job, and so does a row of it that cannot be read; a
    crash anywhere leaves the lease to be recovered, and the second try finds what the first one stored.
    """
    try:
        reading = read_leased_job(repositories, workflow, lease)
        if reading.state.job.run != lease.run:
            return _refused_as_former(lease, telemetry)
        if end_if_overdue(reading.state, repositories, telemetry):
            return Advanced(stage_closed=False, job_ended=True)
        stage = reading.stage(lease.stage_id)
        closing = _Closing(
            lease=lease,
            reading=reading,
            stage=stage,
            repositories=repositories,
            telemetry=telemetry,
        )
        result = _stage_result(closing)
        failure = _first_failure(reading, stage) if result.status is StageStatus.FAILED else None
        route = choose_route(workflow.definition, stage, result, failure)
        return (yield from _follow(closing, result, route))
    except (StageResultsInvalidError, StageResultsMissingError) as error:
        reason = f"Cannot close stage {lease.stage_number} - stage results invalid: {error}"
    except PayloadsUnreachableError as error:
        give_back_unreachable(lease, repositories, telemetry, error)
        return Advanced(stage_closed=False)
    except RetryPlanningError as error:
        if isinstance(error.cause, PayloadsUnreachableError):
            give_back_unreachable(lease, repositories, telemetry, error.cause)
            return Advanced(stage_closed=False)
        reason = f"Closing stage {lease.stage_number} failed: {error}"
    except (HookError, InvalidValueError, MalformedRowError, PayloadUnreadableError, StoreStateError) as error:
        reason = f"Closing stage {lease.stage_number} failed: {error}"
    return _end(lease, repositories, telemetry, reason=reason, result=None)


def _refused_as_former(lease: Lease, telemetry: Telemetry) -> Advanced:
    """Leave the work of a run alone that a resubmission put behind; recovery drops its lease."""
    telemetry.emit("advance_refused", lease.job_id, stage=lease.stage_number, outcome=str(AdvanceOutcome.JOB_ENDED))
    return Advanced(stage_closed=False)


def _stage_result(closing: _Closing) -> StageResultContract:
    """Build, validate and complete the stage's result; one that is stored already is read instead."""
    stage, reading = closing.stage, closing.reading
    if stage.stage_number in reading.closed:
        return reading.closed[stage.stage_number]
    workflow = reading.workflow
    controller, context = workflow.controller, reading.context()
    counted = StageResultContract.from_stage_record(stage, None, reading.state.now)
    policy = workflow.definition.stage(stage.stage_number).policy
    # A stage halted beside a failed one may still have completed whole; only what it skipped speaks against it.
    cut_short = stage.halted and counted.skipped_tasks > 0
    passes = not cut_short and policy.passes(successful=counted.successful_tasks, total=counted.task_count)
    by_policy = counted.model_copy(update={"status": _verdict(counted, passes=passes)})
    seen = StageExecutionContext(
        job_id=stage.job_id,
        job_type=context.job_type,
        run=stage.run,
        stage_number=stage.stage_number,
        name=stage.name,
        generation=stage.generation,
        result=reading.hydrated(by_policy) if workflow.looks_at_task_results else by_policy,
    )
    results = results_of(closing.repositories, workflow, stage)
    if workflow.combine(stage.stage_number) is not None:
        # Whether a hook asks for it or not: an error in combine shows here, and the hooks find the fold done.
        call_hook(context, "combine", results.combined, (Contract, type(None)))
    added = call_hook(
        context,
        "aggregate_stage_results",
        partial(controller.aggregate_stage_results, context, seen, results),
        (StageAggregate,),
    )
    advances = call_hook(
        context,
        "should_advance_stage",
        partial(controller.should_advance_stage, context, seen),
        (bool,),
    )
    left = {"status": _verdict(counted, passes=advances), "metadata": added.metadata, "orchestration": added.orchestration}
    return StageResultContract(**{**dict(counted), **left})


def _first_failure(reading: JobReading, stage: StageRecord) -> ResultRow | None:
    return next(results_of(reading.repositories, reading.workflow, stage).failures(), None)


def _verdict(counted: StageResultContract, *, passes: bool) -> StageStatus:
    """Return the status of a stage whose job goes on or fails: ``failed`` if and only if it stops the job."""
    if not passes:
        return StageStatus.FAILED
    if counted.successful_tasks == counted.task_count:
        return StageStatus.COMPLETED
    return StageStatus.COMPLETED_WITH_ERRORS


def _follow(closing: _Closing, result: StageResultContract, route: Route) -> Steps[Advanced]:
    alone = closing.stage.group_first == closing.stage.group_last
    match route:
        case EndJob(fails=True, reason=reason) if alone:
            return _end(closing.lease, closing.repositories, closing.telemetry, reason=reason, result=result)
        case EndJob(skipped=skipped) if alone:
            return (yield from _finish(closing, result, skipped))
        case EndJob(fails=True):
            failed = result.model_copy(update={"status": StageStatus.FAILED})
            return (yield from _advance(closing, failed, []))
        case EndJob():
            return (yield from _advance(closing, result, []))
        case OpenStages(stages=stages):
            return (yield from _advance(closing, result, stages))


def _advance(closing: _Closing, result: StageResultContract, next_stages: list[NewStage]) -> Steps[Advanced]:
    answer: StageAdvancementResult = yield closing.repositories.completion.advance_of(closing.lease, result, next_stages)
    number, outcome = closing.stage.stage_number, str(answer.outcome)
    match answer.outcome:
        case AdvanceOutcome.ADVANCED | AdvanceOutcome.SIBLINGS_OPEN:
            closing.telemetry.emit("stage_advanced", closing.lease.job_id, stage=number, outcome=outcome)
            return Advanced(stage_closed=True, plan=answer.plan)
        case AdvanceOutcome.GROUP_CLOSED:
            return (yield from _finish_group(closing))
        case AdvanceOutcome.GROUP_FAILED:
            reason = _why_group_failed(closing)
            return _end(closing.lease, closing.repositories, closing.telemetry, reason=reason, result=None)
        case AdvanceOutcome.PAUSED | AdvanceOutcome.JOB_ENDED | AdvanceOutcome.STALE | AdvanceOutcome.ALREADY_ADVANCED:
            closing.telemetry.emit("advance_refused", closing.lease.job_id, stage=number, outcome=outcome)
            return Advanced(stage_closed=False)


def _why_group_failed(closing: _Closing) -> str:
    """Return the reasons of the group's failed stages, read now that all of them are closed."""
    first, last = closing.stage.group_first, closing.stage.group_last
    reading = read_job(closing.repositories, closing.reading.workflow, closing.lease.job_id)
    reasons = [
        why_failed(reading.closed[stage.stage_number], _first_failure(reading, stage))
        for stage in reading.state.stages
        if first <= stage.stage_number <= last and stage.status is StageStatus.FAILED
    ]
    return f"in the parallel group {first} to {last}: " + "; ".join(reasons)


def _finish_group(closing: _Closing) -> Steps[Advanced]:
    """End the job after a parallel group: read it again, now that every sibling's result is stored."""
    reading = read_job(closing.repositories, closing.reading.workflow, closing.lease.job_id)
    if reading.state.job.run != closing.lease.run:
        return _refused_as_former(closing.lease, closing.telemetry)
    return (yield from _finish(replace(closing, reading=reading), reading.closed[closing.stage.stage_number], []))


def _finish(closing: _Closing, result: StageResultContract, skipped: list[NewStage]) -> Steps[Advanced]:
    """Ask the controller for the job's answer, and end the job with it."""
    number, reading = closing.stage.stage_number, closing.reading
    context = reading.context(also=result)
    by_stage = reading.results_by_stage(also=number)
    answer = call_hook(
        context,
        "aggregate_job_results",
        partial(reading.workflow.controller.aggregate_job_results, context, by_stage),
        (Contract, type(None)),
    )
    payloads, what = closing.repositories.payloads, "the answer of aggregate_job_results"
    result_data = None if answer is None else payloads.store(context.job_id, answer.to_json(), what, patient=True)
    completion: JobCompletionResult = yield closing.repositories.completion.closing_of(
        closing.lease, result, result_data, skipped
    )
    if completion.job_updated:
        closing.telemetry.emit("stage_advanced", closing.lease.job_id, stage=number, outcome="final")
        closing.telemetry.emit("job_completed", closing.lease.job_id, status=str(completion.status))
    else:
        closing.telemetry.emit("advance_refused", closing.lease.job_id, stage=number, outcome=str(completion.status))
    return Advanced(stage_closed=completion.job_updated, job_ended=completion.job_updated)


def _end(
    lease: Lease,
    repositories: Repositories,
    telemetry: Telemetry,
    *,
    reason: str,
    result: StageResultContract | None,
) -> Advanced:
    """Fail the job, and store the closing stage's result with it where there is one."""
    stored = None
    if result is not None:
        text, what = StageResultsFormatter.to_stored(result), f"the result of stage {result.stage_number}"
        stored = repositories.payloads.store(lease.job_id, text, what, patient=True)
    ending = JobEnding(
        job_id=lease.job_id,
        status=JobStatus.FAILED,
        error_details=redact(reason),
        range_id=lease.range_id,
        token=lease.token,
        stage_id=lease.stage_id,
        stage_status=StageStatus.FAILED if result is None else result.status,
        stage_result=stored,
    )
    ended = repositories.jobs.end_job(ending)
    telemetry.emit("job_failed" if ended else "advance_refused", lease.job_id, stage=lease.stage_number)
    return Advanced(stage_closed=ended and result is not None, job_ended=ended)
