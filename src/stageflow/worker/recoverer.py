"""Takes over the work of dead workers; every worker does it, and none leads."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from stageflow.contracts.lease import SeenLease
from stageflow.engine.deadlines import end_overdue
from stageflow.engine.hooks import error_text
from stageflow.engine.recover import recover_work
from stageflow.engine.round import Round
from stageflow.engine.schedules import fire_due
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.options import WorkerOptions
from stageflow.workflow.registry import JobRegistry

_WATCHED_LEASES: Final = 10_000
_SHARE_OF_A_LEASE: Final = 4
"""A look counts for at most this part of a lease."""


class Recoverer:
    """Recovers a lease only after it saw the same beat for a full lease on its own monotonic clock.

    So a clock that jumps, here or on the store, takes no live worker's work away. Nor does a store that nobody could write for
    longer than a lease (SQLite amid a long transaction, a server that was away): the heartbeats wait for it as the recoverer
    does, and whose turn comes first afterwards is chance. So a round that failed does not count, and however long the last
    one waited, the time from look to look counts as a quarter of a lease at most.
    """

    def __init__(
        self,
        repositories: Repositories,
        telemetry: Telemetry,
        options: WorkerOptions,
        on_ready: Callable[[], None],
        registry: JobRegistry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._repositories = repositories
        self._telemetry = telemetry
        self._options = options
        self._on_ready = on_ready
        self._clock = clock
        self._looked_at = clock()
        self._watched_seconds = 0.0
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
        looked_at = self._clock()
        now = self._watched_seconds + min(looked_at - self._looked_at, self._options.lease_seconds / _SHARE_OF_A_LEASE)
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
        self._looked_at, self._watched_seconds = looked_at, now
        parts = Round()
        parts.run(partial(end_overdue, self._repositories, self._telemetry))
        created = parts.run(partial(fire_due, self._registry, self._repositories, self._telemetry))
        if recovery.returned or recovery.due or created:
            self._on_ready()
        parts.end()

    def _pause(self) -> float:
        return min(self._options.recover_seconds, self._options.lease_seconds / _SHARE_OF_A_LEASE)
