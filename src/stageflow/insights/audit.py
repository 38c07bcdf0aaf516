"""An audited stage, judged: what of it is wrong, and what to do."""

from collections.abc import Iterator

from stageflow.contracts.audit import StageAudit
from stageflow.contracts.lease import WorkKind
from stageflow.insights.diagnosis import Ailment, AilmentKind
from stageflow.insights.words import counted, verb

REPAIR = "run `stageflow doctor --repair`"


def judge_stage(audit: StageAudit) -> Iterator[Ailment]:
    """Yield what is wrong with a stage: its rows first, then its counters, then what should move it."""
    yield from _judge_rows(audit)
    yield from _judge_counters(audit)
    yield from _judge_control(audit)


def _judge_rows(audit: StageAudit) -> Iterator[Ailment]:
    stage = audit.stage
    undefined = stage.task_count - audit.defined_tasks
    if undefined > 0:
        yield _ailment(
            audit,
            AilmentKind.TASKS_MISSING,
            f"has {counted(stage.task_count)} by its counter, but the definitions from {audit.defined_tasks} on are gone",
            "restore the deleted rows from a backup, or cancel the job and submit it again",
        )
    if audit.missing_tasks:
        yield _ailment(
            audit,
            AilmentKind.TASKS_WITHOUT_MOVER,
            f"has {counted(audit.missing_tasks)} with neither a result nor a range, the first is task {audit.first_missing}: "
            f"nothing will ever run {verb(audit.missing_tasks, 'it', 'them')}",
            REPAIR,
        )
    if audit.doubled_tasks and stage.generation == 1:
        yield _ailment(
            audit,
            AilmentKind.TASKS_DOUBLED,
            f"has {counted(audit.doubled_tasks)} with more than one result or range, the first is task {audit.first_doubled}: "
            f"the second report will be refused",
            "find what wrote these rows, delete those that are too many, and run this again; or cancel the job",
        )


def _judge_counters(audit: StageAudit) -> Iterator[Ailment]:
    """Yield whether counters and rows disagree; not of a repaired stage, where older rows stand beside the newer."""
    stage = audit.stage
    if audit.counters_agree or stage.generation > 1:
        return
    pairs = [
        (name, counter, rows)
        for name, counter, rows in (
            ("remaining", stage.remaining, audit.unended_tasks),
            ("completed", stage.successful_tasks, audit.completed_tasks),
            ("failed", stage.failed_tasks, audit.failed_tasks),
            ("skipped", stage.skipped_tasks, audit.skipped_tasks),
            ("cancelled", stage.cancelled_tasks, audit.cancelled_tasks),
        )
        if counter != rows
    ]
    differences = ", ".join(f"{name} is {counter:,} and should be {rows:,}" for name, counter, rows in pairs)
    yield _ailment(
        audit, AilmentKind.COUNTERS_WRONG, f"has counters that are not what its rows add up to: {differences}", REPAIR
    )


def _judge_control(audit: StageAudit) -> Iterator[Ailment]:
    if audit.planned and audit.control is None and not audit.open_tasks and not audit.missing_tasks:
        yield _ailment(audit, AilmentKind.STAGE_NOT_ADVANCED, "has ended all its tasks, and nothing will advance it", REPAIR)
    if not audit.planned and audit.control is not WorkKind.PLAN:
        yield _ailment(audit, AilmentKind.STAGE_NOT_PLANNED, "is not planned whole, and nothing will plan it", REPAIR)


def _ailment(audit: StageAudit, kind: AilmentKind, text: str, advice: str) -> Ailment:
    stage = audit.stage
    return Ailment(
        kind=kind,
        job_id=stage.job_id,
        stage_number=stage.stage_number,
        text=f"stage {stage.stage_number} ({stage.name}) of job {stage.job_id[:16]} {text}",
        since=stage.updated_at,
        advice=advice,
    )
