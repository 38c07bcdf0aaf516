"""Audits a store, and mends what can be mended."""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from stageflow.contracts.audit import LateRange, StageAudit
from stageflow.contracts.job_state import JobState
from stageflow.contracts.open_work import OpenState
from stageflow.contracts.schema import SchemaReport, SchemaState
from stageflow.contracts.status import TERMINAL_STAGE_STATUSES
from stageflow.errors import MalformedRowError
from stageflow.insights.audit import judge_stage
from stageflow.insights.diagnosis import Ailment, AilmentKind, Diagnosis
from stageflow.insights.payloads import examine_payloads
from stageflow.insights.schedules import examine_schedules
from stageflow.insights.words import clock_time, duration, work_named
from stageflow.ports import Store
from stageflow.repositories import Repositories

T = TypeVar("T")

_PAGE: Final = 200
_BATCH_TASKS: Final = 100_000
_SHOWN: Final = 20
_LATE_SECONDS: Final = 60.0
_OLD_SECONDS: Final = 300.0


def examine_store(repositories: Repositories, *, repair: bool, uses_queue: bool, job_types: Collection[str] = ()) -> Diagnosis:
    """Return what is wrong with a store: its schema, the rows of all jobs that have not ended, what is late.

    Safe beside workers: each stage is seen as at one moment, and what is mended is looked at again under its lock.

    Args:
        repair: Mend counters and what has no mover, and say what is mended.
        uses_queue: An external queue should have been told of ready work.
        job_types: The workflows that are registered here; schedules of others are left to others.
    """
    store = repositories.store
    report = store.verify()
    if report.state is not SchemaState.CURRENT:
        # What is not there cannot say what time it is.
        return Diagnosis(now=datetime.now(UTC), audited_jobs=0, audited_stages=0, ailments=[_wrong_schema(report)])
    ailments = [_drift(sentence) for sentence in report.drifts]
    jobs = stages = 0
    job_ids = store.list_open_jobs()
    for start in range(0, len(job_ids), _PAGE):
        page = job_ids[start : start + _PAGE]
        states, unreadable = _readable(page, store.get_job_states)
        ailments += unreadable
        jobs += len(page)
        for batch in _batches(states):
            audits, unreadable = _readable([state.job.job_id for state in batch], store.audit_stages)
            ailments += unreadable
            stages += len(audits)
            for audit in audits:
                ailments += _examine_stage(store, audit, repair=repair)
            ailments += _examine_stageless(store, batch, audits)
    for examined in (
        _examine_lateness(store, uses_queue=uses_queue),
        _examine_snapshots(store),
        examine_payloads(repositories, repair=repair),
        examine_schedules(store, job_types),
    ):
        ailments += _up_to_damage(examined)
    return Diagnosis(now=store.now(), audited_jobs=jobs, audited_stages=stages, ailments=ailments, unchecked=report.unchecked)


def _wrong_schema(report: SchemaReport) -> Ailment:
    text = f"the schema is {report.state} (version {report.version}); nothing else was looked at"
    newer = report.state is SchemaState.NEWER
    advice = "install the stageflow that made it, or a newer one" if newer else "run `stageflow migrate`"
    return Ailment(kind=AilmentKind.SCHEMA_DRIFT, text=text, advice=advice)


def _drift(sentence: str) -> Ailment:
    advice = "run `stageflow migrate`; what it does not restore, undo by hand"
    return Ailment(kind=AilmentKind.SCHEMA_DRIFT, text=sentence, advice=advice)


def _readable(job_ids: Sequence[str], read: Callable[[Sequence[str]], list[T]]) -> tuple[list[T], list[Ailment]]:
    """Return what can be read of jobs, and those that cannot be: found by halves, for one damaged row spoils its whole page."""
    try:
        return read(job_ids), []
    except MalformedRowError as error:
        if len(job_ids) == 1:
            return [], [_damaged(f"job {job_ids[0][:16]} cannot be read: {error}", job_ids[0])]
    middle = len(job_ids) // 2
    first, first_unreadable = _readable(job_ids[:middle], read)
    rest, rest_unreadable = _readable(job_ids[middle:], read)
    return first + rest, first_unreadable + rest_unreadable


def _up_to_damage(examined: Iterator[Ailment]) -> Iterator[Ailment]:
    """Yield what one examination finds, and the row at which it had to end."""
    try:
        yield from examined
    except MalformedRowError as error:
        yield _damaged(str(error), None)


def _damaged(text: str, job_id: str | None) -> Ailment:
    advice = "correct the row by hand"
    if job_id is not None:
        advice += f"; or `stageflow cancel {job_id[:16]}`, and submit the work as another job"
    return Ailment(kind=AilmentKind.ROW_DAMAGED, job_id=job_id, text=text, advice=advice)


