"""Announces ready work on an external queue, right after the commit that made it ready."""

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from stageflow.engine.hooks import error_text
from stageflow.engine.outbox import RELAY_BATCH, relay_announcements
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.options import WorkerOptions
from stageflow.worker.signal import WorkSignal

REANNOUNCE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.2
_COURTESY_SECONDS: Final = (0.002, 0.02)
"""How long work of others is left to them: all workers hear of a commit, and one of them is to send its messages."""


class Relay:
    """The outbox's sender in a worker.

    What this worker made ready it announces at once. What another process made ready it leaves to that process for a moment,
    drawn by lot: if two send the same, the message is doubled, which is harmless and costs two requests.
    """

    def __init__(
        self,
        repositories: Repositories,
        queue: Queue,
        telemetry: Telemetry,
        options: WorkerOptions,
        signal: WorkSignal,
    ) -> None:
        self._repositories = repositories
        self._queue = queue
        self._telemetry = telemetry
        self._options = options
        self._signal = signal
        self._own = threading.Event()
        self._again_at = time.monotonic() + REANNOUNCE_SECONDS

    def hurry(self) -> None:
        """Say that this process has just made work ready."""
        self._own.set()
        self._signal.fire()

    def run(self, leaving: threading.Event, sent: Callable[[], None]) -> None:
        """Announce until told to stop; blocks.

        Args:
            leaving: Set when the worker has given back what it held.
            sent: Called after messages were sent.
        """
        while not leaving.is_set():
            seen = self._signal.seen()
            self._own.clear()
            count = self._relay()
            if count:
                sent()
            if count < RELAY_BATCH and self._signal.wait(seen, min(_LOOK_SECONDS, self._options.poll_seconds)):
                self._own.wait(random.uniform(*_COURTESY_SECONDS))  # noqa: S311  a lot, not a secret

    def _relay(self) -> int:
        again = time.monotonic() >= self._again_at
        try:
            count = relay_announcements(
                self._repositories,
                self._queue,
                self._telemetry,
                older_than_seconds=REANNOUNCE_SECONDS if again else None,
            )
        except Exception as error:  # noqa: BLE001  the outbox keeps what could not be sent
            self._telemetry.emit("relay_failed", error=error_text(error))
            return 0
        if again:
            self._again_at = time.monotonic() + REANNOUNCE_SECONDS
        return count
