"""Why ready tasks are not given out though a worker is free: their type is paused, or it or their job is at its limit."""

from stageflow.contracts.lease import WorkKind
from stageflow.contracts.limits import TaskTypeState, scope_of
from stageflow.contracts.open_work import OpenGroup, OpenState
from stageflow.contracts.stage import StageRecord
from stageflow.insights.case import Case
from stageflow.insights.explanation import CAUSE, Finding, FindingKind
from stageflow.insights.words import clock_time, counted, duration, verb


def explain_pause(case: Case, stage: StageRecord, group: OpenGroup) -> Finding | None:
    """Return the finding on tasks whose type is paused."""
    state = _state_of(case, group)
    if state is None or state.paused_since is None:
        return None
    since = state.paused_since
    return Finding(
        kind=FindingKind.TYPE_PAUSED,
        depth=CAUSE,
        stage_number=stage.stage_number,
        task_count=group.task_count,
        text=(
            f"{counted(group.task_count)} {verb(group.task_count, 'waits', 'wait')}: the task type {_named(state)} is paused "
            f"since {clock_time(since, case.now)} ({duration(case.now - since)})"
        ),
        since=since,
        advice=f"stageflow resume-type {_named(state)}",
    )


def explain_limit(case: Case, stage: StageRecord, group: OpenGroup) -> Finding | None:
    """Return the finding on tasks whose type or job is at its limit, or whose type may not start one yet."""
    state = _state_of(case, group)
    if group.kind is not WorkKind.TASK or state is None:
        return None
    here = _running_in(case)
    what = f"{counted(group.task_count)} {verb(group.task_count, 'waits', 'wait')}"
    if case.job_limit is not None and here >= case.job_limit:
        return Finding(
            kind=FindingKind.LIMIT_REACHED,
            depth=CAUSE,
            stage_number=stage.stage_number,
            task_count=group.task_count,
            text=f"{what}: the limit of the job is reached, {here} of {case.job_limit} run",
            advice="nothing while they move; the limit was given with the job's submission",
        )
    if state.max_running is not None and state.running >= state.max_running:
        of_this_type = _running_in(case, _named(state))
        return Finding(
            kind=FindingKind.LIMIT_REACHED,
            depth=CAUSE,
            stage_number=stage.stage_number,
            task_count=group.task_count,
            text=(
                f"{what}: the limit of the task type {_named(state)} is reached, {state.running} of {state.max_running} run: "
                f"{of_this_type} in this job, {max(0, state.running - of_this_type)} in others"
            ),
            advice=f"nothing while they move; raise it with stageflow limit {_named(state)} --max-running N",
        )
    if state.max_per_second is not None and state.next_start_at is not None and state.next_start_at > case.now:
        return Finding(
            kind=FindingKind.RATE_LIMITED,
            depth=CAUSE,
            stage_number=stage.stage_number,
            task_count=group.task_count,
            text=(
                f"{what}: the task type {_named(state)} may start {state.max_per_second:g} tasks a second; the next start is "
                f"at {clock_time(state.next_start_at, case.now)}"
            ),
            until=state.next_start_at,
            advice=f"nothing; raise it with stageflow limit {_named(state)} --max-per-second R",
        )
    return None


def _state_of(case: Case, group: OpenGroup) -> TaskTypeState | None:
    scope = scope_of(group.heads[0].work_type)
    return case.task_types[scope] if scope in case.task_types else None


def _running_in(case: Case, scope: str | None = None) -> int:
    """Return how many leases there are on tasks of the job, of one type or of all."""
    return sum(
        group.range_count
        for groups in case.work.values()
        for group in groups
        if group.kind is WorkKind.TASK
        and group.state is OpenState.LEASED
        and scope in {None, scope_of(group.heads[0].work_type)}
    )


def _named(state: TaskTypeState) -> str:
    return f"{state.job_type}/{state.task_type}"
