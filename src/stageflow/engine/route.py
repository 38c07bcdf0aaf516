"""Where a job goes from a closed stage: decided from the stage's result and the workflow's definition alone."""

from dataclasses import dataclass, field

from stageflow.contracts.job import WorkflowDefinition
from stageflow.contracts.orchestration import OrchestrationAction, OrchestrationDataContract
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import NewStage, StageRecord, StageResultContract
from stageflow.contracts.status import StageStatus
from stageflow.errors import OrchestrationError


@dataclass(frozen=True)
class OpenStages:
    """The job goes on with these stages; skipped ones among them are only recorded."""

    stages: list[NewStage]


@dataclass(frozen=True)
class EndJob:
    """The job ends: it fails with a reason, or it is complete and the stages still to come are skipped."""

    fails: bool
    reason: str = ""
    skipped: list[NewStage] = field(default_factory=list)


Route = OpenStages | EndJob


def choose_route(
    workflow: WorkflowDefinition,
    stage: StageRecord,
    result: StageResultContract,
    first_failure: ResultRow | None = None,
) -> Route:
    """Return what follows a closed stage.

    Args:
        workflow: The job's workflow.
        stage: The stage.
        result: What it left.
        first_failure: The first of its tasks that failed, for the reason of a job that fails with the stage.

    Raises:
        OrchestrationError: The stage's orchestration does not fit what follows it.
    """
    if result.status is StageStatus.FAILED:
        return EndJob(fails=True, reason=why_failed(result, first_failure))
    orchestration = result.orchestration
    if orchestration is None:
        return _next(workflow, stage)
    _refuse_misfit(workflow, stage, orchestration)
    number = stage.stage_number
    match orchestration.action:
        case OrchestrationAction.FAIL_JOB:
            return EndJob(fails=True, reason=why_failed(result, first_failure))
        case OrchestrationAction.COMPLETE_JOB:
            return EndJob(fails=False, skipped=_skipped(workflow, number + 1, workflow.total_stages))
        case OrchestrationAction.SKIP_STAGE:
            return _skip_next(workflow, number)
        case OrchestrationAction.PARALLEL_STAGES:
            return _open_group(workflow, orchestration.stages)
        case OrchestrationAction.CREATE_TASKS:
            return _next(workflow, stage)


def why_failed(result: StageResultContract, first: ResultRow | None) -> str:
    """Return why a stage fails its job: its own decision, else its counts and the first of its tasks that failed."""
    if result.orchestration is not None and result.orchestration.action is OrchestrationAction.FAIL_JOB:
        return f"stage {result.stage_number} ended the job: {result.orchestration.reason}"
    counts = (
        f"{result.failed_tasks} of {result.task_count} tasks failed, {result.skipped_tasks} were skipped, "
        f"{result.successful_tasks} completed"
    )
    if first is not None:
        return f"stage {result.stage_number} failed: {counts}; first failure, task {first.task_index}: {first.error_details}"
    if result.failed_tasks or result.skipped_tasks:
        return f"stage {result.stage_number} failed: {counts}"
    return f"stage {result.stage_number} failed: should_advance_stage answered False ({counts})"


def _next(workflow: WorkflowDefinition, stage: StageRecord) -> Route:
    following = stage.group_last + 1
    if following > workflow.total_stages:
        return EndJob(fails=False)
    return OpenStages([workflow.new_stage(following)])


def _skip_next(workflow: WorkflowDefinition, number: int) -> Route:
    skipped = workflow.new_stage(number + 1, skipped=True)
    if number + 1 == workflow.total_stages:
        return EndJob(fails=False, skipped=[skipped])
    planned = workflow.stage(number + 2)
    if number + 1 in planned.after and not planned.may_skip:
        msg = (
            f"stage {number} skips stage {number + 1}, whose results the planner of stage {number + 2} needs; declare "
            "may_skip=True there and take StageResults[...] | None"
        )
        raise OrchestrationError(msg)
    return OpenStages([skipped, workflow.new_stage(number + 2)])


def _open_group(workflow: WorkflowDefinition, stages: list[int]) -> Route:
    group = (stages[0], stages[-1])
    for number in stages:
        inside = sorted(set(workflow.stage(number).after) & set(stages))
        if inside:
            msg = f"stage {number} takes the results of {inside} and cannot run beside it; correct `after` or the group"
            raise OrchestrationError(msg)
    return OpenStages([workflow.new_stage(number, group=group) for number in stages])


def _skipped(workflow: WorkflowDefinition, first: int, last: int) -> list[NewStage]:
    return [workflow.new_stage(number, skipped=True) for number in range(first, last + 1)]


def _refuse_misfit(workflow: WorkflowDefinition, stage: StageRecord, orchestration: OrchestrationDataContract) -> None:
    number, action = stage.stage_number, orchestration.action
    in_group = stage.group_first != stage.group_last
    if in_group and action is not OrchestrationAction.FAIL_JOB:
        msg = f"stage {number} runs in a parallel group, where only FAIL_JOB is allowed, not {action}; decide after the group"
        raise OrchestrationError(msg)
    ends = action in {OrchestrationAction.FAIL_JOB, OrchestrationAction.COMPLETE_JOB}
    if number == workflow.total_stages and not ends:
        msg = f"stage {number} is the last one, {action} has nothing to act on; return COMPLETE_JOB, FAIL_JOB or None"
        raise OrchestrationError(msg)
    if action is OrchestrationAction.PARALLEL_STAGES:
        first, last = orchestration.stages[0], orchestration.stages[-1]
        if first != number + 1 or last > workflow.total_stages:
            allowed = f"{number + 1}..m with m <= {workflow.total_stages}"
            msg = f"parallel stages after stage {number} must be {allowed}, got {first}..{last}; correct the orchestration"
            raise OrchestrationError(msg)
