"""How many tasks to claim at a time: about 50 ms of work, found by measuring."""

import threading
from typing import Final

TARGET_SECONDS: Final = 0.05
LARGEST: Final = 1000
GROWTH: Final = 4


class ClaimSizes:
    """Learns, per work type, how many tasks one lease should hold; the first claim of an unknown type takes one."""

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
        fitting = LARGEST if seconds <= 0 else int(TARGET_SECONDS * tasks / seconds)
        with self._lock:
            present = self._sizes[work_type] if work_type in self._sizes else 1
            self._pace[work_type] = handler_seconds / tasks
            self._sizes[work_type] = max(1, min(fitting, max(present, tasks) * GROWTH, LARGEST))
