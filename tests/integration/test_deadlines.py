"""Deadlines of jobs and stages, on both stores, through the app, a worker and the command line."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from click.testing import CliRunner

from stageflow import (
    BaseController,
    Contract,
    InvalidValueError,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    Stageflow,
    TaskExecutionContext,
    TaskStatus,
    WorkerOptions,
    WorkflowDefinitionError,
    stage,
    task,
    workflow,
)
from stageflow.cli import main
from stageflow.testing.drain import drain_work, move_clock

registry = JobRegistry()
entered = threading.Event()
told = threading.Event()


class Plan(Contract):
    """Job parameters."""

    tasks: int = 1
    waits: bool = False
    takes_minutes: int = 0


class Item(Contract):
    """Task parameters and result."""

    index: int
    waits: bool
    takes_minutes: int = 0


@task("timed_item")
def item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Wait until told to stop, where the job asks for it."""
    if parameters.waits:
        entered.set()
        while not context.cancelled:
            told.wait(0.01)
        told.set()
    move_clock(_apps[-1], 60 * parameters.takes_minutes)
    return parameters


@workflow("timed", registry=registry)
class TimedController(BaseController[Plan]):
    """Two stages; the second has its own time."""

    first = stage(1, "first", task=item)
    second = stage(2, "second", task=item, timeout_seconds=600)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Plan]) -> Iterator[Item]:
        """Plan as many tasks as are wanted."""
        asked = job.parameters
        yield from (Item(index=index, waits=asked.waits, takes_minutes=asked.takes_minutes) for index in range(asked.tasks))

    @second.plan
    def plan_second(self, job: JobExecutionContext[Plan]) -> Iterator[Item]:
        """Plan one task, after a pause that a test asks for."""
        app = _apps[-1]
        if job.parameters.tasks > 1:
            app.pause(job.job_id)
        yield Item(index=0, waits=False)


_apps: list[Stageflow] = []


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each store, migrated and empty."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    entered.clear()
    told.clear()
    with Stageflow(url, registry=registry) as app:
        app.migrate()
        _apps[:] = [app]
        yield app


def test_maintenance_fails_a_late_job_and_says_what_was_unfinished(app: Stageflow) -> None:
    """The error names the deadline and the stages; the job stays failed, and nothing of it starts any more."""
    deadline = app.repositories.store.now() + timedelta(minutes=1)
    job_id = app.submit(TimedController, Plan(), deadline=deadline).job.job_id
    assert app.maintain().overdue == 0
    assert "must end by" in app.explain(job_id).text
    move_clock(app, 61)
    assert app.maintain().overdue == 1
    assert app.maintain().overdue == 0
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert f"by its deadline, {deadline:%Y-%m-%d %H:%M:%S} UTC" in (job.error_details or "")
    assert "unfinished: stage 1 (first) pending; stage 2 not begun" in (job.error_details or "")
    assert drain_work(app) == 0
    assert "deadline" in app.explain(job_id).text


def test_a_job_that_is_late_when_a_worker_comes_does_not_begin(app: Stageflow) -> None:
    """Before any round of recovery: its planner is not called, no task is planned, and it fails as late."""
    deadline = app.repositories.store.now() + timedelta(minutes=1)
    job_id = app.submit(TimedController, Plan(), deadline=deadline).job.job_id
    move_clock(app, 61)
    drain_work(app)
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert "had not ended by its deadline" in (job.error_details or "")
    assert [stage.task_count for stage in app.repositories.stages.list_stages(job_id, 1)] == [0]


def test_a_job_that_becomes_late_in_a_stage_does_not_go_on(app: Stageflow) -> None:
    """What its last task returned is kept; the stage does not advance."""
    deadline = app.repositories.store.now() + timedelta(minutes=1)
    job_id = app.submit(TimedController, Plan(takes_minutes=2), deadline=deadline).job.job_id
    drain_work(app)
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert "stage 1 (first) processing, 0 of 1 tasks without a result; stage 2 not begun" in (job.error_details or "")
    assert [task.status for task in app.repositories.tasks.list_tasks_for_job(job_id, 1)] == [TaskStatus.COMPLETED]


