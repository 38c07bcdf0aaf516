"""Run the tasks of a lease: handler by handler in index order, reported in prefixes."""

import random
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from pydantic import ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.context import StopSignal, TaskExecutionContext, TaskHost
from stageflow.contracts.lease import Lease, RangeCompletion, Retry
from stageflow.contracts.partial import Combine
from stageflow.contracts.preview import preview
from stageflow.contracts.retry import RetryPolicy
from stageflow.contracts.status import TaskStatus
from stageflow.engine.fold import ResultFold
from stageflow.engine.hooks import error_text, let_interrupt_pass
from stageflow.engine.writes import HandlerWrites, Written
from stageflow.errors import ContractViolationError, PermanentTaskError
from stageflow.repositories import PayloadShelf
from stageflow.telemetry import running_task
from stageflow.workflow.registry import Workflow
from stageflow.workflow.task import Task

FLUSH_TASKS: Final = 1000
FLUSH_SECONDS: Final = 0.2

RunHandler = Callable[[Task[Any, Any], Contract, TaskExecutionContext], object]
"""Calls a handler where it belongs: in this thread, on the event loop, or in another process."""


class LeaseMonitor(StopSignal, Protocol):
    """What the executor tells its heartbeat, and hears from it."""

    @property
    def last(self) -> int:
        """Where this lease ends; lowered when the unstarted tail was given back."""
        ...

    def start(self, task_index: int) -> bool:
        """Note that a task starts; ``False`` if it may not: the lease ends before it, or was lost."""
        ...

    def note_progress(self, task_index: int, done: float, total: float) -> None:
        """Keep how far a task has come."""
        ...


class _Ended(NamedTuple):
    """How a task ended: with its result, also as JSON text, or with an error, to be tried again after a delay if it has one.

    The times are of the performance counter.
    """

    seconds: float
    at: float
    result: Contract | None = None
    text: str | None = None
    error: str | None = None
    delay_seconds: float | None = None

    def or_rather(self, error: BaseException, policy: RetryPolicy, attempt: int) -> "_Ended":
        """Return that it failed."""
        delay = policy.delay_seconds(attempt, random.random()) if policy.allows(attempt, error) else None  # noqa: S311  jitter
        return _Ended(self.seconds, self.at, error=error_text(error), delay_seconds=delay)


class Report:
    """The ended tasks of a lease that the store does not know yet."""

    def __init__(self, lease: Lease, first: int, combine: Combine | None) -> None:
        self._lease = lease
        self._first = first
        self._fold = None if combine is None else ResultFold(combine, first)
        self._ended: list[tuple[TaskStatus, str | None, str | None, float, float]] = []
        self._retries: list[Retry] = []

    def __len__(self) -> int:
        """Return how many tasks it reports."""
        return len(self._ended)

    def add(self, ended: _Ended) -> None:
        """Add a task."""
        if ended.error is None:
            self.add_completed(ended.result, ended.text, ended.seconds)
        elif ended.delay_seconds is None:
            self.add_failed(ended.error, ended.seconds)
        else:
            self.add_retried(ended.delay_seconds, ended.error, ended.seconds)

    def add_completed(self, result: Contract | None, text: str | None, seconds: float) -> None:
        """Add a task that completed, with its result and that as JSON text."""
        self._ended.append((TaskStatus.COMPLETED, text, None, seconds, time.time()))
        if self._fold is not None and result is not None:
            self._fold.add(result)

    def add_failed(self, error: str, seconds: float) -> None:
        """Add a task that failed for good."""
        self._ended.append((TaskStatus.FAILED, None, error, seconds, time.time()))
        if self._fold is not None:
            self._fold.pass_over()

    def add_retried(self, delay_seconds: float, error: str, seconds: float) -> None:
        """Add a task that goes back for another attempt."""
        index = self._first + len(self)
        self._retries.append(Retry(task_index=index, delay_seconds=delay_seconds, error_details=error))
        self._ended.append((TaskStatus.QUEUED, None, error, seconds, time.time()))
        if self._fold is not None:
            self._fold.interrupt()

    def to_completion(self) -> RangeCompletion:
        """Return what the store is to be told."""
        statuses, results, errors, seconds, completed_at = map(list, zip(*self._ended, strict=True))
        return RangeCompletion(
            range_id=self._lease.range_id,
            token=self._lease.token,
            stage_id=self._lease.stage_id,
            first=self._first,
            statuses=statuses,
            results=results,
            errors=errors,
            seconds=seconds,
            completed_at=completed_at,
            retries=self._retries,
            partials=[] if self._fold is None else self._fold.partials(),
        )


