"""Why ready work has not been claimed: nobody hears of it, nobody knows it, or all who do are busy."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from stageflow.contracts.open_work import OpenGroup
from stageflow.contracts.stage import StageRecord
from stageflow.insights.case import Case
from stageflow.insights.explanation import CAUSE, Finding, FindingKind
from stageflow.insights.limits import explain_limit, explain_pause
from stageflow.insights.words import clock_time, counted, group_named, group_tasks, verb

LATE_SECONDS: Final = 10.0
"""Ready work that the external queue has not been told of for so long is late: workers tell it several times a second."""


def explain_ready(case: Case, stage: StageRecord, group: OpenGroup) -> Iterator[Finding]:
    """Yield why the ready ranges of a group have not been claimed."""
    paused = explain_pause(case, stage, group)
    if paused is not None:
        yield paused
        return
    first = min(group.heads, key=lambda ready: ready.touched_at)
    untold = _untold(case, stage, group)
    if untold is not None:
        yield untold
        return
    nobody = list(explain_nobody(case, stage, group))
    if nobody:
        yield from nobody
        return
    limited = explain_limit(case, stage, group)
    if limited is not None:
        yield limited
        return
    workers = case.live_workers(first.work_type)
    slots = sum(worker.slots for worker in workers)
    yield Finding(
        kind=FindingKind.READY,
        depth=CAUSE,
        stage_number=stage.stage_number,
        task_count=group_tasks(group),
        text=(
            f"{group_named(group)} {verb(group.task_count, 'waits', 'wait')} for a free slot: "
            f"{counted(len(workers), 'live worker')} with {counted(slots, 'slot')} {verb(len(workers), 'knows', 'know')} "
            f"{first.work_type}"
        ),
        since=first.touched_at,
        advice="nothing while other work moves; add workers or slots to go faster",
    )


def _untold(case: Case, stage: StageRecord, group: OpenGroup) -> Finding | None:
    """Return the finding on ready work that nobody hears of, because the external queue is away or was not told."""
    if not case.uses_queue:
        return None
    late = [ready for ready in group.heads if ready.announced_at is None]
    since = min((ready.touched_at for ready in late), default=case.now)
    what, are = group_named(group), verb(group.task_count, "is", "are")
    if case.queue_error is not None:
        return Finding(
            kind=FindingKind.QUEUE_UNREACHABLE,
            depth=CAUSE,
            stage_number=stage.stage_number,
            task_count=group_tasks(group),
            text=f"{what} {are} ready, but the queue that tells of it cannot be reached: {case.queue_error}",
            since=since if late else None,
            advice="bring the queue back; what waits is announced by itself then",
        )
    if case.now - since <= timedelta(seconds=LATE_SECONDS):
        return None
    return Finding(
        kind=FindingKind.NOT_ANNOUNCED,
        depth=CAUSE,
        stage_number=stage.stage_number,
        task_count=group_tasks(group),
        text=f"{what} {are} ready since {clock_time(since, case.now)} or later, and the queue was not told",
        since=since,
        advice="start a worker with this queue, or call app.maintain() from a timer: one of them must tell the queue",
    )


def explain_nobody(case: Case, stage: StageRecord, group: OpenGroup) -> Iterator[Finding]:
    """Yield a finding if no live worker knows the work of a group, and say whether one did lately."""
    work_type = group.heads[0].work_type
    if case.live_workers(work_type):
        return
    known = [worker for worker in case.workers.values() if work_type in worker.work_types]
    last = max(known, key=lambda worker: worker.seen_at, default=None)
    live = case.living
    if last is not None:
        seen = f"the last that did, {last.worker_id}, was seen at {clock_time(last.seen_at, case.now)}"
    else:
        seen = (
            f"{counted(len(live), 'live worker')} {verb(len(live), 'is', 'are')} there, for other work" if live else "none runs"
        )
    on_queue = " (hosts that take messages from the queue are not listed as workers)" if case.uses_queue else ""
    yield Finding(
        kind=FindingKind.NO_WORKER,
        depth=CAUSE,
        stage_number=stage.stage_number,
        task_count=group_tasks(group),
        text=f"no live worker knows {work_type}; {seen}{on_queue}",
        since=None if last is None else last.seen_at,
        advice=f"start a worker that registers workflow {work_type.split('/')[0]} version {work_type.split('/')[1]}",
    )
