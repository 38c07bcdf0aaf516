"""People pause a job amid work and let it go on, on both stores, through the app and the command line."""

import json
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from stageflow import (
    BaseController,
    Contract,
    InvalidTransitionError,
    JobExecutionContext,
    JobNotFoundError,
    JobRegistry,
    JobStatus,
    Stageflow,
    TaskExecutionContext,
    TaskStatus,
    stage,
    task,
    workflow,
)
from stageflow.cli import main
from stageflow.testing.drain import drain_work

registry = JobRegistry()
interrupting: dict[str, Callable[[str], object]] = {}
runs: Counter[int] = Counter()


class Three(Contract):
    """Job parameters."""


class Item(Contract):
    """Task parameters and result."""

    index: int


@task("interrupted_item")
def item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Count the call, and in the second task do what a test asks for."""
    runs[parameters.index] += 1
    if parameters.index == 1 and "task" in interrupting:
        interrupting["task"](context.job_id)
    return parameters


@workflow("interrupted", registry=registry)
class InterruptedController(BaseController[Three]):
    """Two stages of three tasks."""

    first = stage(1, "first", task=item)
    second = stage(2, "second", task=item)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Three]) -> Iterator[Item]:  # noqa: ARG002  a planner's shape
        """Plan three tasks."""
        yield from (Item(index=index) for index in range(3))

    @second.plan
    def plan_second(self, job: JobExecutionContext[Three]) -> Iterator[Item]:  # noqa: ARG002  a planner's shape
        """Plan three more."""
        yield from (Item(index=10 + index) for index in range(3))


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each store, migrated and empty."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("postgres_dsn")
    interrupting.clear()
    runs.clear()
    with Stageflow(url, registry=registry) as app:
        app.migrate()
        yield app


def test_a_job_paused_by_its_own_task_stops_and_goes_on(app: Stageflow) -> None:
    """What ran when the pause came is recorded, nothing else starts, and no task runs twice."""
    interrupting["task"] = app.pause
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    assert app.job(job_id).status is JobStatus.PAUSED
    first = app.repositories.tasks.list_tasks_for_job(job_id, 1, 0, 10)
    assert [each.status for each in first] == [TaskStatus.COMPLETED, TaskStatus.COMPLETED, TaskStatus.QUEUED]
    assert drain_work(app) == 0
    assert app.resume(job_id).status is JobStatus.PROCESSING
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED
    assert runs == {0: 1, 1: 1, 2: 1, 10: 1, 11: 1, 12: 1}


def test_a_job_paused_before_it_began_is_queued_again(app: Stageflow) -> None:
    """A pause in the queue leaves no trace, and pausing twice changes nothing."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    assert app.pause(job_id).status is JobStatus.PAUSED
    assert app.pause(job_id).status is JobStatus.PAUSED
    assert drain_work(app) == 0
    assert app.resume(job_id).status is JobStatus.QUEUED
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED


def test_what_is_not_paused_is_not_resumed(app: Stageflow) -> None:
    """A wrong state is named with what is allowed in it, and nothing changes."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    with pytest.raises(InvalidTransitionError, match=r"is queued and cannot be resumed.* from queued: cancelled, failed"):
        app.resume(job_id)
    assert app.job(job_id).status is JobStatus.QUEUED
    drain_work(app)
    before = app.job(job_id)
    with pytest.raises(InvalidTransitionError, match="completed cannot become paused; allowed: nothing, it is terminal"):
        app.pause(job_id)
    with pytest.raises(InvalidTransitionError, match="is completed and cannot be resumed"):
        app.resume(job_id)
    assert app.job(job_id) == before
    with pytest.raises(JobNotFoundError, match="stageflow jobs"):
        app.resume("0" * 64)


def test_the_command_line_pauses_and_resumes(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning of an id is enough; a wrong state exits with 1, an unknown id with 2."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)
    job_id = app.submit(InterruptedController, Three()).job.job_id

    def call(*arguments: str) -> tuple[int, str]:
        answer = CliRunner().invoke(main, [*arguments, "--app", f"{__name__}:cli_app"])
        return answer.exit_code, answer.output

    code, printed = call("pause", job_id[:12], "--json")
    assert (code, json.loads(printed)["status"]) == (0, "paused")
    assert call("resume", job_id[:12]) == (0, f"{job_id} queued\n")
    code, printed = call("resume", job_id[:12])
    assert code == 1
    assert "is queued and cannot be resumed" in printed
    code, printed = call("pause", "ffffffffffff")
    assert (code, "no job whose id begins" in printed) == (2, True)
