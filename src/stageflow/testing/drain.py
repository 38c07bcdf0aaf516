"""Does all work of an app in the calling thread, task by task, and moves the clock where only a delay stands in the way."""

import time
from typing import Any, Final, Protocol, runtime_checkable

from stageflow.app import Stageflow
from stageflow.contracts.lease import ClaimAnswer, ClaimOutcome, ClaimRequest
from stageflow.errors import InvalidValueError, WaitTimeoutError
from stageflow.worker.dispatch import Dispatcher
from stageflow.worker.handlers import HandlerRunner
from stageflow.worker.worker import new_worker_id
from stageflow.workflow.task import Task

_LEASE_SECONDS: Final = 600.0
_JUST_PAST: Final = 0.001


@runtime_checkable
class _Movable(Protocol):
    """A store whose clock a test can move."""

    def move_clock(self, seconds: float) -> None:
        """Add to the store's time."""
        ...


def move_clock(app: Stageflow, seconds: float) -> None:
    """Let time pass on the app's store at once: delays become due and leases expire, as seen by this app alone.

    Raises:
        InvalidValueError: The store has no clock that can be moved.
    """
    store = app.repositories.store
    if not isinstance(store, _Movable):
        msg = f"the clock of {store.url} cannot be moved; use an app on sqlite::memory:"
        raise InvalidValueError(msg)
    store.move_clock(seconds)


def drain_work(app: Stageflow, *, timeout: float = 30) -> int:
    """Work in the calling thread until nothing is left to do, and return how many tasks were run.

    Everything happens in one order that never varies: the tasks of a stage run one after the other, also those declared
    ``cpu_bound``. Where only delayed work is left (a retry, a job with ``not_before``), the store's clock is moved there.

    Args:
        app: An app whose clock can be moved, and that no worker works on.
        timeout: Seconds after which no further task is started.

    Raises:
        WaitTimeoutError: There was still work after ``timeout`` seconds.
    """
    handlers = _SameProcess(1, telemetry=app.telemetry, stop_seconds=app.options.stop_seconds)
    try:
        return _Drain(app, handlers).run(timeout)
    finally:
        handlers.close()


class _SameProcess(HandlerRunner):
    """Calls handlers that are declared ``cpu_bound`` here too: their module need not be importable elsewhere."""

    def in_child(self, task: Task[Any, Any]) -> bool:  # noqa: ARG002  overrides
        """Return ``False``: no handler runs elsewhere."""
        return False


class _Drain:
    def __init__(self, app: Stageflow, handlers: HandlerRunner) -> None:
        self._app = app
        self._worker_id = new_worker_id()
        self._work_types = list(dict.fromkeys(kind for workflow in app.registry.workflows() for kind in workflow.work_types()))
        self._dispatcher = Dispatcher(
            app.registry,
            app.repositories,
            app.telemetry,
            handlers,
            worker_id=self._worker_id,
            lease_seconds=_LEASE_SECONDS,
            death_budget=app.options.death_budget,
        )

    def run(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        tasks_run = 0
        while True:
            answer = self._claim()
            if answer.outcome is ClaimOutcome.WORK:
                for lease in answer.leases:
                    tasks_run += self._dispatcher.carry_out(lease).tasks_run
            elif answer.next_due_seconds is not None:
                move_clock(self._app, answer.next_due_seconds + _JUST_PAST)
                self._app.maintain()
            elif answer.outcome is not ClaimOutcome.BUSY:
                return tasks_run
            if time.monotonic() > deadline:
                msg = f"there was still work after {timeout} s and {tasks_run} tasks; allow more time, or look for retries"
                raise WaitTimeoutError(msg)

    def _claim(self) -> ClaimAnswer:
        return self._app.repositories.leases.claim_work(
            ClaimRequest(
                worker_id=self._worker_id,
                work_types=self._work_types,
                max_tasks=[1] * len(self._work_types),
                max_leases=1,
                lease_seconds=_LEASE_SECONDS,
            )
        )
