"""What is deleted because of its age."""

from datetime import datetime
from typing import Protocol

from stageflow.contracts.retention import PurgeBatch, PurgedBatch, PurgedLetters


class RetentionStore(Protocol):
    """What is deleted because of its age."""

    def purge_jobs(self, batch: PurgeBatch) -> PurgedBatch:
        """Delete ended jobs of one status, oldest first, each whole: all its runs, and all that belongs to them.

        A job that has not ended, was changed since, has open work (a handler that still runs, say), or is being changed by
        somebody is passed over. Waits for nobody.
        """
        ...

    def purge_letters(self, *, before: datetime, limit: int, dry_run: bool) -> PurgedLetters:
        """Delete at most ``limit`` dead letters that were parked earlier and are no longer open."""
        ...
