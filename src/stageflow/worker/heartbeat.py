"""Keeps the leases of a worker alive, and gives back what a slow task holds up."""

import os
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Final

from stageflow.contracts.lease import RangeReturn
from stageflow.contracts.worker import WorkerRecord
from stageflow.engine.hooks import error_text
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.dispatch import Dispatcher
from stageflow.worker.options import WorkerOptions

SLOW_SECONDS: Final = 0.2
_LIVE_BEATS: Final = 3
_SMALLEST_START: Final = 8


class Heartbeat:
    """One statement per beat for all leases of the process, from a thread of its own."""

    def __init__(
        self,
        repositories: Repositories,
        dispatcher: Dispatcher,
        telemetry: Telemetry,
        options: WorkerOptions,
        *,
        worker_id: str,
        work_types: list[str],
    ) -> None:
        self._repositories = repositories
        self._dispatcher = dispatcher
        self._telemetry = telemetry
        self._options = options
        self._worker_id = worker_id
        self._work_types = work_types
        self._started_at = datetime.now(UTC)

    def run(self, stopping: threading.Event) -> None:
        """Beat until told to stop; blocks. A beat that fails is tried again: the leases still have time."""
        next_beat = time.monotonic()
        while not stopping.is_set():
            try:
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + self._options.beat_seconds
                    self.beat()
                self.return_tails()
            except Exception as error:  # noqa: BLE001  the thread that keeps leases alive must outlive the store's troubles
                next_beat = time.monotonic() + min(1.0, self._options.beat_seconds)
                self._telemetry.emit("beat_failed", error=error_text(error))
            stopping.wait(min(SLOW_SECONDS, self._options.beat_seconds))

    def beat(self) -> None:
        """Prolong all leases once, tell slots whose lease was lost or whose work is unwanted, and register the worker."""
        running = self._dispatcher.board.running()
        if running:
            extension = self._repositories.leases.extend_leases(
                self._worker_id,
                [each.held() for each in running],
                self._options.lease_seconds,
            )
            held, stopping = set(extension.held), set(extension.stopping)
            still = {each.lease.token for each in self._dispatcher.board.running()}
            for each in running:
                if each.lease.token in stopping:
                    each.stop()
                elif each.lease.token not in held and each.lease.token in still and not (each.lost or each.answered):
                    each.lose()
                    self._telemetry.emit("lease_lost", each.lease.job_id, stage=each.lease.stage_number)
        for each in running:
            progress = each.take_progress()
            if progress is not None:
                lease = each.lease
                self._telemetry.emit("task_progress", lease.job_id, stage=lease.stage_number, **progress._asdict())
        self._register()

    def return_tails(self) -> None:
        """Give back what waits behind a task that takes longer than expected, so that others can run it."""
        for running in self._dispatcher.board.running():
            first = running.take_tail(SLOW_SECONDS)
            if first is not None:
                lease = running.lease
                tail = RangeReturn(range_id=lease.range_id, token=lease.token, first=first)
                (taken,) = self._repositories.leases.return_ranges([tail])
                self._dispatcher.on_ready(lease.job_id)
                event = "tail_returned" if taken else "stale_write_refused"
                self._telemetry.emit(event, lease.job_id, stage=lease.stage_number, first=first)

    def _register(self) -> None:
        leases = self._repositories.leases
        now = self._repositories.store.now()
        leases.register_worker(
            WorkerRecord(
                worker_id=self._worker_id,
                host=socket.gethostname(),
                pid=os.getpid(),
                slots=self._options.slots,
                work_types=self._work_types,
                started_at=self._started_at,
                seen_at=now,
            )
        )
        slots = sum(worker.slots for worker in leases.list_workers(_LIVE_BEATS * self._options.beat_seconds))
        self._dispatcher.range_count = max(_SMALLEST_START, 2 * slots)
