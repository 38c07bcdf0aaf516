"""What one slot does: claim, carry out, again; and how it waits when there is nothing."""

import random
import threading
from typing import Protocol

from stageflow.contracts.lease import ClaimAnswer, ClaimOutcome, ClaimRequest
from stageflow.engine.hooks import error_text
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.dispatch import Dispatcher
from stageflow.worker.options import WorkerOptions
from stageflow.worker.signal import WorkSignal

BUSY_SECONDS = (0.001, 0.005)
"""How long to wait before asking again, when a rival held the row."""
_LONGEST_BACKOFF = 30.0


class Source(Protocol):
    """Where a slot gets its work."""

    def work_once(self) -> bool:
        """Do one piece of work; ``False`` if there was none and the slot has waited for some."""
        ...


class StoreSource:
    """Work claimed from the store."""

    def __init__(
        self,
        repositories: Repositories,
        dispatcher: Dispatcher,
        signal: WorkSignal,
        options: WorkerOptions,
        *,
        worker_id: str,
        work_types: list[str],
    ) -> None:
        self._repositories = repositories
        self._dispatcher = dispatcher
        self._signal = signal
        self._options = options
        self._worker_id = worker_id
        self._work_types = work_types

    def work_once(self) -> bool:
        """Claim a piece of work and carry it out; without any, wait to be woken or for the next due retry."""
        seen = self._signal.seen()
        answer = self._claim()
        match answer.outcome:
            case ClaimOutcome.WORK:
                self._dispatcher.carry_out_all(answer.leases)
                return True
            case ClaimOutcome.BUSY:
                self._signal.wait(seen, random.uniform(*BUSY_SECONDS))  # noqa: S311  jitter, not a secret
                return True
            case _:
                patience = self._options.poll_seconds
                if answer.next_due_seconds is not None:
                    patience = min(patience, max(answer.next_due_seconds, 0.001))
                self._signal.wait(seen, patience)
                return False

    def _claim(self) -> ClaimAnswer:
        return self._repositories.leases.claim_work(
            ClaimRequest(
                worker_id=self._worker_id,
                work_types=self._work_types,
                max_tasks=self._dispatcher.sizes.of(self._work_types),
                max_leases=1,
                lease_seconds=self._options.lease_seconds,
                bundled=True,
            )
        )


def run_slot(source: Source, stopping: threading.Event, telemetry: Telemetry) -> None:
    """Work until told to stop. What goes wrong outside of user code leaves its lease to recovery, and backs off."""
    failures = 0
    while not stopping.is_set():
        try:
            source.work_once()
            failures = 0
        except BaseException as error:  # noqa: BLE001  a slot outlives whatever happens in it; the event says what it was
            failures += 1
            backoff = min(_LONGEST_BACKOFF, 0.05 * 2**failures)
            telemetry.emit("slot_failed", error=error_text(error), backoff_seconds=backoff)
            stopping.wait(random.uniform(backoff / 2, backoff))  # noqa: S311  jitter, not a secret
