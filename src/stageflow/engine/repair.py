"""Run chosen tasks of a finished stage again, and what depends on them."""

from collections.abc import Iterable, Sequence
from typing import Final

from stageflow.contracts.job_state import JobState
from stageflow.contracts.repair import Repair, StageRepair, list_repairable, require_repairable
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import TaskStatus
from stageflow.errors import InvalidValueError
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.workflow.registry import JobRegistry

_PAGE: Final = 1000
_UNFINISHED: Final = frozenset({TaskStatus.FAILED, TaskStatus.SKIPPED})


def repair_stage(
    job_id: str,
    stage_number: int,
    registry: JobRegistry,
    repositories: Repositories,
    telemetry: Telemetry,
    *,
    tasks: Sequence[int] | None,
    dry_run: bool,
) -> Repair:
    """Queue a job that has ended with a run in which chosen tasks of one stage run again, and return what that meant.

    Args:
        job_id: The job.
        stage_number: The stage.
        registry: Where its workflow is registered; the stage is opened with the policy that it declares now.
        repositories: The store.
        telemetry: Hears of it.
        tasks: The indexes to run again; ``None`` for those that failed, and those that a halt skipped.
        dry_run: Change nothing.

    Raises:
        JobNotFoundError: There is no such job.
        UnknownWorkflowError: Its workflow is not registered.
        InvalidTransitionError: It has not ended, or was resubmitted or repaired meanwhile; nothing changed.
        InvalidValueError: The stage cannot be repaired, or has no such tasks; the message names what can be.
    """
    state = repositories.jobs.require_job_state(job_id)
    job = state.job
    require_repairable(job_id, job.status)
    definition = registry.get(job.job_type, job.workflow_version).definition
    stage = _find_stage(state, stage_number)
    new_stage = definition.new_stage(stage_number, group=(stage.group_first, stage.group_last))
    if new_stage.task_type != stage.task_type:
        msg = (
            f"stage {stage_number} of job {job_id} ran tasks of type {stage.task_type!r} and is declared with "
            f"{new_stage.task_type!r} now; resubmit from there, or submit the work as another job (new_run)"
        )
        raise InvalidValueError(msg)
    chosen = _unfinished(repositories, stage) if tasks is None else _require_known(stage, tasks)
    if not dry_run:
        repair = StageRepair(job_id=job_id, former_run=job.run, stage=new_stage, tasks=tuple(chosen))
        repositories.jobs.repair_stage(repair)
        telemetry.emit("stage_repaired", job_id, run=job.run + 1, stage=stage_number, tasks=len(chosen))
    numbers = [each.stage_number for each in state.stages if each.stage_number != stage_number]
    return Repair(
        job_id=job_id,
        former_run=job.run,
        former_status=job.status,
        former_error=job.error_details,
        run=job.run + 1,
        stage_number=stage_number,
        generation=stage.generation + 1,
        tasks=chosen,
        kept_tasks=stage.task_count - len(chosen),
        kept_stages=[number for number in numbers if number <= stage.group_last],
        later_stages=[number for number in numbers if number > stage.group_last],
        dry_run=dry_run,
    )


def _find_stage(state: JobState, stage_number: int) -> StageRecord:
    job, possible = state.job, list_repairable(state.stages)
    for stage in state.stages:
        if stage.stage_number == stage_number and stage_number in possible:
            return stage
    allowed = f"stage {', '.join(map(str, possible))}" if possible else "no stage of it; resubmit the job instead"
    msg = (
        f"stage {stage_number} of job {job.job_id}, which is {job.status} in run {job.run}, cannot be repaired: only a stage "
        f"that has a result, beside and after stages that completed, can. In this state that is {allowed}"
    )
    raise InvalidValueError(msg)


def _require_known(stage: StageRecord, tasks: Iterable[int]) -> list[int]:
    chosen = sorted(set(tasks))
    if not chosen:
        msg = f"name at least one task of stage {stage.stage_number}, 0 to {stage.task_count - 1}; None means those that failed"
        raise InvalidValueError(msg)
    unknown = [str(index) for index in chosen if not 0 <= index < stage.task_count]
    if unknown:
        msg = (
            f"stage {stage.stage_number} of job {stage.job_id} has tasks 0 to {stage.task_count - 1}, and not "
            f"{', '.join(unknown)}; name those it has, `stageflow tasks JOB` lists them"
        )
        raise InvalidValueError(msg)
    return chosen


def _unfinished(repositories: Repositories, stage: StageRecord) -> list[int]:
    """Return the tasks that failed; of a stage that halted also those that it skipped."""
    found: list[int] = []
    first = 0
    while rows := repositories.stages.list_result_rows(stage.stage_id, first, _PAGE, failed_only=not stage.halted):
        found += [row.task_index for row in rows if row.status in _UNFINISHED]
        first = rows[-1].task_index + 1
    if not found:
        msg = (
            f"no task of stage {stage.stage_number} of job {stage.job_id} failed, so there is nothing to run again unless you "
            f"name it: give the tasks, 0 to {stage.task_count - 1}"
        )
        raise InvalidValueError(msg)
    return found
