"""Deadlines: started, looked up, enforced."""

from stageflow.contracts.base import checked_text
from stageflow.contracts.deadline import Overdue, OverdueEnding
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.lease import Lease
from stageflow.ports import Store


class DeadlineRepository:
    """What is late, by the store's clock."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @enforce_contract
    def start_stage_clock(self, lease: Lease, seconds: float) -> bool:
        """Let the time of the stage begin that a plan lease names; ``False`` where the lease was lost."""
        return self._store.start_stage_clock(lease.range_id, lease.token, seconds)

    @enforce_contract
    def list_overdue(self, limit: int) -> list[Overdue]:
        """Return jobs that have not ended and are late, and those of which an open stage is, up to ``limit`` of each."""
        return self._store.list_overdue(limit)

    @enforce_contract
    def end_overdue(self, ending: OverdueEnding) -> bool:
        """Fail a late job; ``False`` where it has ended, is in another run, or is not late."""
        checked_text(ending.error_details, "the error")
        return self._store.end_overdue(ending)
