"""Handlers that run longer than their task allows, on each store: told to stop, cancelled, killed, or left alone."""

import asyncio
import importlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    JobResult,
    JobStatus,
    RetryPolicy,
    Stageflow,
    TaskExecutionContext,
    WorkerOptions,
    WorkflowDefinitionError,
    stage,
    task,
    workflow,
)
from stageflow.telemetry import Event
from stageflow.testing import drain_work
from stageflow.testing.postgres_server import PostgresDatabases

OPTIONS = WorkerOptions(
    slots=1, poll_seconds=0.2, beat_seconds=0.1, lease_seconds=30.0, recover_seconds=0.2, stop_seconds=0.2, processes=1
)
AT_ONCE = RetryPolicy(max_attempts=2, initial_seconds=0, cap_seconds=0)
NEVER = RetryPolicy(max_attempts=1)
WORKFLOWS = JobRegistry()
release = threading.Event()
holding = threading.Event()
ended: list[str] = []


class Item(Contract):
    """What a task is to do, and until which attempt."""

    action: str = "pass"
    until: int = 99


class Answer(Contract):
    """The result: which attempt it is of."""

    attempt: int


class Items(Contract):
    """Job parameters: tasks for each stage."""

    items: list[Item]


@task("limited", timeout_seconds=0.5, retry=AT_ONCE)
def limited(parameters: Item, context: TaskExecutionContext) -> Answer:
    """Hang, obey, or come back too late."""
    if context.attempt > parameters.until:
        return Answer(attempt=context.attempt)
    match parameters.action:
        case "hang":
            release.wait()
        case "obey":
            while not release.wait(0.01):
                context.check()
        case "late":
            while not context.cancelled:
                release.wait(0.01)
        case "own":
            msg = "the server did not answer"
            raise TimeoutError(msg)
        case _:
            pass
    return Answer(attempt=context.attempt)


async def hold() -> None:
    """Keep the loop from turning."""
    holding.set()
    release.wait()


@task("holding_later")
async def holding_later(parameters: Item, context: TaskExecutionContext) -> Answer:  # noqa: ARG001  a handler's shape
    """Keep the loop from turning, and have no timeout."""
    await hold()
    return Answer(attempt=context.attempt)


@task("limited_later", timeout_seconds=0.5, retry=AT_ONCE)
async def limited_later(parameters: Item, context: TaskExecutionContext) -> Answer:
    """Await for ever, or keep the loop from turning."""
    if context.attempt <= parameters.until:
        match parameters.action:
            case "hang":
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append("cleaned up")
            case "block":
                release.wait()
            case "share":
                await asyncio.create_task(hold(), name="a task that sleeps")
            case "own":
                msg = "the server did not answer"
                raise TimeoutError(msg)
            case _:
                pass
    return Answer(attempt=context.attempt)


@workflow("limited", registry=WORKFLOWS)
class Limited(BaseController[Items]):
    """One stage in threads."""

    only = stage(1, "only", task=limited, policy=FailurePolicy.any_may_fail())

    @only.plan
    def plan_only(self, job: JobExecutionContext[Items]) -> Iterator[Item]:
        """Plan what the parameters say."""
        yield from job.parameters.items


@workflow("limited_later", registry=WORKFLOWS)
class LimitedLater(BaseController[Items]):
    """One stage on the event loop."""

    only = stage(1, "only", task=limited_later, policy=FailurePolicy.any_may_fail())

    @only.plan
    def plan_only(self, job: JobExecutionContext[Items]) -> Iterator[Item]:
        """Plan what the parameters say."""
        yield from job.parameters.items


