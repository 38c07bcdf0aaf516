"""What the doctor asks, and the few things that it mends."""

from collections.abc import Sequence
from typing import Protocol

from stageflow.contracts.audit import LateRange, OldSnapshot, StageAudit
from stageflow.contracts.open_work import OpenState


class AuditStore(Protocol):
    """Audits of rows against counters, and their guarded mending.

    A mending function looks again under the stage's lock, and changes nothing where nothing is wrong, where the stage is
    closed, or where its job has ended.
    """

    def list_open_jobs(self) -> list[str]:
        """Return the ids of all jobs that have not ended; reads nothing else of them, so that none can be too damaged."""
        ...

    def audit_stages(self, job_ids: Sequence[str]) -> list[StageAudit]:
        """Return the open stages of the jobs' present runs with what their rows add up to; each stage as at one moment.

        Costs by the number of results.
        """
        ...

    def list_late_ranges(self, state: OpenState, *, late_seconds: float, limit: int) -> list[LateRange]:
        """Return ranges that are late by so much, the latest first.

        ``LEASED``: their lease ended, and nobody recovered them. ``READY``: they were made or leased last so long ago, and
        no external queue was told that they are ready. There are no others.
        """
        ...

    def list_old_snapshots(self, older_than_seconds: float) -> list[OldSnapshot]:
        """Return the transactions of the database that keep dead rows from being removed, oldest first."""
        ...

    def mend_movers(self, stage_id: int) -> int:
        """Make ready ranges of the tasks that have neither a result nor a range; returns how many tasks these are."""
        ...

    def mend_counters(self, stage_id: int) -> bool:
        """Set a stage's counters to what its rows add up to, if these cover each task exactly once.

        An advancement that the wrong counters opened too early is taken back, unless somebody is at it: then nothing changes.
        The failure policy is asked again, and a stage of which nothing remains gets its advancement.
        """
        ...

    def mend_control(self, stage_id: int) -> bool:
        """Make the planning of a stage ready that has none and needs it, or its advancement."""
        ...
