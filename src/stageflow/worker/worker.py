"""A worker: slots that run leases, and the threads that keep, recover and relay them."""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from os import getpid
from typing import Final, Self

from stageflow.engine.hooks import error_text
from stageflow.errors import InvalidTransitionError, StoreError
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.dispatch import Dispatcher
from stageflow.worker.handlers import HandlerRunner
from stageflow.worker.heartbeat import SLOW_SECONDS, Heartbeat
from stageflow.worker.inbox import Inbox
from stageflow.worker.messages import MessageProcessor
from stageflow.worker.options import WorkerOptions
from stageflow.worker.recoverer import Recoverer
from stageflow.worker.relay import Relay
from stageflow.worker.signal import WorkSignal
from stageflow.worker.slot import Source, StoreSource, run_slot
from stageflow.workflow.registry import JobRegistry


def new_worker_id() -> str:
    """Return an id that no other process start has: host, process and chance."""
    return f"{socket.gethostname()[:80]}-{getpid()}-{secrets.token_hex(6)}"


class Worker:
    """Runs jobs of the registered workflows until it is stopped. Any number may share a store.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`; :meth:`run` blocks until :meth:`request_stop`.
    """

    def __init__(
        self,
        registry: JobRegistry,
        repositories: Repositories,
        telemetry: Telemetry,
        *,
        queue: Queue | None,
        options: WorkerOptions,
    ) -> None:
        self.worker_id: Final = new_worker_id()
        self.options: Final = options
        self._repositories = repositories
        self._telemetry = telemetry
        self._queue = queue
        self._signal = WorkSignal()
        self._started = False
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self._handlers = HandlerRunner(
            options.processes,
            telemetry=telemetry,
            stop_seconds=options.stop_seconds,
            cancel_grace_seconds=options.cancel_grace_seconds,
        )
        self._dispatcher = Dispatcher(
            registry,
            repositories,
            telemetry,
            self._handlers,
            worker_id=self.worker_id,
            lease_seconds=options.lease_seconds,
            death_budget=options.death_budget,
            plans_to_run=True,
        )
        self._registry = registry
        self._work_types = list(dict.fromkeys(kind for workflow in registry.workflows() for kind in workflow.work_types()))
        self._limits = registry.limits()
        self._processor = MessageProcessor(
            registry,
            repositories,
            self._dispatcher,
            worker_id=self.worker_id,
            lease_seconds=options.lease_seconds,
        )
        self._inbox: Inbox | None = None
        self._on_ready = self._signal.fire
        self._slots: list[threading.Thread] = []
        self._upkeep: list[threading.Thread] = []
        self._wakeup = repositories.store.work_wakeup()

    def start(self) -> None:
        """Start all threads and return; a worker that a store refuses has nothing open any more.

        Raises:
            InvalidTransitionError: It was started before.
        """
        if self._started:
            msg = f"worker {self.worker_id} was started before, and a worker starts once; make another one with app.worker()"
            raise InvalidTransitionError(msg)
        self._started = True
        heartbeat = Heartbeat(
            self._repositories,
            self._dispatcher,
            self._telemetry,
            self.options,
            worker_id=self.worker_id,
            work_types=self._work_types,
        )
        try:
            heartbeat.beat()
            self._repositories.limits.declare_limits(self._limits)
        except BaseException:
            self._wakeup.close()
            self._handlers.close()
            raise
        source = self._source()
        recoverer = Recoverer(self._repositories, self._telemetry, self.options, self._on_ready, self._registry)
        self._keep_up("heartbeat", lambda: heartbeat.run(self._leaving))
        self._keep_up("relief", self._relieve)
        self._keep_up("recovery", lambda: recoverer.run(self._stopping))
        self._keep_up("signal", lambda: self._signal.follow(self._wakeup, self._leaving, self.options.poll_seconds))
        for number in range(self.options.slots):
            name = f"stageflow-slot-{number}"
            slot = threading.Thread(target=run_slot, args=(source, self._stopping, self._telemetry), name=name, daemon=True)
            self._slots.append(slot)
            slot.start()
        self._telemetry.emit("worker_started", worker_id=self.worker_id, slots=self.options.slots)

    def request_stop(self) -> None:
        """Ask the worker to stop: no new work, running handlers may finish. Callable from signal handlers."""
        self._stopping.set()
        self._dispatcher.board.draining.set()

    @property
    def stopping(self) -> bool:
        """Whether the worker was asked to stop."""
        return self._stopping.is_set()

    def stop(self) -> bool:
        """Stop within the grace period; returns whether every handler had finished.

        What has not started goes back at once. A handler that is still running afterwards loses its lease when that
        expires, and another worker runs its task again. A worker that finished is no longer among the live ones.
        """
        self.request_stop()
        self._signal.fire()
        if self._inbox is not None:
            self._inbox.interrupt()
        deadline = time.monotonic() + self.options.grace_seconds
        for slot in self._slots:
            slot.join(max(0.0, deadline - time.monotonic()))
        finished = not any(slot.is_alive() for slot in self._slots)
        if self._inbox is not None:
            self._inbox.release()
        self._leaving.set()
        self._wakeup.interrupt()
        for thread in self._upkeep:
            thread.join(5.0)
        if finished:
            self._sign_off()
        if self._inbox is not None:
            self._inbox.close()
        self._wakeup.close()
        self._handlers.close()
        self._telemetry.emit("worker_stopped", worker_id=self.worker_id, finished=finished)
        return finished

    def run(self) -> bool:
        """Work until :meth:`request_stop` is called, then stop; blocks."""
        self.start()
        while not self._stopping.wait(1.0):
            pass
        return self.stop()

    def __enter__(self) -> Self:
        """Start the worker."""
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the worker."""
        self.stop()

    def _source(self) -> Source:
        queue = self._queue
        if queue is None:
            return StoreSource(
                self._repositories,
                self._dispatcher,
                self._signal,
                self.options,
                worker_id=self.worker_id,
                work_types=self._work_types,
            )
        inbox = Inbox(queue, self._processor, self._repositories, self._telemetry, self.options)
        relay = Relay(
            self._repositories,
            queue,
            self._telemetry,
            self.options,
            self._signal,
            worker_id=self.worker_id,
            most_tasks=self._dispatcher.most_tasks,
        )
        self._inbox = inbox
        self._dispatcher.by_messages = True
        self._dispatcher.on_ready = relay.hurry
        self._on_ready = relay.hurry_all
        self._keep_up("receive", lambda: inbox.receive(self._stopping))
        self._keep_up("receive-more", lambda: inbox.receive_more(self._stopping))
        self._keep_up("renew", lambda: inbox.renew(self._leaving))
        self._keep_up("relay", lambda: relay.run(self._leaving, inbox.pace))
        return inbox

    def _relieve(self) -> None:
        """Look after bundles; not in the heartbeat's thread, which must not wait for a row that others hold."""
        while not self._leaving.wait(SLOW_SECONDS):
            try:
                self._dispatcher.relieve_bundles(SLOW_SECONDS)
            except Exception as error:  # noqa: BLE001  the thread that looks after bundles must outlive a listener that raises
                self._telemetry.emit("relief_failed", error=error_text(error))

    def _sign_off(self) -> None:
        """Count as live no more; a store that does not answer will find out by the missing beats."""
        try:
            self._repositories.leases.remove_worker(self.worker_id)
        except StoreError as error:
            self._telemetry.emit("sign_off_failed", worker_id=self.worker_id, error=error_text(error))

    def _keep_up(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"stageflow-{name}", daemon=True)
        self._upkeep.append(thread)
        thread.start()