def execute_range(
    lease: Lease,
    workflow: Workflow,
    monitor: LeaseMonitor,
    run_handler: RunHandler,
    *,
    worker_id: str,
    host: TaskHost | None = None,
    writes: HandlerWrites | None = None,
    payloads: PayloadShelf | None = None,
) -> Iterator[RangeCompletion]:
    """Run the tasks of a lease in index order and yield reports of consecutive prefixes, each when it is due.

    Stops before the next task when the lease was lost, its tail was given back, or its work is no longer wanted. The tasks
    of a range that killed a worker are reported one by one. A task whose handler asked for a transaction is reported at once,
    by itself, and offered to ``writes``: with what was not yet reported before it, it is completed there.

    Args:
        writes: The transactions of the handlers; without it they can have none.
        host: What stands behind the handlers' contexts; without one they can be stopped, and no more.
        payloads: Where parameters and results go that are too large for a row; without it they are refused.
    """
    shelf = payloads if payloads is not None else PayloadShelf(None)
    task = workflow.task(lease.stage_number)
    policy = workflow.definition.stage(lease.stage_number).retry
    combine = workflow.combine(lease.stage_number)
    about = {
        "job_id": lease.job_id,
        "job_type": lease.job_type,
        "run": lease.run,
        "stage_number": lease.stage_number,
        "task_type": lease.task_type,
        "attempt": lease.attempt,
        "generation": lease.generation,
        "worker_id": worker_id,
        "signal": monitor if host is None else host,
    }
    report, due = Report(lease, lease.first, combine), time.perf_counter() + FLUSH_SECONDS
    try:
        for index, parameters in enumerate(lease.tasks, start=lease.first):
            if not monitor.start(index):
                break
            about["task_index"] = index
            context = TaskExecutionContext.from_fields(about)
            running_task.set(context)
            if writes is not None:
                writes.admit(index)
            ended = _run_task(task, parameters, context, run_handler, policy, shelf)
            if writes is not None and writes.close_door():
                running_task.set(None)
                fresh = partial(Report, lease, index, combine)
                report, written = yield from _complete_inside(ended, report, fresh, writes)
                if written in {Written.COMMITTED, Written.STALE}:
                    report, due = Report(lease, index + 1, combine), time.perf_counter() + FLUSH_SECONDS
                    continue
                if writes.refusal is not None:
                    ended = ended.or_rather(writes.refusal, policy, lease.attempt)
            report.add(ended)
            if ended.at >= due or lease.suspect or len(report) >= FLUSH_TASKS:
                running_task.set(None)
                yield report.to_completion()
                report, due = Report(lease, index + 1, combine), time.perf_counter() + FLUSH_SECONDS
    finally:
        running_task.set(None)
        if writes is not None:
            writes.roll_back()
    if len(report):
        yield report.to_completion()


def _complete_inside(
    ended: _Ended, report: Report, fresh: Callable[[], Report], writes: HandlerWrites
) -> Generator[RangeCompletion, None, tuple[Report, Written]]:
    """Have a task completed in its handler's transaction, with the unreported tasks before it.

    Returns what became of that, and where it came to nothing, the report to which the task is to be added as failed. What the
    transaction did not take along of the tasks before is reported without it.
    """
    if ended.error is not None:
        writes.roll_back()
        return report, Written.REFUSED
    before = [report.to_completion()] if len(report) else []
    alone = fresh()
    alone.add(ended)
    completion = alone.to_completion()
    writes.offer(before)
    yield completion
    written = writes.settled()
    if written is not Written.COMMITTED:
        yield from before
    return fresh(), written


def _run_task(
    task: Task[Any, Any],
    parameters: str,
    context: TaskExecutionContext,
    run_handler: RunHandler,
    policy: RetryPolicy,
    shelf: PayloadShelf,
) -> _Ended:
    """Run one task, and return what came of it."""
    started = time.perf_counter()
    try:
        given = shelf.load(parameters, f"the parameters of a task {task.task_type!r}", patient=True)
        result, text = _encode(task, run_handler(task, _decode(task, given), context))
        if text is not None:
            text = shelf.store(context.job_id, text, f"the result of a task {task.task_type!r}", patient=True)
    except BaseException as error:  # noqa: BLE001  sys.exit in a handler ends its task, not the worker's slot
        let_interrupt_pass(error)
        ended = time.perf_counter()
        return _Ended(ended - started, ended).or_rather(error, policy, context.attempt)
    ended = time.perf_counter()
    return _Ended(ended - started, ended, result, text)


def _decode(task: Task[Any, Any], parameters: str) -> Contract:
    try:
        model: Contract = task.parameter_model.from_json(parameters)
    except ValidationError as error:
        msg = f"the stored parameters of the task are no {task.parameter_model.__name__}: {error}"
        raise PermanentTaskError(msg) from error
    return model


def _encode(task: Task[Any, Any], result: object) -> tuple[Contract | None, str | None]:
    """Return a handler's result, also as JSON text, after the check that it is exactly what its annotation says.

    Raises:
        ContractViolationError: It is something else.
    """
    if task.result_model is None:
        if result is None:
            return None, None
    elif isinstance(result, Contract) and type(result) is task.result_model:
        return result, result.to_json()
    expected = "None" if task.result_model is None else task.result_model.__name__
    msg = (
        f"task {task.task_type!r} must return {expected}, it returned {type(result).__name__}: {preview(result)}; "
        f"correct the handler ({task.where})"
    )
    raise ContractViolationError(
        msg,
        function=task.task_type,
        parameter=None,
        expected=expected,
        actual=type(result).__name__,
        path="return value",
        preview=preview(result),
    )
