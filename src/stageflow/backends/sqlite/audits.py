"""What the doctor asks: stages and what their rows add up to, and what is late."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from stageflow.backends.sqlite.clock import span_micros
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.insights import to_open_range
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import json_list
from stageflow.backends.sqlite.rows import STAGES_OF_RUN, to_stage_record
from stageflow.contracts.audit import LateRange, OldSnapshot, StageAudit
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenState
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import TERMINAL_STAGE_STATUSES
from stageflow.errors import InvalidValueError

# Results and task ranges, swept in index order; the last piece is the end of the stage.
_TALLY: Final = (
    "with pieces as (select task_index as first, task_index + 1 as last, status as state from stageflow_results"
    " where stage_id = ?1 union all"
    " select first, last, case when state in ('skipped', 'cancelled') then state else 'open' end from stageflow_ranges"
    " where stage_id = ?1 and kind = 'task' union all select ?2, ?2, 'end'),"
    " swept as (select pieces.*, coalesce(max(last) over (order by first, last"
    " rows between unbounded preceding and 1 preceding), 0) as before from pieces)"
    " select coalesce(sum(last - first) filter (where state = 'open'), 0),"
    " coalesce(sum(last - first) filter (where state = 'completed'), 0),"
    " coalesce(sum(last - first) filter (where state = 'failed'), 0),"
    " coalesce(sum(last - first) filter (where state = 'skipped'), 0),"
    " coalesce(sum(last - first) filter (where state = 'cancelled'), 0),"
    " coalesce(sum(first - before) filter (where first > before), 0), min(before) filter (where first > before),"
    " coalesce(sum(min(before, last) - first) filter (where first < before), 0),"
    " min(first) filter (where first < before and last > first) from swept"
)
_OPEN_JOBS: Final = "select job_id from stageflow_jobs where status in ('queued', 'processing', 'paused') order by job_id"
_GAPS: Final = (
    "with pieces as (select task_index as first, task_index + 1 as last from stageflow_results where stage_id = ?1 union all"
    " select first, last from stageflow_ranges where stage_id = ?1 and kind = 'task' union all select ?2, ?2),"
    " swept as (select first, coalesce(max(last) over (order by first, last"
    " rows between unbounded preceding and 1 preceding), 0) as before from pieces)"
    " select before, first from swept where first > before order by before"
)
_RANGE: Final = (
    "select r.range_id, r.stage_id, r.kind, r.work_type, r.state, r.first, r.last, r.attempt, r.deaths, r.not_before,"
    " r.worker_id, r.lease_expires_at, r.renewed_at, r.current_index, r.current_since, r.error_details, r.announced_at,"
    " r.created_at, s.job_id, s.stage_number"
    " from stageflow_ranges r cross join stageflow_stages s on s.stage_id = r.stage_id "
)
_EXPIRED: Final = _RANGE + "where r.state = 'leased' and r.lease_expires_at < ? order by r.lease_expires_at limit ?"
_UNTOLD: Final = _RANGE + (
    "where r.state = 'ready' and r.announced_at is null and max(r.created_at, coalesce(r.renewed_at, 0)) < ?"
    " order by r.range_id limit ?"
)


class RowTally(NamedTuple):
    """What the rows of a stage add up to."""

    open_tasks: int
    completed: int
    failed: int
    skipped: int
    cancelled: int
    missing: int
    first_missing: int | None
    doubled: int
    first_doubled: int | None


class SqliteAudits(StorePart):
    """Satisfies the reading half of ``stageflow.ports.AuditStore``."""

    def list_open_jobs(self) -> list[str]:
        """Return the ids of all jobs that have not ended."""
        with self._database.reading() as tx:
            return [job_id for (job_id,) in tx.rows(_OPEN_JOBS)]

    def audit_stages(self, job_ids: Sequence[str]) -> list[StageAudit]:
        """Return the open stages of the jobs' present runs with what their rows add up to; all as at one moment."""
        with self._database.reading() as tx:
            runs = tx.rows(
                "select j.job_id, j.run from json_each(?) asked cross join stageflow_jobs j on j.job_id = asked.value",
                (json_list(list(dict.fromkeys(job_ids))),),
            )
            stages = [to_stage_record(row) for run in runs for row in tx.rows(STAGES_OF_RUN, run)]
            audits = [_audit(tx, stage) for stage in stages if stage.status not in TERMINAL_STAGE_STATUSES]
        return sorted(audits, key=lambda audit: audit.stage.stage_id)

    def list_late_ranges(self, state: OpenState, *, late_seconds: float, limit: int) -> list[LateRange]:
        """Return leased ranges whose lease ended, or ready ranges of which no queue was told, so long ago."""
        match state:
            case OpenState.LEASED:
                statement = _EXPIRED
            case OpenState.READY:
                statement = _UNTOLD
            case OpenState.WAITING | OpenState.HELD:
                msg = f"a {state} range is never late; ask for leased or ready ones"
                raise InvalidValueError(msg)
        with self._database.reading() as tx:
            rows = tx.rows(statement, (tx.now - span_micros(late_seconds), limit))
        return [LateRange(job_id=row[18], stage_number=row[19], range=to_open_range(row)) for row in rows]

    def list_old_snapshots(self, older_than_seconds: float) -> list[OldSnapshot]:  # noqa: ARG002  nothing depends on it here
        """Return nothing: SQLite reuses pages whoever reads, and has no list of its readers."""
        return []


def tally_rows(tx: Transaction, stage_id: int, task_count: int) -> RowTally:
    """Return what the rows of a stage add up to."""
    return RowTally._make(tx.rows(_TALLY, (stage_id, task_count))[0])


def list_gaps(tx: Transaction, stage_id: int, task_count: int) -> list[tuple[int, int]]:
    """Return the indexes below ``task_count`` with neither a result nor a range, as ranges ``[first, last)``."""
    return [(first, last) for first, last in tx.rows(_GAPS, (stage_id, task_count))]


def _audit(tx: Transaction, stage: StageRecord) -> StageAudit:
    tally = tally_rows(tx, stage.stage_id, stage.task_count)
    planned, defined = tx.rows(
        "select planned, coalesce((select max(task_index) + 1 from stageflow_tasks where stage_id = ?1), 0)"
        " from stageflow_stages where stage_id = ?1",
        (stage.stage_id,),
    )[0]
    control = tx.row("select kind from stageflow_ranges where stage_id = ? and kind <> 'task'", (stage.stage_id,))
    return StageAudit(
        stage=stage,
        planned=bool(planned),
        defined_tasks=defined,
        open_tasks=tally.open_tasks,
        completed_tasks=tally.completed,
        failed_tasks=tally.failed,
        skipped_tasks=tally.skipped,
        cancelled_tasks=tally.cancelled,
        missing_tasks=tally.missing,
        first_missing=tally.first_missing,
        doubled_tasks=tally.doubled,
        first_doubled=tally.first_doubled,
        control=None if control is None else WorkKind(control[0]),
    )
