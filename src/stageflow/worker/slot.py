"""What one slot does: claim, carry out, again; and how it waits when there is nothing."""

import random
import threading
from typing import Protocol

from stageflow.contracts.ids import control_work_type
from stageflow.contracts.lease import ClaimAnswer, ClaimOutcome, ClaimRequest, Lease, WorkKind
from stageflow.engine.hooks import error_text
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.dispatch import Dispatcher
from stageflow.worker.options import WorkerOptions
from stageflow.worker.signal import WorkSignal
from stageflow.worker.sizes import MOST_CONTROL

BUSY_SECONDS = (0.001, 0.005)
"""How long to wait before asking again, when a rival held the row."""
_LONGEST_BACKOFF = 30.0


class Source(Protocol):
    """Where a slot gets its work."""

    def work_once(self) -> bool:
        """Do one piece of work; ``False`` if there was none and the slot has waited for some."""
        ...


class _Appetite(threading.local):
    """How many jobs a slot would take at once.

    It doubles with each claim that brings as many: more of them wait than others can take at once. With one that brings less it
    is one again: the few jobs that come then are for all slots.
    """

    leases = 1

    def learn(self, taken: list[Lease], asked: dict[str, int]) -> None:
        """Take in what a claim brought, and how much was asked of each work type."""
        last = taken[-1] if taken else None
        whole = (
            last is not None
            and last.kind is not WorkKind.TASK
            and len(taken) >= asked[control_work_type(last.job_type, last.workflow_version)]
        )
        self.leases = min(MOST_CONTROL, 2 * self.leases) if whole else 1


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
        self._control_types = {work_type for work_type in work_types if work_type.count("/") == 1}
        self._appetite = _Appetite()

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
        sizes = dict(zip(self._work_types, self._dispatcher.sizes.of(self._work_types), strict=True))
        for work_type in self._control_types:
            sizes[work_type] = min(sizes[work_type], self._appetite.leases)
        answer = self._repositories.leases.claim_work(
            ClaimRequest(
                worker_id=self._worker_id,
                work_types=self._work_types,
                max_tasks=[sizes[work_type] for work_type in self._work_types],
                max_leases=1,
                lease_seconds=self._options.lease_seconds,
                bundled=True,
            )
        )
        self._appetite.learn(answer.leases, sizes)
        return answer


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
