"""Why leased work has not ended: it runs, it runs for long, or its holder is silent."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenGroup, OpenRange
from stageflow.contracts.stage import StageRecord
from stageflow.insights.case import Case, lease_end
from stageflow.insights.explanation import CAUSE, Finding, FindingKind
from stageflow.insights.words import clock_time, counted, duration, tasks_in, verb, work_named

SLOW_SECONDS: Final = 300.0
"""A task that a worker has been at for so long is named by itself."""


def explain_leases(case: Case, stage: StageRecord, group: OpenGroup) -> Iterator[Finding]:
    """Yield a finding for each lease that needs one of its own, and one for all the others."""
    fine: list[OpenRange] = []
    apart = 0
    for leased in group.heads:
        finding = _silent(case, stage, leased) or _slow(case, stage, leased)
        if finding is None:
            fine.append(leased)
        else:
            apart += leased.width
            yield finding
    rest = group.task_count - apart
    if fine:
        yield _running(case, stage, fine, rest)
    elif rest:
        text = f"{counted(rest, 'further task')} {verb(rest, 'is', 'are')} leased"
        yield Finding(kind=FindingKind.RUNNING, depth=CAUSE, stage_number=stage.stage_number, task_count=rest, text=text)


def _silent(case: Case, stage: StageRecord, leased: OpenRange) -> Finding | None:
    """Return the finding on a lease whose holder missed its heartbeats."""
    if not case.is_silent(leased):
        return None
    expires, heard = lease_end(leased), case.heard_of(leased)
    rest = expires - case.now
    ends = f"ends in {duration(rest)}" if rest > timedelta() else f"ended {duration(-rest)} ago"
    live = case.live_workers(leased.work_type)
    return Finding(
        kind=FindingKind.WORKER_SILENT,
        depth=CAUSE,
        stage_number=stage.stage_number,
        task_count=tasks_in(leased),
        text=(
            f"{work_named(leased)} {verb(leased.width, 'is', 'are')} leased by worker {leased.worker_id}, last heard of at "
            f"{clock_time(heard, case.now)} ({duration(case.now - heard)} ago); its lease {ends}"
        ),
        since=heard,
        until=expires,
        advice=(
            "nothing: a live worker takes the work over once the lease has ended"
            if live
            else "start a worker for this workflow: no live one is there that could take the work over"
        ),
    )


def _slow(case: Case, stage: StageRecord, leased: OpenRange) -> Finding | None:
    since = leased.current_since
    if since is None or leased.current_index is None or case.now - since <= timedelta(seconds=SLOW_SECONDS):
        return None
    what = f"task {leased.current_index}" if leased.kind is WorkKind.TASK else work_named(leased)
    return Finding(
        kind=FindingKind.HANDLER_SLOW,
        depth=CAUSE,
        stage_number=stage.stage_number,
        task_count=tasks_in(leased),
        text=(
            f"{what} has been running on worker {leased.worker_id} since {clock_time(since, case.now)} "
            f"({duration(case.now - since)}) in its attempt {leased.attempt}; the worker is alive and keeps the lease"
        ),
        since=since,
        advice=(
            "if it takes longer than it should, see what its handler waits for (py-spy dump on that process); stop the "
            "worker to have the task run elsewhere"
        ),
    )


def _running(case: Case, stage: StageRecord, leases: list[OpenRange], task_count: int) -> Finding:
    workers = sorted({leased.worker_id for leased in leases if leased.worker_id is not None})
    first = leases[0]
    expires = lease_end(first)
    begun = min((leased.current_since for leased in leases if leased.current_since is not None), default=None)
    who = f"worker {workers[0]}" if len(workers) == 1 else f"{len(workers)} workers"
    what = counted(task_count) if first.kind is WorkKind.TASK else work_named(first)
    is_or_are = "is" if first.kind is not WorkKind.TASK else verb(task_count, "is", "are")
    since = (
        ""
        if begun is None
        else f", the one that has run longest since {clock_time(begun, case.now)} ({duration(case.now - begun)})"
    )
    if begun is not None and (task_count == 1 or first.kind is not WorkKind.TASK):
        since = f" since {clock_time(begun, case.now)} ({duration(case.now - begun)})"
    lease = "its lease" if len(leases) == 1 else "the first lease"
    return Finding(
        kind=FindingKind.RUNNING,
        depth=CAUSE,
        stage_number=stage.stage_number,
        task_count=task_count if first.kind is WorkKind.TASK else 0,
        text=f"{what} {is_or_are} leased by {who}{since}; {lease} ends in {duration(expires - case.now)} unless it is renewed",
        since=begun,
        until=expires,
    )
