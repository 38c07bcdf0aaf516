"""Bring back what died: expired leases, delayed work that is due, leftovers of ended jobs."""

from stageflow.contracts.lease import Recovery, SeenLease
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry

RECOVERY_BATCH = 500


def recover_work(
    repositories: Repositories,
    telemetry: Telemetry,
    *,
    expired: list[SeenLease] | None,
    death_budget: int,
) -> Recovery:
    """Do one round of recovery; safe from any number of processes at once.

    Args:
        expired: Leases whose beat a resident recoverer saw stand still for a full lease; ``None`` goes by the store's clock.
        death_budget: How many workers may die over one task before it is failed. A task's last permitted execution runs
            alone in a child process: the task that kills is failed there, and a worker that dies beside it died of something
            else. So a task that cannot be told apart that way is failed after twice as many deaths.
    """
    recovery = repositories.leases.recover(expired, 2 * death_budget, RECOVERY_BATCH)
    if recovery != Recovery():
        telemetry.emit("work_recovered", **recovery.model_dump())
    return recovery
