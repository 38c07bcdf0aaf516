"""Why a job is not moving, or why it failed."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from stageflow.contracts.job import JobRecord
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenGroup
from stageflow.contracts.stage import FailureMode, StageRecord
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.errors import QueueUnreachableError
from stageflow.insights.case import Case, read_case
from stageflow.insights.explanation import Explanation, Finding, FindingKind
from stageflow.insights.reasons import explain_group
from stageflow.insights.words import clock_time, counted, duration, last_line, verb
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.workflow.registry import JobRegistry

_SHOWN_FAILURES = 3
_DOCTOR = "run `stageflow doctor`: it compares the counters with the rows, and mends what can be mended"


def explain_job(repositories: Repositories, registry: JobRegistry, job_id: str, *, queue: Queue | None) -> Explanation:
    """Return why a job is not moving, that it is, or how it ended.

    Reads the rows of the job, of its stages and of their open ranges, and the workers there are; nothing is counted over
    tasks. The external queue, where there is one, is asked whether it is there, if ready work waits.

    Raises:
        JobNotFoundError: There is no such job.
    """
    case = _with_queue(read_case(repositories, registry, job_id), queue)
    findings = [_explain_job(case), *_explain_deadlines(case)]
    if case.job.is_terminal:
        for stage in case.state.stages:
            findings += _explain_failures(case, repositories, stage)
    for stage in case.open_stages:
        findings += _explain_stage(case, stage)
    if not case.job.is_terminal and not case.open_stages:
        findings.append(_stuck(None, "every stage that was opened is closed, and nothing is there that would go on"))
    return Explanation(
        job_id=case.job.job_id,
        job_type=case.job.job_type,
        status=case.job.status,
        now=case.now,
        findings=findings,
    )


def _with_queue(case: Case, queue: Queue | None) -> Case:
    """Return a case with what is to be known of the external queue; it is asked only where it should tell of something."""
    if queue is None:
        return case
    error = None
    if case.has_ready_work:
        try:
            queue.probe()
        except QueueUnreachableError as unreachable:
            error = last_line(str(unreachable))
    return replace(case, uses_queue=True, queue_error=error)


def _explain_job(case: Case) -> Finding:
    job = case.job
    ended = clock_time(job.updated_at, case.now)
    match job.status:
        case JobStatus.COMPLETED | JobStatus.COMPLETED_WITH_ERRORS:
            failed = sum(stage.failed_tasks for stage in case.state.stages)
            with_errors = f" though {counted(failed)} failed, which its policy allows" if failed else ""
            return _about(job, FindingKind.JOB_COMPLETED, f"the job completed at {ended}{with_errors}")
        case JobStatus.FAILED:
            advice = "correct the cause, then `stageflow resubmit` the job, or `stageflow repair` chosen tasks of it"
            reason = last_line(job.error_details)
            return _about(job, FindingKind.JOB_FAILED, f"the job failed at {ended}: {reason}", advice)
        case JobStatus.CANCELLED:
            advice = "nothing; to do the work after all, `stageflow resubmit` it"
            reason = last_line(job.error_details)
            return _about(job, FindingKind.JOB_CANCELLED, f"the job was cancelled at {ended}: {reason}", advice)
        case JobStatus.PAUSED:
            text = f"the job was paused at {ended} ({duration(case.now - job.updated_at)} ago); nothing of it starts"
            return Finding(kind=FindingKind.JOB_PAUSED, text=text, since=job.updated_at, advice="`stageflow resume` the job")
        case JobStatus.QUEUED | JobStatus.PROCESSING:
            begun = "has not started" if job.status is JobStatus.QUEUED else f"is at stage {job.stage} of {job.total_stages}"
            text = f"the job was submitted at {clock_time(job.created_at, case.now)} and {begun}"
            return Finding(kind=FindingKind.JOB_OPEN, text=text, since=job.created_at)


def _explain_deadlines(case: Case) -> Iterator[Finding]:
    """Yield when an open job or one of its stages will be failed if it has not ended."""
    if case.job.is_terminal:
        return
    ends: list[tuple[str, int | None, datetime | None]] = [("the job", None, case.job.deadline)]
    ends += [(_named(stage), stage.stage_number, stage.deadline) for stage in case.open_stages]
    for what, number, deadline in ends:
        if deadline is not None:
            left = f"in {duration(deadline - case.now)}" if deadline > case.now else "over; the next round of recovery fails it"
            text = f"{what} must end by {clock_time(deadline, case.now)} ({left}), or the job fails"
            yield Finding(kind=FindingKind.DEADLINE, stage_number=number, text=text, until=deadline)
    if case.job.deadline is None and case.job.timeout_seconds is not None:
        text = f"the job must end within {duration(timedelta(seconds=case.job.timeout_seconds))} of its start, or it fails"
        yield Finding(kind=FindingKind.DEADLINE, text=text)


def _about(job: JobRecord, kind: FindingKind, text: str, advice: str = "") -> Finding:
    return Finding(kind=kind, text=text, since=job.created_at, until=job.updated_at, advice=advice)


def _explain_failures(case: Case, repositories: Repositories, stage: StageRecord) -> Iterator[Finding]:
    """Yield which policy failed a stage, and its first failed tasks."""
    if stage.status is StageStatus.FAILED and case.job.status is JobStatus.FAILED:
        yield Finding(
            kind=FindingKind.STAGE_FAILED,
            depth=1,
            stage_number=stage.stage_number,
            task_count=stage.failed_tasks,
            text=f"{_named(stage)} failed: {_tally(stage)}{_policy(case, stage)}",
            until=stage.updated_at,
        )
    if not stage.failed_tasks:
        return
    failures = repositories.stages.list_result_rows(stage.stage_id, 0, _SHOWN_FAILURES, failed_only=True)
    for failure in failures:
        yield Finding(
            kind=FindingKind.TASK_FAILED,
            depth=2,
            stage_number=stage.stage_number,
            task_count=1,
            text=f"task {failure.task_index} failed in its attempt {failure.attempt}: {last_line(failure.error_details)}",
        )
    if stage.failed_tasks > len(failures):
        rest = stage.failed_tasks - len(failures)
        yield Finding(
            kind=FindingKind.TASK_FAILED,
            depth=2,
            stage_number=stage.stage_number,
            task_count=rest,
            text=f"{counted(rest, 'further task')} failed",
            advice=f"list them: stageflow tasks {case.job.job_id[:16]} --stage {stage.stage_number}",
        )


def _tally(stage: StageRecord) -> str:
    parts = [
        f"{count:,} {what}"
        for count, what in (
            (stage.successful_tasks, "completed"),
            (stage.failed_tasks, "failed"),
            (stage.skipped_tasks, "skipped"),
            (stage.cancelled_tasks, "cancelled"),
        )
        if count
    ]
    return f"of {counted(stage.task_count)} {', '.join(parts) or 'none ended'}"


def _policy(case: Case, stage: StageRecord) -> str:
    policy = case.policy_of(stage)
    if policy is None:
        return "; it was halted by its policy, which skips what waits" if stage.halted else ""
    match policy.mode:
        case FailureMode.ALL if policy.fail_fast:
            return "; its policy stops at the first failure"
        case FailureMode.ALL:
            return "; its policy is that every task must complete"
        case FailureMode.ANY:
            return "; its policy is that at least one task must complete"
        case FailureMode.RATE:
            return f"; its policy is that at least {policy.minimum_success_rate:g} % of the tasks must complete"


def _explain_stage(case: Case, stage: StageRecord) -> Iterator[Finding]:
    """Yield what an open stage waits for, then why each part of that has not ended."""
    groups = case.groups_of(stage)
    kinds = {group.kind for group in groups}
    if WorkKind.PLAN in kinds:
        yield _headline(
            stage, FindingKind.PLANNING, f"is being planned, {counted(stage.task_count)} so far", groups_begun=groups
        )
    elif WorkKind.ADVANCE in kinds:
        yield _headline(stage, FindingKind.ADVANCING, "has run all its tasks and is being advanced", groups_begun=groups)
    if WorkKind.TASK in kinds:
        open_tasks = sum(group.task_count for group in groups if group.kind is WorkKind.TASK)
        yield Finding(
            kind=FindingKind.STAGE_WAITS,
            depth=1,
            stage_number=stage.stage_number,
            task_count=open_tasks,
            text=f"{_named(stage)} waits for {open_tasks:,} of {counted(stage.task_count)}",
            since=stage.created_at,
        )
    for group in groups:
        yield from explain_group(case, stage, group)
    yield from _explain_gap(case, stage)


def _explain_gap(case: Case, stage: StageRecord) -> Iterator[Finding]:
    """Yield a finding if the stage's counter and its open ranges contradict each other, or nothing moves it."""
    if case.job.is_terminal or not case.settled:
        return
    groups = case.groups_of(stage)
    open_tasks = sum(group.task_count for group in groups if group.kind is WorkKind.TASK)
    if not groups:
        what = (
            f"{counted(stage.remaining)} {verb(stage.remaining, 'remains', 'remain')}"
            if stage.remaining
            else "all its tasks have ended"
        )
        yield _stuck(stage, f"{_named(stage)} is moved by nothing: {what}, and no range is there that would be claimed")
    elif open_tasks != stage.remaining:
        yield _stuck(stage, f"the counter of {_named(stage)} says {stage.remaining:,}, its ranges hold {open_tasks:,}")


def _headline(stage: StageRecord, kind: FindingKind, what: str, *, groups_begun: list[OpenGroup]) -> Finding:
    since = min(head.created_at for group in groups_begun if group.kind is not WorkKind.TASK for head in group.heads)
    return Finding(kind=kind, depth=1, stage_number=stage.stage_number, text=f"{_named(stage)} {what}", since=since)


def _stuck(stage: StageRecord | None, text: str) -> Finding:
    number = None if stage is None else stage.stage_number
    return Finding(kind=FindingKind.STUCK, depth=1, stage_number=number, text=text, advice=_DOCTOR)


def _named(stage: StageRecord) -> str:
    return f"stage {stage.stage_number} ({stage.name})"
