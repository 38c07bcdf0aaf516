"""A job is cancelled at every step of its way, on each store: nothing of it starts any more, and nothing is left over."""

from collections.abc import Callable, Iterator
from typing import ClassVar, Final

import pytest

from stageflow import (
    BaseController,
    Contract,
    InvalidTransitionError,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    RetryableTaskError,
    RetryPolicy,
    Stageflow,
    StageResults,
    StageStatus,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.telemetry import Event
from stageflow.testing import drain_work, move_clock

pytestmark = pytest.mark.faults
registry = JobRegistry()
REASON: Final = "nobody wants it"
COUNT: Final = 3

STEPS: Final[dict[str, Callable[[Event], bool]]] = {
    "before anything": lambda event: event.name == "job_created",
    "between the planning and the first task": lambda event: event.name == "stage_planned",
    "between two tasks": lambda event: event.name == "range_completed" and event.details["remaining"] == 1,
    "between the last task and the advance": lambda event: event.name == "range_completed" and event.details["remaining"] == 0,
    "between the advance and the next planning": lambda event: event.name == "stage_advanced",
    "between the last planning and its task": lambda event: event.name == "stage_planned" and event.details["stage"] == 2,
    "between the last task and the end": lambda event: (
        event.name == "range_completed" and event.details["stage"] == 2 and event.details["remaining"] == 0
    ),
    "when its recovery is due": lambda event: event.name == "work_recovered",
}
"""The steps of a job at which something is committed, by the events that tell of them."""


class Order(Contract):
    """Job parameters: whether one of the tasks asks for another attempt."""

    retries: bool = False


class Item(Contract):
    """Task parameters and result."""

    index: int
    retries: bool


class Handlers:
    """What the test knows of handlers, and does while one runs."""

    calls: ClassVar[list[tuple[int, int]]] = []
    amid: ClassVar[Callable[[str], object] | None] = None


@task("cancelled_item", retry=RetryPolicy(max_attempts=2, initial_seconds=30, cap_seconds=30, jitter=False))
def do_item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Note the call; let the test act; ask for another attempt where the job wants it."""
    Handlers.calls.append((context.stage_number, context.task_index))
    if Handlers.amid is not None:
        amid, Handlers.amid = Handlers.amid, None
        amid(context.job_id)
    if parameters.retries and context.attempt == 1:
        raise RetryableTaskError
    return parameters


@workflow("cancelled", registry=registry)
class Cancelled(BaseController[Order]):
    """Two stages."""

    first = stage(1, "first", task=do_item)
    second = stage(2, "second", task=do_item, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Order]) -> Iterator[Item]:
        """Plan some tasks."""
        yield from (Item(index=index, retries=job.parameters.retries) for index in range(COUNT))

    @second.plan
    def plan_second(self, job: JobExecutionContext[Order], first: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """Plan a task for each result."""
        yield from first


@pytest.fixture
def app(store_url: str) -> Iterator[Stageflow]:
    """Give an app that nobody works for."""
    Handlers.calls.clear()
    Handlers.amid = None
    with Stageflow(store_url, registry=registry) as made:
        made.migrate()
        yield made


def check_that_it_stays_cancelled(app: Stageflow, job_id: str) -> None:
    """The job is cancelled for that reason, its stages are closed, and neither time nor recovery makes work of it."""
    job = app.job(job_id)
    assert (job.status, job.error_details) == (JobStatus.CANCELLED, REASON)
    open_stages = {StageStatus.PENDING, StageStatus.PLANNING, StageStatus.PROCESSING}
    assert not open_stages & {each.status for each in app.repositories.stages.list_stages(job_id, job.run)}
    before = list(Handlers.calls)
    for _ in range(2):
        move_clock(app, 100_000)
        app.maintain()
        assert drain_work(app) == 0
    assert Handlers.calls == before
    assert app.job(job_id) == job
    assert app.doctor().ailments == []


@pytest.mark.parametrize("step", STEPS)
def test_f20_a_job_that_is_cancelled_between_two_steps_ends_there(app: Stageflow, step: str) -> None:
    """What was committed stays, and no handler is called after the cancellation."""
    reached: list[int] = []

    def cancel_there(event: Event) -> None:
        if not reached and STEPS[step](event):
            reached.append(len(Handlers.calls))
            app.cancel(job_id or event.job_id, reason=REASON)

    job_id = ""
    with app.telemetry.listening(cancel_there):
        job_id = app.submit(Cancelled, Order(retries=step == "when its recovery is due")).job.job_id
        drain_work(app)
    assert reached == [len(Handlers.calls)]
    assert app.telemetry.counts["job_cancelled"] == 1
    check_that_it_stays_cancelled(app, job_id)


@pytest.mark.parametrize("retries", [False, True])
def test_f20_a_job_that_is_cancelled_while_a_handler_runs_ends(app: Stageflow, retries: bool) -> None:  # noqa: FBT001  a case
    """What the handler returns then, or that it asks for another attempt, advances nothing."""
    Handlers.amid = lambda job_id: app.cancel(job_id, reason=REASON)
    job_id = app.submit(Cancelled, Order(retries=retries)).job.job_id
    drain_work(app)
    assert Handlers.calls == [(1, 0)]
    assert app.telemetry.counts["stage_advanced"] == 0
    check_that_it_stays_cancelled(app, job_id)


def test_f20_a_job_that_is_cancelled_while_it_is_paused_ends(app: Stageflow) -> None:
    """And cannot be resumed."""
    Handlers.amid = app.pause
    job_id = app.submit(Cancelled, Order()).job.job_id
    drain_work(app)
    assert app.job(job_id).status is JobStatus.PAUSED
    app.cancel(job_id, reason=REASON)
    with pytest.raises(InvalidTransitionError):
        app.resume(job_id)
    check_that_it_stays_cancelled(app, job_id)


def test_f20_a_job_that_is_cancelled_while_its_worker_is_dead_ends(app: Stageflow) -> None:
    """The lease of the dead worker is not brought back to life."""
    job = app.submit(Cancelled, Order()).job

    def die(_: str) -> None:
        raise KeyboardInterrupt

    Handlers.amid = die
    with pytest.raises(KeyboardInterrupt):
        drain_work(app)
    app.cancel(job.job_id, reason=REASON)
    check_that_it_stays_cancelled(app, job.job_id)


def test_f20_a_job_that_has_ended_is_not_cancelled(app: Stageflow) -> None:
    """The caller is told, and the answer stays."""
    job_id = app.submit(Cancelled, Order()).job.job_id
    drain_work(app)
    ended = app.job(job_id)
    assert ended.status is JobStatus.COMPLETED
    with pytest.raises(InvalidTransitionError):
        app.cancel(job_id, reason=REASON)
    assert app.job(job_id) == ended
