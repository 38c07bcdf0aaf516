"""What the doctor asks, and the few things that it mends."""

from collections.abc import Sequence

from stageflow.backends.postgres.insights import open_range_from_row
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.rows import stage_from_row
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.audit import LateRange, OldSnapshot, StageAudit
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenState
from stageflow.errors import InvalidValueError


class Audits(Part):
    """Satisfies ``stageflow.ports.AuditStore``."""

    def list_open_jobs(self) -> list[str]:
        """Return the ids of all jobs that have not ended."""
        return [job_id for (job_id,) in self._database.read(query("list_open_jobs"), ())]

    def audit_stages(self, job_ids: Sequence[str]) -> list[StageAudit]:
        """Return the open stages of the jobs' present runs with what their rows add up to; each stage as at one moment."""
        rows = self._database.read(query("audit_stages"), (list(dict.fromkeys(job_ids)),))
        return [
            StageAudit(
                stage=stage_from_row(row[:22]),
                planned=row[22],
                defined_tasks=row[23],
                open_tasks=row[24],
                completed_tasks=row[25],
                failed_tasks=row[26],
                skipped_tasks=row[27],
                cancelled_tasks=row[28],
                missing_tasks=row[29],
                first_missing=row[30],
                doubled_tasks=row[31],
                first_doubled=row[32],
                control=None if row[33] is None else WorkKind(row[33]),
            )
            for row in rows
        ]

    def list_late_ranges(self, state: OpenState, *, late_seconds: float, limit: int) -> list[LateRange]:
        """Return leased ranges whose lease ended, or ready ranges of which no queue was told, so long ago."""
        match state:
            case OpenState.LEASED:
                statement = query("list_expired")
            case OpenState.READY:
                statement = query("list_untold")
            case OpenState.WAITING | OpenState.HELD:
                msg = f"a {state} range is never late; ask for leased or ready ones"
                raise InvalidValueError(msg)
        rows = self._database.read(statement, (float(late_seconds), limit))
        return [LateRange(job_id=row[18], stage_number=row[19], range=open_range_from_row(row)) for row in rows]

    def list_old_snapshots(self, older_than_seconds: float) -> list[OldSnapshot]:
        """Return the transactions of the database that keep dead rows from being removed, oldest first."""
        rows = self._database.read(query("list_old_snapshots"), (float(older_than_seconds),))
        return [OldSnapshot(holder=holder, since=since) for holder, since in rows]

    def mend_movers(self, stage_id: int) -> int:
        """Make ready ranges of the tasks that have neither a result nor a range; returns how many tasks these are."""
        ((count,),) = self._database.write(query("mend_movers"), (stage_id,))
        return int(count)

    def mend_counters(self, stage_id: int) -> bool:
        """Set a stage's counters to what its rows add up to, if these cover each task exactly once."""
        ((mended,),) = self._database.write(query("mend_counters"), (stage_id,))
        return bool(mended)

    def mend_control(self, stage_id: int) -> bool:
        """Make the planning of a stage ready that has none and needs it, or its advancement."""
        ((mended,),) = self._database.write(query("mend_control"), (stage_id,))
        return bool(mended)
