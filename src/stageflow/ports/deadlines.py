"""Deadlines of jobs and stages; the store's clock decides."""

from typing import Protocol

from stageflow.contracts.deadline import Overdue, OverdueEnding


class DeadlineStore(Protocol):
    """Deadlines."""

    def start_stage_clock(self, range_id: int, token: int, seconds: float) -> bool:
        """Let the time of a stage begin: only the holder of its plan lease can, and a second call changes nothing.

        ``False``: the lease was lost.
        """
        ...

    def list_overdue(self, limit: int) -> list[Overdue]:
        """Return jobs that have not ended and are late, and those of which an open stage is, up to ``limit`` of each."""
        ...

    def end_overdue(self, ending: OverdueEnding) -> bool:
        """Fail a late job as ``end_job`` does; ``False``: it has ended, is in another run, or is not late."""
        ...