def _batches(states: list[JobState]) -> Iterator[list[JobState]]:
    batch: list[JobState] = []
    tasks = 0
    for state in states:
        batch.append(state)
        tasks += sum(stage.task_count for stage in state.stages)
        if tasks >= _BATCH_TASKS:
            yield batch
            batch, tasks = [], 0
    if batch:
        yield batch


def _examine_stage(store: Store, audit: StageAudit, *, repair: bool) -> list[Ailment]:
    """Return what is wrong with a stage, after mending what can be mended of it."""
    found = list(judge_stage(audit))
    if not found or not repair:
        return found
    stage = audit.stage
    store.mend_movers(stage.stage_id)  # first: counters are mended only where the rows are whole
    store.mend_counters(stage.stage_id)
    store.mend_control(stage.stage_id)
    left = {
        ailment.kind
        for again in store.audit_stages([stage.job_id])
        if again.stage.stage_id == stage.stage_id
        for ailment in judge_stage(again)
    }
    return [
        ailment.model_copy(update={"advice": _advice_when_left(ailment)})
        if ailment.kind in left
        else ailment.model_copy(update={"mended": True, "advice": "nothing: it is mended"})
        for ailment in found
    ]


def _advice_when_left(ailment: Ailment) -> str:
    if ailment.kind is AilmentKind.COUNTERS_WRONG:
        return (
            "it could not be mended, because somebody is advancing the stage, or because its rows are wrong too: mend these, "
            "and run this again when the advancing has ended"
        )
    return ailment.advice


def _examine_stageless(store: Store, batch: list[JobState], audits: list[StageAudit]) -> Iterator[Ailment]:
    """Yield the open jobs of a batch that nothing will ever move: all their stages are closed, and no control work is left."""
    with_stage = {audit.stage.job_id for audit in audits}
    for state in batch:
        if state.job.is_terminal or state.job.job_id in with_stage:
            continue
        if any(stage.status not in TERMINAL_STAGE_STATUSES for stage in state.stages):
            continue
        if store.list_open_work([stage.stage_id for stage in state.stages], heads=1):
            continue
        # Two looks at the job around the one at its work: one that moved meanwhile is well.
        if any((again.job, again.stages) != (state.job, state.stages) for again in store.get_job_states([state.job.job_id])):
            continue
        yield Ailment(
            kind=AilmentKind.JOB_WITHOUT_STAGE,
            job_id=state.job.job_id,
            text=f"job {state.job.job_id[:16]} is {state.job.status}, but all its stages are closed and none will be opened",
            since=state.job.updated_at,
            advice="cancel it, and submit the work as another job (new_run)",
        )


def _examine_lateness(store: Store, *, uses_queue: bool) -> Iterator[Ailment]:
    now = store.now()
    for late in store.list_late_ranges(OpenState.LEASED, late_seconds=_LATE_SECONDS, limit=_SHOWN):
        expired = late.range.lease_expires_at or late.range.created_at
        yield _late(
            late,
            AilmentKind.LEASE_EXPIRED,
            f"is leased by {late.range.worker_id}, whose lease ended at {clock_time(expired, now)} "
            f"({duration(now - expired)} ago), and nobody took it over",
            "start a worker, or call app.maintain() from a timer: either recovers the work of the dead",
        )
    if not uses_queue:
        return
    for late in store.list_late_ranges(OpenState.READY, late_seconds=_LATE_SECONDS, limit=_SHOWN):
        since = late.range.touched_at
        yield _late(
            late,
            AilmentKind.NOT_ANNOUNCED,
            f"is ready since {clock_time(since, now)} or later, and the queue was not told",
            "see whether the queue can be reached (`stageflow check`), and start a worker with it or call app.maintain()",
        )


def _late(late: LateRange, kind: AilmentKind, text: str, advice: str) -> Ailment:
    return Ailment(
        kind=kind,
        job_id=late.job_id,
        stage_number=late.stage_number,
        text=f"{work_named(late.range)} in stage {late.stage_number} of job {late.job_id[:16]} {text}",
        since=late.range.lease_expires_at or late.range.touched_at,
        advice=advice,
    )


def _examine_snapshots(store: Store) -> Iterator[Ailment]:
    for snapshot in store.list_old_snapshots(_OLD_SECONDS):
        yield Ailment(
            kind=AilmentKind.OLD_SNAPSHOT,
            text=f"{snapshot.holder} has had a transaction open since {snapshot.since:%Y-%m-%d %H:%M:%S}: rows that are dead "
            f"since then cannot be removed, and claims become slow",
            since=snapshot.since,
            advice="commit or end that transaction; see to it that none stays open for minutes",
        )
