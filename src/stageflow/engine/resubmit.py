"""Run a failed or cancelled job again, as a whole or from one of its stages."""

from collections.abc import Sequence

from stageflow.contracts.job import WorkflowDefinition
from stageflow.contracts.resubmission import NewRun, Resubmission, require_resubmittable
from stageflow.contracts.stage import NewStage, StageRecord
from stageflow.contracts.status import StageStatus
from stageflow.contracts.submission import SubmitOptions
from stageflow.errors import InvalidValueError
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.workflow.registry import JobRegistry

_NO_OPTIONS = SubmitOptions()
_DONE = frozenset({StageStatus.COMPLETED, StageStatus.COMPLETED_WITH_ERRORS, StageStatus.SKIPPED})


def resubmit_job(
    job_id: str,
    registry: JobRegistry,
    repositories: Repositories,
    telemetry: Telemetry,
    *,
    from_stage: int,
    dry_run: bool,
    options: SubmitOptions = _NO_OPTIONS,
) -> Resubmission:
    """Queue a job that failed or was cancelled with a run of its own, and return what that meant.

    Args:
        job_id: The job.
        registry: Where its workflow is registered; the stages that run again are opened as it declares them now.
        repositories: The store.
        telemetry: Hears of it.
        from_stage: The first stage to run again; the results of those before it are taken over.
        dry_run: Change nothing.
        options: Their deadline and timeout become those of the new run.

    Raises:
        JobNotFoundError: There is no such job.
        UnknownWorkflowError: Its workflow is not registered.
        InvalidTransitionError: It has another status, or was resubmitted meanwhile; nothing changed.
        InvalidValueError: It cannot go on from that stage; the message names those it can. Or its workflow has another number
            of stages by now.
    """
    state = repositories.jobs.require_job_state(job_id)
    job = state.job
    require_resubmittable(job_id, job.status)
    definition = registry.get(job.job_type, job.workflow_version).definition
    if definition.total_stages != job.total_stages:
        msg = (
            f"job {job_id} has {job.total_stages} stages, and {job.job_type!r} version {job.workflow_version} is registered "
            f"with {definition.total_stages}; register what it was submitted with, or submit the work as another job (new_run)"
        )
        raise InvalidValueError(msg)
    possible = list_starts(state.stages)
    if from_stage not in possible:
        allowed = ", ".join(str(number) for number in possible)
        msg = (
            f"job {job_id} is {job.status} and cannot be resubmitted from stage {from_stage}; in this state it can from stage "
            f"{allowed}: those that its run {job.run} had begun and whose predecessors had completed"
        )
        raise InvalidValueError(msg)
    kept = [stage for stage in state.stages if stage.stage_number < from_stage]
    new_run = NewRun(
        job_id=job_id,
        former_run=job.run,
        stages=tuple(_opening(definition, state.stages, from_stage)),
        deadline=options.deadline,
        timeout_seconds=options.timeout_seconds,
    )
    if not dry_run:
        repositories.jobs.resubmit_job(new_run)
        telemetry.emit("job_resubmitted", job_id, run=job.run + 1, from_stage=from_stage)
    return Resubmission(
        job_id=job_id,
        former_run=job.run,
        former_status=job.status,
        former_error=job.error_details,
        run=job.run + 1,
        from_stage=from_stage,
        kept_stages=[stage.stage_number for stage in kept],
        kept_tasks=sum(stage.task_count for stage in kept),
        dry_run=dry_run,
    )


def list_starts(stages: Sequence[StageRecord]) -> list[int]:
    """Return the stages of a run that ended from which another can go on, the first one always.

    One that was opened, and not skipped; of a parallel group only the first, which stands for all of it.
    """
    starts = [1]
    for stage in stages:
        before = [other for other in stages if other.stage_number < stage.stage_number]
        complete = all(other.status in _DONE and other.stored_result is not None for other in before)
        if complete and before and stage.group_first == stage.stage_number and stage.status is not StageStatus.SKIPPED:
            starts.append(stage.stage_number)
    return starts


def _opening(definition: WorkflowDefinition, stages: Sequence[StageRecord], number: int) -> list[NewStage]:
    """Return the stage to open, with its siblings where the former run had opened it as a parallel group."""
    last = next((stage.group_last for stage in stages if stage.stage_number == number), number)
    return [definition.new_stage(each, group=(number, last)) for each in range(number, last + 1)]
