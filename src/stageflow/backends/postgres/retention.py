"""What is deleted because of its age."""

from datetime import datetime

from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.damage import nearest_time
from stageflow.contracts.retention import PurgeBatch, PurgedBatch, PurgedLetters, PurgePosition


class Retention(Part):
    """Satisfies ``stageflow.ports.RetentionStore``."""

    def purge_jobs(self, batch: PurgeBatch) -> PurgedBatch:
        """Delete ended jobs of one status, oldest first, each whole; what is in somebody's hands is passed over."""
        after = batch.after
        ((jobs, tasks, size_bytes, kept, created_at, job_id),) = self._database.write(
            query("purge_jobs"),
            (
                batch.status.value,
                batch.before,
                None if after is None else after.created_at,
                None if after is None else after.job_id,
                batch.limit,
                batch.max_tasks,
                batch.dry_run,
            ),
        )
        last = None if job_id is None else PurgePosition(created_at=nearest_time(created_at), job_id=job_id)
        return PurgedBatch(jobs=jobs, tasks=tasks, size_bytes=size_bytes, kept=kept, last=last)

    def purge_letters(self, *, before: datetime, limit: int, dry_run: bool) -> PurgedLetters:
        """Delete dead letters that were parked earlier and are no longer open."""
        ((letters, size_bytes),) = self._database.write(query("purge_letters"), (before, limit, dry_run))
        return PurgedLetters(letters=letters, size_bytes=size_bytes)
