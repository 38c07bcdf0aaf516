"""Delete what ended long ago: jobs with all that belongs to them, and dead letters that were dealt with."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from stageflow.contracts.retention import Purge, PurgeBatch, PurgedBatch, PurgePosition
from stageflow.contracts.status import TERMINAL_JOB_STATUSES, JobStatus
from stageflow.errors import InvalidTransitionError, InvalidValueError
from stageflow.repositories import Orphans, Repositories, find_orphans
from stageflow.telemetry import Telemetry

_LONGEST: Final = timedelta(days=36_525)
_MOST: Final = 1_000_000
_BATCH_JOBS: Final = 100
_BATCH_TASKS: Final = 50_000


def purge_ended(
    older_than: timedelta,
    repositories: Repositories,
    telemetry: Telemetry,
    *,
    status: JobStatus | None,
    dry_run: bool,
    limit: int,
) -> Purge:
    """Delete ended jobs whose last change is older, and without a status also dead letters that are no longer open.

    Each batch is a transaction of its own: what an interrupted purge deleted is gone, and the rest is whole. Then the blobs
    go of jobs that are not there any more, if they are as old and older than the grace period of payloads.

    Raises:
        InvalidValueError: The age or the limit is out of range.
        InvalidTransitionError: The status is not one of a job that has ended.
        BlobStoreUnreachableError: The rows are deleted, and the blob store does not answer; the next purge deletes the blobs.
    """
    _require_sane(older_than, limit)
    statuses = _ended(status)
    before = repositories.store.now() - older_than
    batches, complete = _purge_jobs(repositories, statuses, before, dry_run=dry_run, limit=limit)
    letters, size_bytes = 0, sum(batch.size_bytes for batch in batches)
    if status is None:
        purged = repositories.store.purge_letters(before=before, limit=limit, dry_run=dry_run)
        letters, size_bytes = purged.letters, size_bytes + purged.size_bytes
        complete = complete and letters < limit
    # After the rows: a crash in between leaves blobs that nobody names, and the next purge takes them.
    orphans = Orphans(0, 0, ()) if dry_run else find_orphans(repositories.store, repositories.payloads, before, remove=True)
    size_bytes += orphans.size_bytes
    answer = Purge(
        before=before,
        jobs=sum(batch.jobs for batch in batches),
        tasks=sum(batch.tasks for batch in batches),
        letters=letters,
        payloads=orphans.blobs,
        size_bytes=size_bytes,
        kept=sum(batch.kept for batch in batches),
        complete=complete,
        dry_run=dry_run,
    )
    if not dry_run:
        telemetry.emit("purged", jobs=answer.jobs, tasks=answer.tasks, letters=answer.letters, size_bytes=answer.size_bytes)
    return answer


def _purge_jobs(
    repositories: Repositories, statuses: Sequence[JobStatus], before: datetime, *, dry_run: bool, limit: int
) -> tuple[list[PurgedBatch], bool]:
    """Return what each batch did, and whether all that is old enough was looked at."""
    batches: list[PurgedBatch] = []
    left = limit
    for status in statuses:
        after: PurgePosition | None = None
        while left:
            batch = repositories.store.purge_jobs(
                PurgeBatch(
                    status=status,
                    before=before,
                    after=after,
                    limit=min(left, _BATCH_JOBS),
                    max_tasks=_BATCH_TASKS,
                    dry_run=dry_run,
                )
            )
            if batch.last is None:
                break
            batches.append(batch)
            after, left = batch.last, left - batch.jobs
        else:
            return batches, False
    return batches, True


def _require_sane(older_than: timedelta, limit: int) -> None:
    if not timedelta(0) < older_than <= _LONGEST:
        msg = (
            f"older_than must be longer than nothing and at most 100 years ({_LONGEST.days:,} days), got {older_than}; pass "
            "the age from which on ended jobs may go, such as timedelta(days=30)"
        )
        raise InvalidValueError(msg)
    if not 1 <= limit <= _MOST:
        msg = f"limit must be 1 to {_MOST:,}, got {limit}; it is the most jobs that one call deletes"
        raise InvalidValueError(msg)


def _ended(status: JobStatus | None) -> list[JobStatus]:
    if status is None:
        return sorted(TERMINAL_JOB_STATUSES)
    if status not in TERMINAL_JOB_STATUSES:
        allowed = ", ".join(sorted(TERMINAL_JOB_STATUSES))
        msg = f"a job that is {status} has not ended and is never purged; purge one of: {allowed}"
        raise InvalidTransitionError(msg)
    return [status]
