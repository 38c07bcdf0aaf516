"""Takes over the work of dead workers; every worker does it, and none leads."""

import threading
import time
from collections.abc import Callable

from stageflow.contracts.lease import SeenLease
from stageflow.engine.deadlines import end_overdue
from stageflow.engine.hooks import error_text
from stageflow.engine.recover import recover_work
from stageflow.engine.schedules import fire_due
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.options import WorkerOptions
from stageflow.workflow.registry import JobRegistry

_WATCHED_LEASES = 10_000


class Recoverer:
    """Recovers a lease only after it saw the same beat for a full lease on its own monotonic clock.

    So a clock that jumps, here or on the store, takes no live worker's work away.
    """

    def __init__(
        self,
        repositories: Repositories,
        telemetry: Telemetry,
        options: WorkerOptions,
        on_ready: Callable[[], None],
        registry: JobRegistry,
    ) -> None:
        self._registry = registry
        self._repositories = repositories
        self._telemetry = telemetry
        self._options = options
        self._on_ready = on_ready
        self._first_seen: dict[tuple[int, int, int], float] = {}

    def run(self, stopping: threading.Event) -> None:
        """Recover until told to stop; blocks."""
        while not stopping.wait(self._pause()):
            try:
                self.recover_once()
            except Exception as error:  # noqa: BLE001  recovery must outlive the store's troubles
                self._telemetry.emit("recovery_failed", error=error_text(error))

    def recover_once(self) -> None:
        """Look at all leases once, and recover those that stood still for too long."""
        now = time.monotonic()
        leases = self._repositories.leases.list_leases(_WATCHED_LEASES)
        seen = {(lease.range_id, lease.token, lease.beat) for lease in leases}
        self._first_seen = {key: self._first_seen[key] if key in self._first_seen else now for key in seen}
        expired = [
            SeenLease(range_id=range_id, token=token, beat=beat)
            for (range_id, token, beat), first in self._first_seen.items()
            if now - first >= self._options.lease_seconds
        ]
        recovery = recover_work(
            self._repositories,
            self._telemetry,
            expired=expired,
            death_budget=self._options.death_budget,
        )
        end_overdue(self._repositories, self._telemetry)
        created = fire_due(self._registry, self._repositories, self._telemetry)
        if recovery.returned or recovery.due or created:
            self._on_ready()

    def _pause(self) -> float:
        return min(self._options.recover_seconds, self._options.lease_seconds / 4)
