"""How much to claim at a time, found by measuring."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Final

from stageflow.contracts.ids import control_work_type
from stageflow.contracts.lease import Lease, WorkKind

TARGET_SECONDS: Final = 0.05
"""Of work on the tasks of one lease."""
LARGEST: Final = 1000
GROWTH: Final = 4
CONTROL_SECONDS: Final = 0.2
"""Of work on the jobs of one bundle; there is one only where jobs wait anyway."""
MOST_CONTROL: Final = 64
"""Jobs of one bundle."""


class ClaimSizes:
    """Learns, per work type, how many tasks one lease should hold; the first claim of an unknown type takes one.

    Of control work, how many leases one claim should take, each with what follows from it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._pace: dict[str, float] = {}

    def of(self, work_types: list[str]) -> list[int]:
        """Return the size for each work type."""
        with self._lock:
            return [self._sizes[work_type] if work_type in self._sizes else 1 for work_type in work_types]

    def bundle(self, work_type: str) -> int:
        """Return how many tasks a message may name, by what handlers alone took last; 0 where that was not measured yet.

        It does not count what claiming and reporting cost, which is the same for one task and for many.
        """
        with self._lock:
            if work_type not in self._pace:
                return 0
            return max(1, min(LARGEST, int(TARGET_SECONDS / max(self._pace[work_type], TARGET_SECONDS / LARGEST))))

    def learn(self, work_type: str, tasks: int, seconds: float, handler_seconds: float) -> None:
        """Take in how long a lease of so many tasks took, and its handlers alone; grows by a factor, shrinks at once."""
        if tasks == 0:
            return
        with self._lock:
            self._pace[work_type] = handler_seconds / tasks
            self._learn(work_type, tasks, seconds, (TARGET_SECONDS, LARGEST))

    def learn_control(self, leases: Sequence[Lease], seconds: float) -> None:
        """Take in how long leases took that were carried out together, with all that followed from them."""
        kinds = Counter(
            control_work_type(lease.job_type, lease.workflow_version) for lease in leases if lease.kind is not WorkKind.TASK
        )
        with self._lock:
            for work_type, count in kinds.items():
                self._learn(work_type, count, seconds * count / len(leases), (CONTROL_SECONDS, MOST_CONTROL))

    def _learn(self, work_type: str, count: int, seconds: float, bound: tuple[float, int]) -> None:
        target_seconds, most = bound
        present = self._sizes[work_type] if work_type in self._sizes else 1
        fitting = most if seconds <= 0 else int(target_seconds * count / seconds)
        self._sizes[work_type] = max(1, min(fitting, max(present, count) * GROWTH, most))