@workflow("holding_later", registry=WORKFLOWS)
class HoldingLater(BaseController[Items]):
    """One stage that holds the event loop."""

    only = stage(1, "only", task=holding_later)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Items]) -> Iterator[Item]:
        """Plan what the parameters say."""
        yield from job.parameters.items


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name a store that nobody else uses."""
    if request.param == "sqlite":
        yield "sqlite::memory:"
        return
    server: PostgresDatabases = request.getfixturevalue("postgres_server")
    dsn = server.create_database()
    yield dsn
    server.drop_database(dsn)


@pytest.fixture
def app(store_url: str) -> Iterator[Stageflow]:
    """Give an app with a worker of one slot; what still hangs at the end is let go."""
    release.clear()
    ended.clear()
    with Stageflow(store_url, registry=WORKFLOWS, options=OPTIONS) as made:
        made.migrate()
        with made.worker():
            yield made
            release.set()


def run(app: Stageflow, controller: type[BaseController[Items]], *items: Item) -> JobResult:
    """Run a job of one stage to its end."""
    return app.wait(app.submit(controller, Items(items=list(items)), new_run=True).job.job_id, timeout=30)


def attempts(result: JobResult) -> list[int | None]:
    """Return which attempt of each task counted, ``None`` where it failed."""
    rows = result.stage_results["1"].task_results
    return [None if row.result_data is None else Answer.model_validate(row.result_data).attempt for row in rows]


def errors(result: JobResult) -> str:
    """Return what went wrong, all of it."""
    return "\n".join(row.error_details or "" for row in result.stage_results["1"].task_results)


@pytest.mark.faults
def test_f11_a_handler_that_hangs_costs_an_attempt_of_its_own_task_only(app: Stageflow) -> None:
    """The one slot of the worker goes on without the thread that hangs; siblings are run once and uncharged."""
    result = run(app, Limited, Item(), Item(action="hang", until=1), Item(), Item())
    assert result.status is JobStatus.COMPLETED
    assert attempts(result) == [1, 2, 1, 1]
    assert app.telemetry.counts["handler_abandoned"] == 1
    assert app.telemetry.counts["stale_write_refused"] == 0


def test_what_a_thread_returns_that_was_left_alone_reaches_nobody(app: Stageflow) -> None:
    """A handler that wakes up after its task failed changes nothing, and the worker works on."""
    result = run(app, Limited, Item(action="hang"))
    assert attempts(result) == [None]
    assert "TaskTimeoutError" in errors(result)
    assert "ran longer than its timeout of 0.5 s" in errors(result)
    assert app.telemetry.counts["handler_abandoned"] == 2
    release.set()
    assert attempts(run(app, Limited, Item(), Item())) == [1, 1]
    assert attempts(app.wait(result.job_id, timeout=30)) == [None]


@pytest.mark.parametrize("action", ["obey", "late"])
def test_a_handler_is_told_that_its_time_is_over(app: Stageflow, action: str) -> None:
    """Whether it obeys ``context.check()`` or returns when ``context.cancelled``: it is a timeout, and its thread is free."""
    result = run(app, Limited, Item(action=action, until=1), Item(action=action))
    assert attempts(result) == [2, None]
    assert "TaskTimeoutError" in errors(result)
    assert app.telemetry.counts["handler_abandoned"] == 0


def test_an_async_handler_is_cancelled_and_may_clean_up(app: Stageflow) -> None:
    """The coroutine is cancelled where it awaits; its ``finally`` runs before the next attempt."""
    result = run(app, LimitedLater, Item(action="hang", until=1), Item(), Item(action="hang"))
    assert attempts(result) == [2, 1, None]
    assert "TaskTimeoutError" in errors(result)
    assert ended == ["cleaned up"] * 3
    assert app.telemetry.counts["handler_abandoned"] == 0


def test_an_async_handler_that_blocks_the_loop_is_left_alone_with_it(app: Stageflow) -> None:
    """Later handlers get another loop."""
    result = run(app, LimitedLater, Item(action="block", until=1), Item(), Item())
    assert attempts(result) == [2, 1, 1]
    assert app.telemetry.counts["handler_abandoned"] == 1


def test_an_async_handler_that_another_keeps_from_beginning_is_not_charged() -> None:
    """Its time counts from when it begins; it begins on another loop, and who held the first one is told."""
    release.clear()
    holding.clear()
    events: list[Event] = []
    options = OPTIONS.model_copy(update={"slots": 2})
    with Stageflow("sqlite::memory:", registry=WORKFLOWS, options=options) as app, app.telemetry.listening(events.append):
        holder = app.submit(HoldingLater, Items(items=[Item()])).job.job_id
        with app.worker():
            assert holding.wait(30)
            assert attempts(run(app, LimitedLater, Item())) == [1]
            release.set()
            assert app.wait(holder, timeout=30).status is JobStatus.COMPLETED
    (held,) = [event.details["held_by"] for event in events if event.name == "loop_held"]
    assert held == f"task 0 of stage 1 (holding_later) of job {holder}"


def test_an_async_handler_that_another_made_late_says_who_held_the_loop(app: Stageflow) -> None:
    """The innocent's error names the culprit."""
    result = run(app, LimitedLater, Item(action="share"))
    assert "the event loop was held by a task that sleeps: let that one await" in errors(result)


@pytest.mark.parametrize("controller", [Limited, LimitedLater])
def test_a_timeout_error_of_the_handler_itself_is_no_timeout_of_the_task(
    app: Stageflow, controller: type[BaseController[Items]]
) -> None:
    """An error that happens in time passes through as it is."""
    result = run(app, controller, Item(action="own"))
    assert "TimeoutError: the server did not answer" in errors(result)
    assert "TaskTimeoutError" not in errors(result)


def test_a_child_process_that_hangs_is_killed(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the handler is left when its task is tried again, and other tasks are not charged."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    work = importlib.import_module("hanging_work")
    registry = JobRegistry()

    @workflow("hanging", registry=registry)
    class Hanging(BaseController[Items]):
        """One stage in child processes."""

        only = stage(1, "only", task=work.hang_in_child, policy=FailurePolicy.any_may_fail())

        @only.plan
        def plan_only(self, job: JobExecutionContext[Items]) -> Iterator[Any]:
            """Plan one task for each item."""
            for index, item in enumerate(job.parameters.items):
                yield work.Hang(file=str(tmp_path / str(index)), hangs_until=item.until)

    with Stageflow(store_url, registry=registry, options=OPTIONS) as app:
        app.migrate()
        with app.worker():
            result = run(app, Hanging, Item(until=1), Item(until=0), Item(until=2))
    assert attempts(result) == [2, 1, None]
    assert "TaskTimeoutError" in errors(result)
    for index in (0, 2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / str(index)).read_text()), 0)


def test_a_job_that_is_drained_in_a_test_has_timeouts_too() -> None:
    """Where a test works a job off in its own thread, a handler that hangs fails like anywhere else."""
    release.clear()
    with Stageflow("sqlite::memory:", registry=WORKFLOWS, options=OPTIONS) as app:
        job_id = app.submit(Limited, Items(items=[Item(action="hang", until=1)])).job.job_id
        drain_work(app)
        assert attempts(app.wait(job_id, timeout=0)) == [2]
    release.set()


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), 604_801, True, "1"])
def test_a_timeout_that_is_none_is_refused_where_it_is_declared(seconds: Any) -> None:
    """Nothing runs with a limit that nobody can have meant."""
    with pytest.raises(WorkflowDefinitionError, match="timeout_seconds of task 'x' must be a number above 0"):
        task("x", timeout_seconds=seconds)
