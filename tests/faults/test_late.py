"""What takes longer than it may, on each store: a task, a stage, a job, while a handler of it runs and while nothing does."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobFailedError,
    JobRegistry,
    JobStatus,
    RetryPolicy,
    Stageflow,
    TaskExecutionContext,
    TaskStatus,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.testing import drain_work, move_clock

pytestmark = pytest.mark.faults
registry = JobRegistry()
OPTIONS = WorkerOptions(slots=2, lease_seconds=6.0, beat_seconds=0.1, poll_seconds=0.1, recover_seconds=0.1)
PATIENCE = 60
STAGE_SECONDS = 600.0
JOB_SECONDS = 300.0


class Order(Contract):
    """Job parameters: whether handlers wait until they are told to stop."""

    waits: bool = False


class Item(Contract):
    """Task parameters and result."""

    index: int
    waits: bool


class Handlers:
    """What handlers tell the test."""

    calls: ClassVar[list[tuple[int, int]]] = []
    entered: ClassVar[threading.Semaphore] = threading.Semaphore(0)
    told: ClassVar[threading.Semaphore] = threading.Semaphore(0)


@task("late_item", retry=RetryPolicy(max_attempts=5, initial_seconds=0, cap_seconds=0))
def do_item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Wait to be told to stop, and return a result all the same; a handler may be as deaf as that."""
    Handlers.calls.append((context.stage_number, context.task_index))
    if parameters.waits:
        Handlers.entered.release()
        deadline = threading.Event()
        while not context.cancelled:
            deadline.wait(0.01)
        Handlers.told.release()
    return parameters


@task("short_item", timeout_seconds=0.2, retry=RetryPolicy(max_attempts=2, initial_seconds=0, cap_seconds=0))
def do_short_item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Wait to be told to stop, and obey."""
    Handlers.calls.append((context.stage_number, context.task_index))
    while parameters.waits:
        context.check()
    return parameters


@workflow("late", registry=registry)
class Late(BaseController[Order]):
    """Two stages; the first has a time of its own."""

    first = stage(1, "first", task=do_item, timeout_seconds=STAGE_SECONDS)
    second = stage(2, "second", task=do_item)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Order]) -> Iterator[Item]:
        """Plan two tasks."""
        yield from (Item(index=index, waits=job.parameters.waits) for index in range(2))

    @second.plan
    def plan_second(self, job: JobExecutionContext[Order]) -> Iterator[Item]:  # noqa: ARG002  the shape of a planner
        """Plan one task, which nobody wants once the job is late."""
        yield Item(index=0, waits=False)


@workflow("short", registry=registry)
class Short(BaseController[Order]):
    """One stage, whose task has a time of its own."""

    only = stage(1, "only", task=do_short_item)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Order]) -> Iterator[Item]:
        """Plan one task that waits, if the job says so, and one that does not."""
        yield Item(index=0, waits=job.parameters.waits)
        yield Item(index=1, waits=False)


@pytest.fixture
def app(store_url: str) -> Iterator[Stageflow]:
    """Give an app that nobody works for."""
    Handlers.calls.clear()
    Handlers.entered, Handlers.told = threading.Semaphore(0), threading.Semaphore(0)
    with Stageflow(store_url, registry=registry, options=OPTIONS) as made:
        made.migrate()
        yield made


def check_that_it_failed(app: Stageflow, job_id: str, *said: str) -> None:
    """The job failed with that reason, its stages are closed, and nothing of it is left to be done."""
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert all(words in str(job.error_details) for words in said), job.error_details
    before = list(Handlers.calls)
    move_clock(app, 10 * STAGE_SECONDS)
    app.maintain()
    assert drain_work(app) == 0
    assert Handlers.calls == before
    assert app.job(job_id) == job
    assert app.doctor().ailments == []
    with pytest.raises(JobFailedError):
        app.result(job_id, timeout=0)


@pytest.mark.parametrize(("limit", "said"), [(None, "by the deadline of stage 1"), (JOB_SECONDS, "by its deadline")])
def test_f11_a_stage_or_job_that_is_late_fails_while_its_handlers_run(app: Stageflow, limit: float | None, said: str) -> None:
    """They are told to stop; what they return all the same is recorded, closes nothing and revives nobody."""
    job_id = app.submit(Late, Order(waits=True), timeout_seconds=limit).job.job_id
    with app.worker():
        assert all(Handlers.entered.acquire(timeout=PATIENCE) for _ in range(2))
        move_clock(app, (limit or STAGE_SECONDS) + 1)
        assert app.wait(job_id, timeout=PATIENCE).status is JobStatus.FAILED
        assert all(Handlers.told.acquire(timeout=PATIENCE) for _ in range(2))
    assert app.telemetry.counts["job_overdue"] == 1
    assert app.telemetry.counts["stage_advanced"] == 0
    recorded = app.repositories.tasks.list_tasks_for_job(job_id, 1)
    assert [each.status for each in recorded] == [TaskStatus.COMPLETED] * 2
    check_that_it_failed(app, job_id, said, "2 of 2 tasks without a result")


@pytest.mark.parametrize(
    ("limit", "said", "begun"),
    [
        (None, "by the deadline of stage 1", True),
        (JOB_SECONDS, "by its deadline", True),
        (JOB_SECONDS, "unfinished: stage 1 (first) pending", False),
    ],
)
def test_f11_a_stage_or_job_that_nobody_works_on_is_late_too(
    app: Stageflow,
    limit: float | None,
    said: str,
    begun: bool,  # noqa: FBT001  a case
) -> None:
    """Whoever maintains the store ends it, once; no handler is called any more."""
    deadline = None if limit is None else app.repositories.store.now() + timedelta(seconds=limit)
    job = app.submit(Late, Order(), deadline=deadline).job
    if begun:
        assert registry.find(Late).controller.process_job_stage(job, 1).stages_planned == [1]
    move_clock(app, (limit or STAGE_SECONDS) - 5)
    assert app.maintain().overdue == 0
    move_clock(app, 6)
    assert [app.maintain().overdue for _ in range(2)] == [1, 0]
    assert Handlers.calls == []
    check_that_it_failed(app, job.job_id, said)


def test_f11_a_job_that_is_late_while_it_is_paused_fails(app: Stageflow) -> None:
    """Paused time counts."""
    job = app.submit(Late, Order(), timeout_seconds=JOB_SECONDS).job
    assert registry.find(Late).controller.process_job_stage(job, 1).stages_planned == [1]
    app.pause(job.job_id)
    move_clock(app, JOB_SECONDS + 1)
    assert app.maintain().overdue == 1
    check_that_it_failed(app, job.job_id, "by its deadline")


def test_f11_a_task_that_is_late_is_tried_again_and_then_failed(app: Stageflow) -> None:
    """Its sibling's result is kept; after its last attempt the job fails with the timeout's words."""
    job_id = app.submit(Short, Order(waits=True)).job.job_id
    with app.worker():
        result = app.wait(job_id, timeout=PATIENCE)
    tasks = result.stage_results["1"].task_results
    assert [(each.status, each.attempt) for each in tasks] == [(TaskStatus.FAILED, 2), (TaskStatus.COMPLETED, 1)]
    assert "ran longer than its timeout of 0.2 s" in str(tasks[0].error_details)
    assert sorted(Handlers.calls) == [(1, 0), (1, 0), (1, 1)]
    check_that_it_failed(app, job_id, "timeout of 0.2 s")
