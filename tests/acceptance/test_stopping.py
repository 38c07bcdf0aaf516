"""Handlers whose work is no longer wanted, on each store: told, and after a grace stopped by force where that can be done."""

import asyncio
import importlib
import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    Stageflow,
    TaskExecutionContext,
    TaskStatus,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.testing.drain import move_clock

OPTIONS = WorkerOptions(
    slots=1,
    poll_seconds=0.1,
    beat_seconds=0.1,
    lease_seconds=30.0,
    recover_seconds=0.2,
    processes=1,
    stop_seconds=0.2,
    cancel_grace_seconds=0.3,
)
PATIENCE = 30.0
release = threading.Event()
entered = threading.Event()
finished = threading.Event()
cleaned: list[str] = []


class Wish(Contract):
    """What a task is to do."""

    action: str = "pass"


class Child(Contract):
    """Job parameters: for a task in a child process."""

    file: str
    obeys: bool = False


@task("stubborn_thread", timeout_seconds=3600)
def stubborn_thread(parameters: Wish, context: TaskExecutionContext) -> None:  # noqa: ARG001  a handler's shape
    """Wait for what nobody but the test sends."""
    if parameters.action == "hang":
        entered.set()
        release.wait()


@task("stubborn_slot")
def stubborn_slot(parameters: Wish, context: TaskExecutionContext) -> None:  # noqa: ARG001  a handler's shape
    """Wait in the slot's own thread."""
    if parameters.action == "hang":
        entered.set()
        release.wait()


@task("stubborn_later")
async def stubborn_later(parameters: Wish, context: TaskExecutionContext) -> None:  # noqa: ARG001  a handler's shape
    """Clean up and end, swallow the cancellation, or keep the loop from turning."""
    match parameters.action:
        case "clean":
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append("cleaned up")
        case "swallow":
            entered.set()
            while not release.is_set():
                try:
                    await asyncio.sleep(0.02)
                except asyncio.CancelledError:
                    cleaned.append("swallowed")
            finished.set()
        case "block":
            entered.set()
            release.wait()
            finished.set()
        case _:
            pass


class InThread(BaseController[Wish]):
    """A plain handler with a timeout."""

    only = stage(1, "only", task=stubborn_thread)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Wish]) -> Iterator[Wish]:
        """Plan it."""
        yield job.parameters


class InSlot(BaseController[Wish]):
    """A plain handler without a timeout."""

    only = stage(1, "only", task=stubborn_slot)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Wish]) -> Iterator[Wish]:
        """Plan it."""
        yield job.parameters


class OnLoop(BaseController[Wish]):
    """An async handler without a timeout."""

    only = stage(1, "only", task=stubborn_later)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Wish]) -> Iterator[Wish]:
        """Plan it."""
        yield job.parameters


def all_workflows() -> JobRegistry:
    """Register the workflows, one of them over the module that children can import."""
    registry = JobRegistry()
    registry.register(InThread, "stubborn_thread")
    registry.register(InSlot, "stubborn_slot")
    registry.register(OnLoop, "stubborn_later")
    work = importlib.import_module("stubborn_work")

    @workflow("stubborn_child", registry=registry)
    class InChild(BaseController[Child]):
        """A handler in a child process, without a timeout."""

        only = stage(1, "only", task=work.stubborn_in_child)

        @only.plan
        def plan_only(self, job: JobExecutionContext[Child]) -> Iterator[Any]:
            """Plan it."""
            yield work.Stubborn(file=job.parameters.file, obeys=job.parameters.obeys)

    return registry


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stageflow]:
    """Give an app with a worker of one slot; what still hangs at the end is let go."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    release.clear()
    entered.clear()
    finished.clear()
    cleaned.clear()
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=all_workflows(), options=OPTIONS) as made:
        made.migrate()
        with made.worker():
            yield made
            release.set()


def begin(app: Stageflow, controller: type[BaseController[Wish]], action: str) -> str:
    """Submit a job whose handler runs when this returns."""
    job_id = app.submit(controller, Wish(action=action), new_run=True).job.job_id
    assert entered.wait(PATIENCE)
    return job_id


def begin_in_child(app: Stageflow, file: Path, *, obeys: bool = False, deadline: datetime | None = None) -> tuple[str, int]:
    """Submit a job whose handler runs in a child when this returns, and return its id and that of the process."""
    job_id = app.submit("stubborn_child", Child(file=str(file), obeys=obeys), new_run=True, deadline=deadline).job.job_id
    give_up_at = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)  # a file of another process tells nobody
    return job_id, int(file.read_text())


def is_alive(pid: int) -> bool:
    """Return whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def the_slot_is_free(app: Stageflow) -> bool:
    """Return whether the worker's one slot, and its loop, take another job to its end."""
    ids = [app.submit(controller, Wish(), new_run=True).job.job_id for controller in (OnLoop, InSlot)]
    return all(app.wait(job_id, timeout=PATIENCE).status is JobStatus.COMPLETED for job_id in ids)


def error_of(app: Stageflow, job_id: str) -> str:
    """Return why the job's one task ended."""
    (found,) = app.repositories.tasks.list_tasks_for_job(job_id, 1, 0, 10)
    assert found.status is TaskStatus.FAILED
    return found.error_details or ""


