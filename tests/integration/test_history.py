"""The history of jobs, through the app, the command line and workers, on both stores."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from stageflow import (
    BaseController,
    Contract,
    EventKind,
    InvalidValueError,
    JobEvent,
    JobExecutionContext,
    JobNotFoundError,
    JobRegistry,
    RetryPolicy,
    Stageflow,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.cli import main
from stageflow.testing.drain import drain_work

registry = JobRegistry()
NOBODY = "0" * 64
APP = f"{__name__}:registry"


class Order(Contract):
    """Job parameters."""

    count: int
    bad: int = -1
    attempts: int = 1


class Item(Contract):
    """Task parameters."""

    index: int
    fails_until: int = 0


@task("pack")
def pack(parameters: Item, context: TaskExecutionContext) -> None:
    """Fail until an attempt."""
    if context.attempt < parameters.fails_until:
        msg = "password=hunter2 is wrong"
        raise ValueError(msg)


@workflow("orders", registry=registry)
class Orders(BaseController[Order]):
    """Two stages, in the first of which a task may fail."""

    packs = stage(1, "pack", task=pack, retry=RetryPolicy(max_attempts=2, initial_seconds=0.0))
    sends = stage(2, "send", task=pack)

    @packs.plan
    def plan_packs(self, job: JobExecutionContext[Order]) -> Iterator[Item]:
        """One task an item; the bad one needs its attempts."""
        for index in range(job.parameters.count):
            yield Item(index=index, fails_until=job.parameters.attempts if index == job.parameters.bad else 0)

    @sends.plan
    def plan_sends(self, job: JobExecutionContext[Order]) -> Iterator[Item]:
        """One task, for all items together."""
        yield Item(index=job.parameters.count)


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stageflow]:
    """Give an app on a store of each kind."""
    path = tmp_path_factory.mktemp("store") / "jobs.db"
    url = f"sqlite:{path}" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        yield made


def run(app: Stageflow, order: Order) -> str:
    """Run a job to its end."""
    job_id = app.submit(Orders, order, new_run=True).job.job_id
    drain_work(app)
    return job_id


def call(store: str, *arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, [*arguments, "--store", store])


def kinds(events: list[JobEvent]) -> list[str]:
    """Return the kinds of events."""
    return [event.kind.value for event in events]


def test_a_job_that_goes_well_has_a_short_history(app: Stageflow) -> None:
    """Each stage is opened, planned and closed; forty tasks say no more than two do."""
    short = kinds(app.history(run(app, Order(count=2))))
    stage_events = ["stage_opened", "stage_planned", "stage_closed"]
    assert short == ["job_submitted", *stage_events, *stage_events, "job_ended"]
    assert kinds(app.history(run(app, Order(count=40)))) == short


def test_a_failed_attempt_is_in_the_history_without_secrets(app: Stageflow) -> None:
    """Who tried which task in which attempt, and the error, as it may be shown."""
    events = app.history(run(app, Order(count=3, bad=1, attempts=2)))
    (retried,) = [event for event in events if event.kind is EventKind.TASKS_RETRIED]
    assert (retried.stage_number, retried.first, retried.last, retried.tasks, retried.attempt) == (1, 1, 2, 1, 1)
    assert retried.worker_id
    assert retried.detail is not None
    assert retried.detail.rstrip().endswith("ValueError: password=*** is wrong")
    assert kinds(events)[-1] == "job_ended"


def test_both_runs_of_a_resubmitted_job_are_told(app: Stageflow) -> None:
    """The failure of the first, and the second from its resubmission on."""
    job_id = app.submit(Orders, Order(count=2)).job.job_id
    app.cancel(job_id, reason="too early")
    app.resubmit(job_id)
    drain_work(app)
    ends = [(event.run, event.status, event.detail) for event in app.history(job_id) if event.kind is EventKind.JOB_ENDED]
    assert ends == [(1, "cancelled", "too early"), (2, "completed", None)]


def test_a_history_is_read_page_by_page(app: Stageflow) -> None:
    """The last id of a page leads to the next one, and after the last there is nothing."""
    job_id = run(app, Order(count=1))
    whole = app.history(job_id)
    first = app.history(job_id, limit=3)
    second = app.history(job_id, after=first[-1].event_id)
    assert first + second == whole
    assert app.history(job_id, after=whole[-1].event_id) == []


@pytest.mark.parametrize(("after", "limit"), [(None, 0), (None, 1001), (-2, 10), (2**63, 10)])
def test_a_page_that_cannot_be_is_refused(app: Stageflow, after: int | None, limit: int) -> None:
    """The message names the argument and what it may be."""
    job_id = app.submit(Orders, Order(count=1)).job.job_id
    with pytest.raises(InvalidValueError, match="must be"):
        app.history(job_id, after=after, limit=limit)


def test_a_job_that_is_not_there_has_no_history(app: Stageflow) -> None:
    """It is not found, on the first page and on any other."""
    for after in (None, 5):
        with pytest.raises(JobNotFoundError, match="there is no job"):
            app.history(NOBODY, after=after)


def test_the_command_shows_a_history_to_people_and_to_programs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One line an event, or one JSON document of them; a full page says how to go on."""
    url = f"sqlite:{tmp_path_factory.mktemp('store') / 'jobs.db'}"
    with Stageflow(url, registry=registry) as app:
        job_id = run(app, Order(count=3, bad=1, attempts=3))
        events = app.history(job_id)
    shown = call(url, "history", job_id[:16])
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert len(lines) == len(events)
    assert lines[0].split("  ")[1:] == ["run 1", "job_submitted"]
    assert next(line.split("  ")[1:5] for line in lines if "stage_planned" in line) == [
        "run 1",
        "stage 1",
        "stage_planned",
        "3 tasks from 0 to 2",
    ]
    (failed,) = [line for line in lines if "tasks_failed" in line]
    assert "  task 1  attempt 2  by " in failed
    assert failed.endswith(": ValueError: password=*** is wrong")
    document = json.loads(call(url, "history", job_id, "--json").stdout)
    assert [event["kind"] for event in document] == kinds(events)
    assert document[0] == {**document[0], "event_id": -1, "job_id": job_id, "run": 1, "status": None}
    page = call(url, "history", job_id, "--limit", "2")
    assert page.stdout.splitlines()[-1] == "there may be more: --after 0"
    rest = json.loads(call(url, "history", job_id, "--after", "0", "--json").stdout)
    assert rest == document[2:]
    assert call(url, "history", NOBODY).exit_code != 0
    assert call(url, "history", job_id, "--limit", "0").exit_code == 2
