"""Why a group of ranges has not ended yet."""

from collections.abc import Iterator
from datetime import datetime

from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenGroup, OpenRange, OpenState
from stageflow.contracts.stage import StageRecord
from stageflow.insights.case import Case
from stageflow.insights.explanation import CAUSE, Finding, FindingKind
from stageflow.insights.leases import explain_leases
from stageflow.insights.ready import explain_nobody, explain_ready
from stageflow.insights.words import (
    clock_time,
    counted,
    duration,
    group_named,
    group_tasks,
    last_line,
    tasks_in,
    verb,
    work_named,
)


def explain_group(case: Case, stage: StageRecord, group: OpenGroup) -> Iterator[Finding]:
    """Yield why the ranges of a group have not ended."""
    match group.state:
        case OpenState.LEASED:
            yield from explain_leases(case, stage, group)
        case OpenState.WAITING:
            yield from _explain_waiting(case, stage, group)
        case OpenState.READY if case.is_paused:
            yield _explain_held(case, stage, group)
        case OpenState.READY:
            yield from explain_ready(case, stage, group)
        case OpenState.HELD:
            yield _explain_held(case, stage, group)
    yield from _explain_deaths(stage, group)


def _explain_waiting(case: Case, stage: StageRecord, group: OpenGroup) -> Iterator[Finding]:
    """Yield a finding for each attempt and error among the heads, and name the rest in the last one."""
    alike: dict[tuple[int, str], list[OpenRange]] = {}
    for waiting in group.heads:
        error = last_line(waiting.error_details) if waiting.error_details else ""
        alike.setdefault((waiting.attempt, error), []).append(waiting)
    told = sum(waiting.width for waiting in group.heads)
    for number, ((attempt, error), ranges) in enumerate(alike.items()):
        rest = group.task_count - told if number == len(alike) - 1 else 0
        yield _delayed(case, stage, ranges, attempt, error, rest)
    if not case.is_paused:
        yield from explain_nobody(case, stage, group)


def _delayed(case: Case, stage: StageRecord, ranges: list[OpenRange], attempt: int, error: str, rest: int) -> Finding:
    due = ranges[0].not_before
    count = sum(each.width for each in ranges)
    when = _when_due(case, due, count)
    more = f", and {counted(rest, 'further task')} later" if rest else ""
    if attempt == 1 and not error and ranges[0].kind is WorkKind.TASK:
        return Finding(
            kind=FindingKind.LIMIT_REACHED,
            depth=CAUSE,
            stage_number=stage.stage_number,
            task_count=count + rest,
            text=f"{counted(count)} {when}: their task type or their job was at its limit when they were to be given out",
            until=due,
        )
    if attempt == 1 and not error:
        return Finding(
            kind=FindingKind.WAITS_FOR_START,
            depth=CAUSE,
            stage_number=stage.stage_number,
            text=f"{work_named(ranges[0])} {when}: the job was submitted to start no earlier",
            until=due,
        )
    retry = case.retry_of(stage)
    of = "" if retry is None or ranges[0].kind is not WorkKind.TASK else f" of {retry.max_attempts}"
    what = counted(count) if ranges[0].kind is WorkKind.TASK else work_named(ranges[0])
    return Finding(
        kind=FindingKind.RETRY_SCHEDULED,
        depth=CAUSE,
        stage_number=stage.stage_number,
        task_count=count + rest if ranges[0].kind is WorkKind.TASK else 0,
        text=f"{what} {when} after {error or 'an error'} (attempt {attempt}{of}){more}",
        until=due,
        advice="" if due is None or due > case.now else "see that a worker runs: a worker opens what is due",
    )


def _when_due(case: Case, due: datetime | None, count: int) -> str:
    if due is None:
        return f"{verb(count, 'waits', 'wait')} for no time at all"
    if due <= case.now:
        return f"{verb(count, 'was', 'were')} due at {clock_time(due, case.now)} ({duration(case.now - due)} ago)"
    return f"{verb(count, 'is', 'are')} due at {clock_time(due, case.now)} (in {duration(due - case.now)})"


def _explain_held(case: Case, stage: StageRecord, group: OpenGroup) -> Finding:
    end = "the job is resumed" if case.is_paused else "the stage is planned whole"
    return Finding(
        kind=FindingKind.HELD,
        depth=CAUSE,
        stage_number=stage.stage_number,
        task_count=group_tasks(group),
        text=f"{group_named(group)} {verb(group.task_count, 'is', 'are')} held until {end}",
    )


def _explain_deaths(stage: StageRecord, group: OpenGroup) -> Iterator[Finding]:
    for deadly in group.heads:
        if deadly.deaths:
            yield Finding(
                kind=FindingKind.WORKER_DIED,
                depth=CAUSE,
                stage_number=stage.stage_number,
                task_count=tasks_in(deadly),
                text=f"{counted(deadly.deaths, 'worker')} died over {work_named(deadly)}",
                advice="if it dies again, look for what ends the process: memory, a native library, a kill by the system",
            )
