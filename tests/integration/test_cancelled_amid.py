"""A job that is cancelled while one of its hooks runs: the hook's work is refused, and nothing revives the job."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    RetryableTaskError,
    RetryPolicy,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.testing.drain import drain_work

registry = JobRegistry()
cancelling: list[Callable[[str], object]] = []


class Where(Contract):
    """Job parameters: in which hook the job is cancelled, and whether the hook fails afterwards."""

    hook: str
    fails: bool = False
    count: int = 1


class Item(Contract):
    """Task parameters and result."""

    index: int


def meddle(job: JobExecutionContext[Where], hook: str) -> None:
    """Cancel the job in the hook that its parameters name."""
    if job.parameters.hook == hook:
        cancelling[-1](job.job_id)
        if job.parameters.fails:
            msg = "and then it fails"
            raise ValueError(msg)


@task("item")
def item(parameters: Item, context: TaskExecutionContext) -> Item:  # noqa: ARG001  the shape of a handler
    """Pass it on."""
    return parameters


@workflow("meddled", registry=registry)
class MeddledController(BaseController[Where]):
    """Two stages."""

    first = stage(1, "first", task=item, planning_retry=RetryPolicy(max_attempts=2, initial_seconds=0.0))
    second = stage(2, "second", task=item, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Where]) -> Iterator[Item]:
        """Plan, meddled with at the start."""
        meddle(job, "plan")
        if job.parameters.hook == "retry":
            cancelling[-1](job.job_id)
            raise RetryableTaskError
        for index in range(job.parameters.count):
            yield Item(index=index)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Where], first: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """One task per result."""
        yield from first

    @first.should_advance
    def first_may_advance(self, job: JobExecutionContext[Where], stage: Any) -> bool:  # noqa: ARG002
        """Advance, meddled with."""
        meddle(job, "advance")
        return True

    def aggregate_job_results(self, job: JobExecutionContext[Where], stage_results: dict[int, StageResults[Any]]) -> Item:
        """Answer, meddled with."""
        meddle(job, "answer")
        return Item(index=len(stage_results))


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each kind of store, that no worker works on."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        cancelling.append(made.cancel)
        yield made
        cancelling.pop()


@pytest.mark.parametrize("count", [1, 12_000])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("hook", ["plan", "advance", "answer", "retry"])
@pytest.mark.faults
def test_f20_a_cancelled_job_stays_cancelled(app: Stageflow, hook: str, fails: bool, count: int) -> None:  # noqa: FBT001  a case
    """Whatever the hook does after the cancellation is refused, and no work is left over."""
    if count > 1 and hook != "plan":
        count = 2
    job_id = app.submit(MeddledController, Where(hook=hook, fails=fails, count=count), new_run=True).job.job_id
    drain_work(app)
    job = app.job(job_id)
    assert job.status is JobStatus.CANCELLED
    assert job.error_details == "cancelled by an operator"
    assert drain_work(app) == 0
    refused = app.telemetry.counts["plan_refused"] + app.telemetry.counts["advance_refused"]
    assert app.telemetry.counts["job_failed"] == 0
    assert refused or fails or hook == "retry"
