"""Announces ready work on an external queue, right after the commit that made it ready."""

import threading
import time
from collections.abc import Callable
from typing import Final

from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.outbox import Announcement
from stageflow.engine.hooks import error_text
from stageflow.engine.outbox import all_of_them, no_listener, relay_announcements
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.options import WorkerOptions
from stageflow.worker.pace import Pace
from stageflow.worker.signal import WorkSignal

REANNOUNCE_SECONDS: Final = 60.0
"""How long a message may be on its way before it counts as lost, and is sent again."""
LOST_LOOK_SECONDS: Final = 10.0
"""How often to look for such ones; at the start too, because a worker may not live that long."""
COURTESY_SECONDS: Final = 0.25
"""How long work of others is left to them."""
_EACH_SECONDS: Final = 0.01
_STEP_SECONDS: Final = 0.05
_LOOK_SECONDS: Final = 0.2
_FRESH_SECONDS: Final = 1.0
_LIVE_BEATS: Final = 1.5


class Relay:
    """The outbox's sender in a worker.

    Every worker hears of a commit, and one of them is to send its messages: the one that made the work ready, and for a new
    job the one that its id falls to among the live workers. The others leave it to that one for a moment. If two send
    the same after all, the message is doubled, which is harmless and costs a few requests.
    """

    def __init__(
        self,
        repositories: Repositories,
        queue: Queue,
        telemetry: Telemetry,
        options: WorkerOptions,
        signal: WorkSignal,
        *,
        worker_id: str,
        most_tasks: Callable[[TaskQueueMessage], int],
    ) -> None:
        self._repositories = repositories
        self._queue = queue
        self._telemetry = telemetry
        self._options = options
        self._signal = signal
        self._worker_id = worker_id
        self._most_tasks = most_tasks
        self._lock = threading.Lock()
        self._own: set[str] = set()
        self._all_own = False
        self._patience = COURTESY_SECONDS
        self._first_seen: dict[int, float] = {}
        self._workers: list[str] = []
        self._workers_at = -_FRESH_SECONDS
        self._again_at = time.monotonic()

    def hurry(self, job_id: str) -> None:
        """Say that this process has just made work of a job ready."""
        with self._lock:
            self._own.add(job_id)
        self._signal.fire()

    def hurry_all(self) -> None:
        """Say that this process has just made work of several jobs ready: what it recovered, or what was due."""
        with self._lock:
            self._all_own = True
        self._signal.fire()

    def run(self, leaving: threading.Event, pace: Pace) -> None:
        """Announce until told to stop; blocks.

        Args:
            leaving: Set when the worker has given back what it held.
            pace: Is told when messages were sent, and when others may be about to send some.
        """
        while not leaving.is_set():
            seen = self._signal.seen()
            if not self.relay_once(pace.arrived) and self._signal.wait(
                seen, min(self._patience, _LOOK_SECONDS, self._options.poll_seconds)
            ):
                pace.expect()

    def relay_once(self, on_sent: Callable[[], None] = no_listener) -> int:
        """Announce what falls to this worker, and return how many messages that took."""
        with self._lock:
            own, self._own = self._own, set()
            all_own, self._all_own = self._all_own, False
        again = time.monotonic() >= self._again_at
        try:
            count = relay_announcements(
                self._repositories,
                self._queue,
                self._telemetry,
                older_than_seconds=REANNOUNCE_SECONDS if again else None,
                choose=all_of_them if all_own else lambda waiting: self._choose(waiting, own),
                most_tasks=self._most_tasks,
                on_sent=on_sent,
            )
        except Exception as error:  # noqa: BLE001  the outbox keeps what could not be sent
            self._telemetry.emit("relay_failed", error=error_text(error))
            return 0
        if again:
            self._again_at = time.monotonic() + LOST_LOOK_SECONDS
        return count

    def _choose(self, waiting: list[Announcement], own: set[str]) -> list[Announcement]:
        now = time.monotonic()
        seen = self._first_seen
        self._first_seen = {each.range_id: seen[each.range_id] if each.range_id in seen else now for each in waiting}
        left: dict[int, float] = {}
        for each in waiting:
            courtesy = 0.0 if each.message.job_id in own else self._courtesy(each.message, now, len(waiting))
            left[each.range_id] = self._first_seen[each.range_id] + courtesy - now
        self._patience = min((seconds for seconds in left.values() if seconds > 0), default=COURTESY_SECONDS)
        return [each for each in waiting if left[each.range_id] <= 0]

    def _courtesy(self, message: JobQueueMessage | TaskQueueMessage, now: float, waiting: int) -> float:
        """Return for how long to leave to others what was not made ready here; nothing, where there is nobody else.

        A new job falls to one worker by its id, and to the next one a little later: the first may be gone. The more waits, the
        longer they need.
        """
        if now - self._workers_at >= _FRESH_SECONDS:
            live = self._repositories.leases.list_workers(_LIVE_BEATS * self._options.beat_seconds)
            self._workers = [worker.worker_id for worker in live]
            self._workers_at = now
        if self._worker_id not in self._workers or len(self._workers) == 1:
            return 0.0
        if isinstance(message, TaskQueueMessage):
            return COURTESY_SECONDS + waiting * _EACH_SECONDS
        places = self._workers.index(self._worker_id) - int(message.job_id[:8], 16)
        place = places % len(self._workers)
        return min(COURTESY_SECONDS, _STEP_SECONDS * place) + waiting * _EACH_SECONDS if place else 0.0
