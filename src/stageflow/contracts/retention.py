"""Jobs and letters that are deleted because of their age: what the store is asked for, and what a caller is answered."""

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.ids import JobId
from stageflow.contracts.status import JobStatus


class PurgePosition(LateContract):
    """A job in the order in which a purge looks at those of one status: by creation, then by id."""

    created_at: UtcDatetime
    job_id: JobId


class PurgeBatch(LateContract):
    """One transaction of a purge.

    Attributes:
        before: Only jobs whose last change was earlier.
        after: Where the batch before ended.
        limit: Look at no more jobs than this.
        max_tasks: Stop behind the job that brings the tasks to this number; a job goes as a whole or not at all.
        dry_run: Count, and delete nothing.
    """

    status: JobStatus
    before: UtcDatetime
    after: PurgePosition | None
    limit: int = Field(ge=1)
    max_tasks: int = Field(ge=1)
    dry_run: bool


class PurgedBatch(LateContract):
    """What one transaction of a purge did.

    Attributes:
        kept: Jobs old enough that were passed over: work of theirs is still open, or somebody is changing them.
        last: The last job that was looked at; ``None`` where none was left.
    """

    jobs: int = Field(ge=0)
    tasks: int = Field(ge=0)
    size_bytes: int = Field(ge=0)
    kept: int = Field(ge=0)
    last: PurgePosition | None


class PurgedLetters(LateContract):
    """Dead letters that were deleted, and about how many bytes they had."""

    letters: int = Field(ge=0)
    size_bytes: int = Field(ge=0)


class Purge(LateContract):
    """The answer to ``purge``: what was deleted, or what would be.

    Attributes:
        before: What was last changed earlier was old enough, by the store's clock.
        jobs: Ended jobs, each with all its runs.
        tasks: Their tasks, each with its parameters and results.
        letters: Dead letters that had been requeued or discarded.
        payloads: Blobs of payloads too large for a row whose jobs are gone; a dry run does not count them.
        size_bytes: About how many bytes all of it had in the store, and in the blob store.
        kept: Jobs old enough that were passed over: work of theirs is still open, or somebody was changing them.
        complete: Whether all that is old enough was looked at; if not, the limit ended it, and another call goes on.
        dry_run: Nothing was deleted.
    """

    before: UtcDatetime
    jobs: int = Field(ge=0)
    tasks: int = Field(ge=0)
    letters: int = Field(ge=0)
    payloads: int = Field(default=0, ge=0)
    size_bytes: int = Field(ge=0)
    kept: int = Field(ge=0)
    complete: bool
    dry_run: bool
