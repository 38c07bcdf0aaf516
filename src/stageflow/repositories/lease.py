"""Leases: claimed, kept, given back, recovered."""

from stageflow.contracts.base import inline_json
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.lease import (
    ClaimAnswer,
    ClaimRequest,
    HeldLease,
    Lease,
    LeaseExtension,
    NamedClaim,
    RangeReturn,
    Recovery,
    SeenLease,
)
from stageflow.contracts.worker import WorkerRecord
from stageflow.ports import Store


class LeaseRepository:
    """The right to run work, and its time limit."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @enforce_contract
    def claim_work(self, request: ClaimRequest) -> ClaimAnswer:
        """Lease the best ready work of the kinds that a worker knows."""
        return self._store.claim(request)

    @enforce_contract
    def claim_named_work(self, claim: NamedClaim) -> ClaimAnswer:
        """Lease what is ready of the work that a message names."""
        return self._store.claim_named(claim)

    @enforce_contract
    def extend_leases(self, worker_id: str, leases: list[HeldLease], lease_seconds: float) -> LeaseExtension:
        """Prolong leases from now on; the answer says which still hold."""
        return self._store.extend_leases(worker_id, leases, lease_seconds)

    @enforce_contract
    def return_ranges(self, returns: list[RangeReturn]) -> list[bool]:
        """Give unstarted work back; ``False`` for each lease that was lost."""
        return self._store.return_ranges(returns)

    @enforce_contract
    def save_checkpoint(self, lease: Lease, task_index: int, value: str) -> bool:
        """Replace what a leased task keeps for its next attempt; ``False`` where the lease, or this task of it, was lost.

        Raises:
            PayloadTooLargeError: The value has more bytes than a row may hold.
        """
        inline_json(value, f"the checkpoint of task {task_index} of stage {lease.stage_number}")
        return self._store.save_checkpoint(lease.range_id, lease.token, task_index, value)

    @enforce_contract
    def get_checkpoint(self, lease: Lease, task_index: int) -> str | None:
        """Return what a task keeps since an earlier attempt, or this one, ``None`` where it keeps nothing."""
        return self._store.get_checkpoint(lease.stage_id, task_index, lease.generation)

    @enforce_contract
    def list_leases(self, limit: int) -> list[SeenLease]:
        """Return leases and their beats."""
        return self._store.list_leases(limit)

    @enforce_contract
    def recover(self, expired: list[SeenLease] | None, death_budget: int, limit: int) -> Recovery:
        """Return the work of dead workers and open what is due."""
        return self._store.recover(expired=expired, death_budget=death_budget, limit=limit)

    @enforce_contract
    def register_worker(self, worker: WorkerRecord) -> None:
        """Write or refresh a worker's row."""
        self._store.register_worker(worker)

    @enforce_contract
    def remove_worker(self, worker_id: str) -> None:
        """Delete the row of a worker that has stopped."""
        self._store.remove_worker(worker_id)

    @enforce_contract
    def list_workers(self, seen_within_seconds: float) -> list[WorkerRecord]:
        """Return the workers seen lately."""
        return self._store.list_workers(seen_within_seconds)
