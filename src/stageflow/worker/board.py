"""The leases that this process holds, shared between the slots that run them and the heartbeat that keeps them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from stageflow.contracts.lease import HeldLease, Lease


class Progress(NamedTuple):
    """What a handler said of itself."""

    task_index: int
    done: float
    total: float


class RunningLease:
    """A lease in a slot's hands; satisfies the engine's ``LeaseMonitor``.

    Attributes:
        answered: The store has answered its last call, and its slot does not know yet: it may be used up by that.
        begun: Somebody carries it out; until then it is kept for who will.
    """

    def __init__(self, lease: Lease, draining: threading.Event) -> None:
        self.lease: Final = lease
        self._draining = draining
        self._lock = threading.Lock()
        self._last = lease.last
        self._current = lease.first
        self._since: float | None = None
        self._lost = False
        self._unwanted = False
        self._progress: Progress | None = None
        self.answered = False
        self.begun = False

    @property
    def last(self) -> int:
        """Where this lease ends."""
        return self._last

    @property
    def stopping(self) -> bool:
        """Whether the handler should stop: the lease was lost, or its job or stage is over."""
        return self._lost or self._unwanted

    @property
    def lost(self) -> bool:
        """Whether the store said that the lease is no longer ours."""
        return self._lost

    def start(self, task_index: int) -> bool:
        """Note that a task starts; ``False`` if it may not."""
        with self._lock:
            if self._lost or self._unwanted or task_index >= self._last or self._draining.is_set():
                return False
            self._current = task_index
            self._since = time.monotonic()
            return True

    def note_progress(self, task_index: int, done: float, total: float) -> None:
        """Keep how far a task has come."""
        self._progress = Progress(task_index, done, total)

    def take_progress(self) -> "Progress | None":
        """Return how far a task has come, once; ``None`` if it has said nothing since the last call."""
        progress, self._progress = self._progress, None
        return progress

    def lose(self) -> None:
        """Note that the lease is no longer ours."""
        self._lost = True

    def stop(self) -> None:
        """Note that the work is no longer wanted."""
        self._unwanted = True

    def held(self) -> HeldLease:
        """Return what the heartbeat tells the store."""
        return HeldLease(range_id=self.lease.range_id, token=self.lease.token, current_index=self._current)

    def take_tail(self, longer_than_seconds: float) -> int | None:
        """Cut off the unstarted tail if the current task runs longer than that, and return its first index."""
        with self._lock:
            slow = self._since is not None and time.monotonic() - self._since > longer_than_seconds
            if not slow or self._lost or self._current + 1 >= self._last:
                return None
            self._last = self._current + 1
            return self._last


class LeaseBoard:
    """All leases of this process, by token."""

    def __init__(self) -> None:
        self.draining: Final = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[int | None, RunningLease] = {}

    def keep(self, lease: Lease) -> RunningLease:
        """Keep a lease alive by the heartbeat from now on."""
        with self._lock:
            if lease.token not in self._running:
                self._running[lease.token] = RunningLease(lease, self.draining)
            return self._running[lease.token]

    def drop(self, lease: Lease) -> None:
        """Keep a lease alive no longer."""
        with self._lock:
            self._running.pop(lease.token, None)

    def note_answer(self, token: int | None, *, taken: bool) -> None:
        """Note that the store has answered a call that was made under a lease, or that its slot has taken the answer."""
        with self._lock:
            if token in self._running:
                self._running[token].answered = not taken

    def drop_unbegun(self, lease: Lease) -> bool:
        """Keep a lease alive no longer that was kept for somebody who has not begun with it; ``False`` where there is none."""
        with self._lock:
            if lease.token not in self._running or self._running[lease.token].begun:
                return False
            del self._running[lease.token]
            return True

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[RunningLease]:
        """Keep a lease alive while the block runs, and no longer."""
        running = self.keep(lease)
        running.begun = True
        try:
            yield running
        finally:
            self.drop(lease)

    def running(self) -> list[RunningLease]:
        """Return the leases held now."""
        with self._lock:
            return list(self._running.values())
