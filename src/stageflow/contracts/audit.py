"""What the rows of a store say of themselves, for the doctor to compare."""

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.ids import JobId
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenRange
from stageflow.contracts.stage_record import StageRecord


class StageAudit(LateContract):
    """An open stage, and what its rows add up to, as seen at one moment.

    Attributes:
        stage: The stage with its counters.
        planned: Whether its planning ended.
        defined_tasks: Tasks whose definitions are stored, counted by the highest index.
        open_tasks: Width of its open ranges.
        completed_tasks: Results with this status.
        failed_tasks: Likewise.
        skipped_tasks: Likewise, and the width of ranges that were closed so.
        cancelled_tasks: Likewise.
        missing_tasks: Indexes with neither a result nor a range: nothing moves them.
        first_missing: The lowest of them.
        doubled_tasks: Indexes with more than one of these.
        first_doubled: The lowest of them.
        control: What control range it has: one for planning, one for advancing, or none.
    """

    stage: StageRecord
    planned: bool
    defined_tasks: int = Field(ge=0)
    open_tasks: int = Field(ge=0)
    completed_tasks: int = Field(ge=0)
    failed_tasks: int = Field(ge=0)
    skipped_tasks: int = Field(ge=0)
    cancelled_tasks: int = Field(ge=0)
    missing_tasks: int = Field(ge=0)
    first_missing: int | None
    doubled_tasks: int = Field(ge=0)
    first_doubled: int | None
    control: WorkKind | None

    @property
    def unended_tasks(self) -> int:
        """Tasks without a result that are in no closed range: what the stage's counter should say."""
        return self.open_tasks + self.missing_tasks

    @property
    def counters_agree(self) -> bool:
        """Whether the stage's counters are what its rows add up to; what nothing moves is counted as remaining."""
        stage = self.stage
        return (
            stage.remaining,
            stage.successful_tasks,
            stage.failed_tasks,
            stage.skipped_tasks,
            stage.cancelled_tasks,
        ) == (self.unended_tasks, self.completed_tasks, self.failed_tasks, self.skipped_tasks, self.cancelled_tasks)


class LateRange(LateContract):
    """An open range of which something is overdue."""

    job_id: JobId
    stage_number: int = Field(ge=1)
    range: OpenRange


class OldSnapshot(LateContract):
    """A transaction of the database that keeps vacuum from removing dead rows.

    Attributes:
        holder: Who holds it, as the database names it.
        since: When it began, by the database's own clock.
    """

    holder: str
    since: UtcDatetime
