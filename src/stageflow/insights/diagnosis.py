"""What is wrong with a store, and what was mended."""

from enum import StrEnum

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.ids import JobId


class AilmentKind(StrEnum):
    """What is wrong."""

    SCHEMA_DRIFT = "schema_drift"
    ROW_DAMAGED = "row_damaged"
    COUNTERS_WRONG = "counters_wrong"
    TASKS_WITHOUT_MOVER = "tasks_without_mover"
    TASKS_DOUBLED = "tasks_doubled"
    TASKS_MISSING = "tasks_missing"
    STAGE_NOT_ADVANCED = "stage_not_advanced"
    STAGE_NOT_PLANNED = "stage_not_planned"
    JOB_WITHOUT_STAGE = "job_without_stage"
    LEASE_EXPIRED = "lease_expired"
    NOT_ANNOUNCED = "not_announced"
    OLD_SNAPSHOT = "old_snapshot"
    SCHEDULE_FAILED = "schedule_failed"
    SCHEDULE_LATE = "schedule_late"
    PAYLOADS_ORPHANED = "payloads_orphaned"
    PAYLOADS_UNREACHABLE = "payloads_unreachable"


class Ailment(LateContract):
    """One thing that is wrong.

    Attributes:
        job_id: The job that it concerns; ``None`` where it concerns the whole store.
        stage_number: The stage that it concerns.
        text: What is wrong.
        since: Since when, where that is known.
        advice: What to do.
        mended: It was found, and is mended: the store does not have it any more.
    """

    kind: AilmentKind
    job_id: JobId | None = None
    stage_number: int | None = None
    text: str
    since: UtcDatetime | None = None
    advice: str
    mended: bool = False


class Diagnosis(LateContract):
    """The answer of ``doctor``.

    Attributes:
        now: The store's time.
        audited_jobs: Jobs that have not ended: these are looked at.
        audited_stages: Their open stages.
        unchecked: What could not be looked at, and who can; empty where everything was.
    """

    now: UtcDatetime
    audited_jobs: int = Field(ge=0)
    audited_stages: int = Field(ge=0)
    ailments: list[Ailment]
    unchecked: str = ""

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong, or all of it was mended."""
        return all(ailment.mended for ailment in self.ailments)
