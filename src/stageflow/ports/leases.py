"""Claims, leases, recovery, and the workers that hold them."""

from collections.abc import Sequence
from typing import Protocol

from stageflow.contracts.lease import (
    ClaimAnswer,
    ClaimRequest,
    HeldLease,
    LeaseExtension,
    NamedClaim,
    RangeReturn,
    Recovery,
    SeenLease,
)
from stageflow.contracts.worker import WorkerRecord


class LeaseStore(Protocol):
    """Claims and leases."""

    def claim(self, request: ClaimRequest) -> ClaimAnswer:
        """Lease the best ready ranges of the asked work types, splitting off what one lease may hold."""
        ...

    def claim_named(self, claim: NamedClaim) -> ClaimAnswer:
        """Lease what is ready of the named work; the rest of it is to be announced again."""
        ...

    def extend_leases(self, worker_id: str, leases: Sequence[HeldLease], lease_seconds: float) -> LeaseExtension:
        """Raise the beat and the expiry of leases still held."""
        ...

    def return_ranges(self, returns: Sequence[RangeReturn]) -> list[bool]:
        """Give unstarted tails back; ``False`` where the lease was lost.

        A tail that begins at or after the end of its range is empty: it went back before, or an operator took it.
        """
        ...

    def list_leases(self, limit: int) -> list[SeenLease]:
        """Return leases and their beats, for a resident recoverer to watch."""
        ...

    def recover(self, *, expired: Sequence[SeenLease] | None, death_budget: int, limit: int) -> Recovery:
        """Return the work of dead workers, open what is due, close what belongs to ended jobs and halted stages.

        Args:
            expired: Leases whose beat stood still for a full lease, as the caller saw it; ``None``: go by the store's clock.
            death_budget: How many workers may die on one task before it is failed.
            limit: Most rows of each kind.
        """
        ...

    def register_worker(self, worker: WorkerRecord) -> None:
        """Write or refresh a worker's row."""
        ...

    def remove_worker(self, worker_id: str) -> None:
        """Delete the row of a worker that has stopped; nothing happens where there is none."""
        ...

    def list_workers(self, seen_within_seconds: float) -> list[WorkerRecord]:
        """Return the workers that were seen lately."""
        ...