def test_a_late_job_runs_again_with_a_new_deadline(app: Stageflow) -> None:
    """A resubmission of a late job is not late: the old deadline is gone, and a new one may be given."""
    deadline = app.repositories.store.now() + timedelta(minutes=1)
    job_id = app.submit(TimedController, Plan(), deadline=deadline).job.job_id
    move_clock(app, 61)
    app.maintain()
    app.resubmit(job_id, deadline=deadline + timedelta(hours=1))
    assert app.job(job_id).deadline == deadline + timedelta(hours=1)
    assert app.maintain().overdue == 0
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED


def test_a_repaired_job_is_not_late_by_its_former_deadline(app: Stageflow) -> None:
    """A repair begins a run without a deadline."""
    deadline = app.repositories.store.now() + timedelta(minutes=1)
    job_id = app.submit(TimedController, Plan(), deadline=deadline).job.job_id
    drain_work(app)
    move_clock(app, 61)
    app.repair(job_id, 1, tasks=[0])
    assert app.maintain().overdue == 0
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED


def test_a_worker_enforces_deadlines_and_tells_running_handlers(app: Stageflow) -> None:
    """The resident recoverer ends the job; the handler that runs is told, its result is recorded, and nothing advances."""
    job_id = app.submit(TimedController, Plan(waits=True), timeout_seconds=0.3).job.job_id
    options = WorkerOptions(slots=1, lease_seconds=2, beat_seconds=0.1, recover_seconds=0.1, poll_seconds=0.05)
    with app.worker(options):
        assert app.wait(job_id, timeout=30).status is JobStatus.FAILED
        assert entered.is_set()
        assert told.wait(30)
    assert "1 of 1 tasks without a result" in (app.job(job_id).error_details or "")
    tasks = app.repositories.tasks.list_tasks_for_job(job_id, 1, 0, 10)
    assert [each.status for each in tasks] == [TaskStatus.COMPLETED]
    assert drain_work(app) == 0


def test_a_stage_has_a_time_of_its_own(app: Stageflow) -> None:
    """Its time begins with its planning, a pause does not stop it, and when it is over the job fails and names the stage."""
    job_id = app.submit(TimedController, Plan(tasks=2)).job.job_id
    drain_work(app)
    assert app.job(job_id).status is JobStatus.PAUSED
    assert "stage 2 (second) must end by" in app.explain(job_id).text
    move_clock(app, 599)
    assert app.maintain().overdue == 0
    move_clock(app, 2)
    assert app.maintain().overdue == 1
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert "by the deadline of stage 2" in (job.error_details or "")


def test_impossible_deadlines_are_refused(app: Stageflow) -> None:
    """What could never be kept is refused with the argument's name, and nothing is submitted."""
    now = app.repositories.store.now()
    with pytest.raises(InvalidValueError, match="the deadline is not after not_before"):
        app.submit(TimedController, Plan(), deadline=now, not_before=now)
    with pytest.raises(InvalidValueError, match="timeout_seconds"):
        app.submit(TimedController, Plan(), timeout_seconds=0)
    with pytest.raises(WorkflowDefinitionError, match="timeout_seconds"):
        stage(1, "never", task=item, timeout_seconds=-1)
    assert app.repositories.jobs.list_jobs(limit=10) == []


def test_the_command_line_gives_and_tells_deadlines(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """``submit`` takes both, ``status`` shows the deadline of an open job, and ``resubmit`` replaces it."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)
    named = ["--app", f"{__name__}:cli_app"]
    arguments = ["submit", "timed", "--timeout", "90", "--deadline", "2040-01-02 03:04:05", "--json", *named]
    submitted = CliRunner().invoke(main, arguments)
    assert submitted.exit_code == 0, submitted.output
    job_id = json.loads(submitted.output)["job"]["job_id"]
    assert app.job(job_id).timeout_seconds == 90
    shown = CliRunner().invoke(main, ["status", job_id, *named])
    assert "must end by 2040-01-02 03:04:05 UTC" in shown.output
    app.cancel(job_id)
    again = CliRunner().invoke(main, ["resubmit", job_id, "--timeout", "9", *named])
    assert again.exit_code == 0, again.output
    assert (app.job(job_id).deadline, app.job(job_id).timeout_seconds) == (None, 9)
