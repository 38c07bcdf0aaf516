"""Deadlines of jobs and stages."""

from stageflow.backends.sqlite.clock import span_micros, stored_time
from stageflow.backends.sqlite.ending import end_open_job
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import get_leased
from stageflow.contracts.damage import nearest_time
from stageflow.contracts.deadline import Overdue, OverdueEnding
from stageflow.contracts.job import JobEnding
from stageflow.contracts.status import JobStatus

_LATE_JOBS = (
    "select job_id, run, null, deadline from stageflow_jobs where deadline is not null"
    " and (status = 'queued' or status = 'processing' or status = 'paused') and deadline <= ? order by deadline limit ?"
)
_LATE_STAGES = (
    "select s.job_id, s.run, s.stage_number, s.deadline from stageflow_stages s"
    " join stageflow_jobs j on j.job_id = s.job_id and j.run = s.run"
    " and (j.status = 'queued' or j.status = 'processing' or j.status = 'paused')"
    " where s.deadline is not null and (s.status = 'pending' or s.status = 'planning' or s.status = 'processing')"
    " and s.deadline <= ? order by s.deadline limit ?"
)
_IS_LATE = (
    "select 1 from stageflow_jobs j where j.job_id = ?1 and j.run = ?2 and (j.deadline <= ?3 or exists (select 1 from"
    " stageflow_stages s where s.job_id = ?1 and s.run = ?2 and s.deadline <= ?3"
    " and (s.status = 'pending' or s.status = 'planning' or s.status = 'processing')))"
)


class SqliteDeadlines(StorePart):
    """Knows what is late, and fails it."""

    def start_stage_clock(self, range_id: int, token: int, seconds: float) -> bool:
        """Let the time of a stage begin; ``False``: the plan lease was lost."""
        with self._database.transaction() as tx:
            work = get_leased(tx, range_id, token)
            if work is None:
                return False
            tx.run(
                "update stageflow_stages set deadline = coalesce(deadline, ?) where stage_id = ?",
                (tx.now + span_micros(seconds), work.stage_id),
            )
            return True

    def list_overdue(self, limit: int) -> list[Overdue]:
        """Return jobs that have not ended and are late, and those of which an open stage is, up to ``limit`` of each."""
        with self._database.reading() as tx:
            rows = [*tx.rows(_LATE_JOBS, (tx.now, limit)), *tx.rows(_LATE_STAGES, (tx.now, limit))]
        return [
            Overdue(job_id=job_id, run=run, stage_number=stage_number, deadline=nearest_time(stored_time(deadline)))
            for job_id, run, stage_number, deadline in rows
        ]

    def end_overdue(self, ending: OverdueEnding) -> bool:
        """Fail a late job as ``end_job`` does; ``False``: it has ended, is in another run, or is not late."""
        with self._database.transaction() as tx:
            if tx.row(_IS_LATE, (ending.job_id, ending.run, tx.now)) is None:
                return False
            failure = JobEnding(job_id=ending.job_id, status=JobStatus.FAILED, error_details=ending.error_details)
            return end_open_job(tx, failure)