def test_a_child_that_does_not_stop_is_killed(app: Stageflow, tmp_path: Path) -> None:
    """After a cancel and the grace its process is gone, its end is recorded, and the next task has a child of its own."""
    job_id, pid = begin_in_child(app, tmp_path / "pid")
    app.cancel(job_id)
    assert app.telemetry.wait_for("handler_killed", timeout_seconds=PATIENCE)
    assert not is_alive(pid)
    assert the_slot_is_free(app)
    assert "was stopped: it is no longer wanted" in error_of(app, job_id)
    again = app.submit("stubborn_child", Child(file=str(tmp_path / "pid")), new_run=True).job.job_id
    assert app.wait(again, timeout=PATIENCE).status is JobStatus.COMPLETED
    assert app.job(job_id).status is JobStatus.CANCELLED


def test_a_child_that_stops_in_the_grace_is_not_killed(app: Stageflow, tmp_path: Path) -> None:
    """Who obeys ``context.cancelled`` returns in its own time, and the same process runs the next task."""
    job_id, pid = begin_in_child(app, tmp_path / "pid", obeys=True)
    app.cancel(job_id)
    again = app.submit("stubborn_child", Child(file=str(tmp_path / "pid")), new_run=True).job.job_id
    result = app.wait(again, timeout=PATIENCE)
    assert result.stage_results["1"].task_results[0].result_data == {"pid": pid}
    assert app.telemetry.counts["handler_killed"] == 0


def test_a_child_whose_lease_was_lost_is_killed(app: Stageflow, tmp_path: Path) -> None:
    """A stale worker can do nothing: its handler is stopped, what it reports is refused, and the task runs elsewhere."""
    job_id, pid = begin_in_child(app, tmp_path / "pid")
    leases = app.repositories.leases
    while leases.recover(leases.list_leases(10), 6, 10).returned == 0:
        pass  # a heartbeat came between the two looks
    assert app.telemetry.wait_for("handler_killed", timeout_seconds=PATIENCE)
    assert not is_alive(pid)
    assert app.wait(job_id, timeout=PATIENCE).status is JobStatus.COMPLETED
    assert app.telemetry.counts["stale_write_refused"] == 1
    (found,) = app.repositories.tasks.list_tasks_for_job(job_id, 1, 0, 10)
    assert found.attempt == 1  # what was taken away is no attempt of the handler's


def test_a_late_job_has_its_child_killed(app: Stageflow, tmp_path: Path) -> None:
    """A deadline ends like a cancel."""
    deadline = app.repositories.store.now() + timedelta(hours=1)
    job_id, pid = begin_in_child(app, tmp_path / "pid", deadline=deadline)
    move_clock(app, 3601)
    assert app.wait(job_id, timeout=PATIENCE).status is JobStatus.FAILED
    assert app.telemetry.wait_for("handler_killed", timeout_seconds=PATIENCE)
    assert not is_alive(pid)


def test_a_thread_with_a_timeout_is_left_alone_after_the_grace(app: Stageflow) -> None:
    """Its hour is far from over: the slot goes on without it all the same."""
    job_id = begin(app, InThread, "hang")
    app.cancel(job_id)
    assert app.telemetry.wait_for("handler_abandoned", timeout_seconds=PATIENCE)
    assert the_slot_is_free(app)
    assert "was stopped: it is no longer wanted" in error_of(app, job_id)


def test_an_async_handler_is_cancelled_and_cleans_up(app: Stageflow) -> None:
    """Its task is cancelled where it awaits, and the slot waits for its ``finally``."""
    job_id = begin(app, OnLoop, "clean")
    app.cancel(job_id)
    assert the_slot_is_free(app)
    assert cleaned == ["cleaned up"]
    assert app.telemetry.counts["handler_abandoned"] == 0
    assert "was stopped: it is no longer wanted" in error_of(app, job_id)


@pytest.mark.parametrize("action", ["swallow", "block"])
def test_an_async_handler_that_does_not_end_is_left_alone(app: Stageflow, action: str) -> None:
    """Whether it swallows the cancellation or holds the loop: after the grace the slot goes on, on a loop that turns."""
    job_id = begin(app, OnLoop, action)
    app.cancel(job_id)
    assert app.telemetry.wait_for("handler_abandoned", timeout_seconds=PATIENCE)
    assert the_slot_is_free(app)
    assert app.job(job_id).status is JobStatus.CANCELLED
    release.set()
    assert finished.wait(PATIENCE)


def test_a_thread_without_a_timeout_cannot_be_stopped(app: Stageflow) -> None:
    """The job is cancelled at once, but the slot is busy until the handler returns; then its late result is recorded."""
    job_id = begin(app, InSlot, "hang")
    assert app.cancel(job_id).status is JobStatus.CANCELLED
    waiting = app.submit(InThread, Wish(), new_run=True).job.job_id
    assert app.job(waiting).status is JobStatus.QUEUED
    release.set()
    assert app.wait(waiting, timeout=PATIENCE).status is JobStatus.COMPLETED
    (found,) = app.repositories.tasks.list_tasks_for_job(job_id, 1, 0, 10)
    assert found.status is TaskStatus.COMPLETED
    assert app.job(job_id).status is JobStatus.CANCELLED
