"""Limits and pauses of task types, through the app, the command line and workers, on both stores."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

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
    TaskTypeState,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.cli import main
from stageflow.contracts.lease import ClaimRequest, Lease
from stageflow.contracts.worker import WorkerRecord
from stageflow.insights import FindingKind
from stageflow.testing.drain import drain_work

registry = JobRegistry()
TYPE = "crawl/fetch"


class Pages(Contract):
    """Job parameters."""

    count: int


class Page(Contract):
    """Task parameters."""

    number: int


@task("fetch", max_running=2, max_per_second=1000)
def fetch(parameters: Page, context: TaskExecutionContext) -> None:
    """Do nothing; limits are what is looked at."""


@task("store")
def keep(parameters: Page, context: TaskExecutionContext) -> None:
    """Do nothing, without limits."""


@workflow("crawl", registry=registry)
class Crawl(BaseController[Pages]):
    """Two stages, the first of which calls something outside."""

    fetches = stage(1, "fetch", task=fetch)
    stores = stage(2, "store", task=keep)

    @fetches.plan
    def plan_fetches(self, job: JobExecutionContext[Pages]) -> Iterator[Page]:
        """One task a page."""
        for number in range(job.parameters.count):
            yield Page(number=number)

    @stores.plan
    def plan_stores(self, job: JobExecutionContext[Pages]) -> Iterator[Page]:
        """One task a page."""
        for number in range(job.parameters.count):
            yield Page(number=number)


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stageflow]:
    """Give an app on a store of each kind."""
    path = tmp_path_factory.mktemp("store") / "jobs.db"
    url = f"sqlite:{path}" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        yield made


def the_type(app: Stageflow) -> TaskTypeState:
    """Return the state of the type that is limited."""
    (state,) = [state for state in app.task_types() if state.task_type == "fetch"]
    return state


def plan(app: Stageflow, count: int, *, max_running: int | None = None) -> str:
    """Submit a job and plan its first stage, with a worker that runs nothing."""
    job_id = app.submit(Crawl, Pages(count=count), new_run=True, max_running=max_running).job.job_id
    app.pause_task_type("crawl", "fetch")
    drain_work(app)
    app.resume_task_type("crawl", "fetch")
    return job_id


def register(app: Stageflow) -> None:
    """Let a worker be seen that does nothing."""
    now = datetime.now(UTC)
    app.repositories.leases.register_worker(
        WorkerRecord(worker_id="ada", host="here", pid=1, slots=4, work_types=["crawl/1/fetch"], started_at=now, seen_at=now)
    )


def claim(app: Stageflow, count: int) -> list[Lease]:
    """Claim single tasks."""
    request = ClaimRequest(worker_id="ada", work_types=["crawl/1/fetch"], max_tasks=[1], max_leases=count, lease_seconds=30.0)
    return app.repositories.leases.claim_work(request).leases


def test_a_worker_declares_what_the_code_says_and_an_operator_overrides_it(app: Stageflow) -> None:
    """Declared limits hold from the start of a worker on; an operator's word holds until it is taken back."""
    with app.worker(WorkerOptions(slots=1)):
        state = the_type(app)
        assert (state.max_running, state.max_per_second, state.overridden) == (2, 1000.0, False)
        state = app.limit_task_type("crawl", "fetch", max_running=7)
        assert (state.max_running, state.max_per_second, state.overridden) == (7, None, True)
    with app.worker(WorkerOptions(slots=1)):
        assert the_type(app).max_running == 7
    state = app.reset_task_type("crawl", "fetch")
    assert (state.max_running, state.max_per_second, state.overridden) == (2, 1000.0, False)


def test_jobs_end_under_a_limit(app: Stageflow) -> None:
    """A worker with more slots than the limit does all the work."""
    with app.worker(WorkerOptions(slots=3)):
        job_id = app.submit(Crawl, Pages(count=30), max_running=1).job.job_id
        assert app.wait(job_id, timeout=60).status is JobStatus.COMPLETED


def test_a_paused_type_waits_and_goes_on(app: Stageflow) -> None:
    """Nothing of it starts while it is paused, and a worker that waits is woken by the resumption."""
    app.pause_task_type("crawl", "fetch")
    job_id = app.submit(Crawl, Pages(count=3)).job.job_id
    drain_work(app)
    assert app.progress(job_id).stages[0].remaining == 3
    state = the_type(app)
    assert (state.running, state.ready) == (0, 3)
    assert state.paused_since is not None
    with app.worker(WorkerOptions(slots=1, poll_seconds=600)):
        app.resume_task_type("crawl", "fetch")
        assert app.wait(job_id, timeout=60).status is JobStatus.COMPLETED


def test_what_is_out_of_range_or_unknown_is_refused(app: Stageflow) -> None:
    """A misspelt name would limit nothing, and zero is what a pause is for."""
    with pytest.raises(InvalidValueError, match="max_running: Input should be greater than or equal to 1"):
        app.limit_task_type("crawl", "fetch", max_running=0)
    with pytest.raises(InvalidValueError, match="max_per_second"):
        app.limit_task_type("crawl", "fetch", max_per_second=float("nan"))
    with pytest.raises(InvalidValueError, match="no task type 'crawl/fetsh' is registered or has work; nothing changed"):
        app.pause_task_type("crawl", "fetsh")
    with pytest.raises(InvalidValueError, match="max_running"):
        app.submit(Crawl, Pages(count=1), max_running=0)
    assert the_type(app) == TaskTypeState(job_type="crawl", task_type="fetch")


def test_a_pause_is_explained(app: Stageflow) -> None:
    """Since when, and how to end it."""
    job_id = plan(app, 3)
    app.pause_task_type("crawl", "fetch")
    (finding,) = [each for each in app.explain(job_id).findings if each.kind is FindingKind.TYPE_PAUSED]
    assert finding.text.startswith(f"3 tasks wait: the task type {TYPE} is paused since ")
    assert finding.advice == f"stageflow resume-type {TYPE}"
    assert finding.since == the_type(app).paused_since


def test_a_limit_that_is_reached_is_explained(app: Stageflow) -> None:
    """How many run, and in which jobs."""
    other, job_id = plan(app, 1), plan(app, 5)
    register(app)
    app.limit_task_type("crawl", "fetch", max_running=2)
    assert {lease.job_id for lease in claim(app, 9)} == {other, job_id}
    (finding,) = [each for each in app.explain(job_id).findings if each.kind is FindingKind.LIMIT_REACHED]
    assert finding.text == (
        f"4 tasks wait: the limit of the task type {TYPE} is reached, 2 of 2 run: 1 in this job, 1 in others"
    )


def test_the_limit_of_a_job_is_explained(app: Stageflow) -> None:
    """It is the job's own, whatever its type may do."""
    job_id = plan(app, 5, max_running=1)
    app.limit_task_type("crawl", "fetch")
    register(app)
    assert len(claim(app, 9)) == 1
    (finding,) = [each for each in app.explain(job_id).findings if each.kind is FindingKind.LIMIT_REACHED]
    assert finding.text == "4 tasks wait: the limit of the job is reached, 1 of 1 run"


def test_a_rate_is_explained(app: Stageflow) -> None:
    """When the next task may start."""
    job_id = plan(app, 5)
    app.limit_task_type("crawl", "fetch", max_per_second=0.01)
    register(app)
    assert len(claim(app, 9)) == 1
    (finding,) = [each for each in app.explain(job_id).findings if each.kind is FindingKind.RATE_LIMITED]
    assert finding.text.startswith(f"4 tasks wait: the task type {TYPE} may start 0.01 tasks a second; the next start is at ")


def test_the_command_line_limits_pauses_and_lists(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Python, for people and for programs."""
    plan(app, 3)
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)

    def call(*arguments: str) -> str:
        answer = CliRunner().invoke(main, [*arguments, "--app", f"{__name__}:cli_app"])
        assert answer.exit_code == 0, answer.output
        return answer.output

    assert call("limit", TYPE, "--max-running", "5", "--max-per-second", "2.5") == (
        f"{TYPE}: at most 5 running and at most 2.5 starts a second\n"
    )
    assert json.loads(call("limit", TYPE, "--none", "--json"))["max_running"] is None
    assert json.loads(call("limit", TYPE, "--reset", "--json"))["overridden"] is False
    assert f"{TYPE}: no limit, paused since " in call("pause-type", TYPE)
    (first, _) = json.loads(call("types", "--json"))
    assert (first["task_type"], first["ready"], first["running"]) == ("fetch", 3, 0)
    assert first["paused_since"] is not None
    assert TYPE in call("types")
    assert call("resume-type", TYPE) == f"{TYPE}: no limit\n"


@pytest.mark.parametrize("command", ["submit", "run"])
def test_the_command_line_limits_a_job(app: Stageflow, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """As in Python, it is stored with the job; out of range it is refused, and nothing is created."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)
    arguments = [command, "crawl", "--parameters", '{"count": 1}', "--app", f"{__name__}:cli_app"]
    answer = CliRunner().invoke(main, [*arguments, "--max-running", "0"])
    assert answer.exit_code == 2
    assert "0 is not in the range 1<=x<=1000" in answer.output
    assert app.repositories.jobs.list_jobs() == []
    answer = CliRunner().invoke(main, [*arguments, "--max-running", "3", "--json"])
    assert answer.exit_code == 0, answer.output
    (job,) = app.repositories.jobs.list_jobs()
    assert app.repositories.limits.get_job_limit(job.job_id) == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["limit", TYPE], "give --max-running or --max-per-second or both, or --none, or --reset"),
        (["limit", TYPE, "--none", "--reset"], "give --max-running"),
        (["limit", "fetch", "--none"], "'fetch' names no task type; write JOB_TYPE/TASK_TYPE"),
        (["limit", TYPE, "--max-running", "0"], "0 is not in the range x>=1"),
    ],
)
def test_wrong_usage_of_the_commands_is_named(arguments: list[str], complaint: str) -> None:
    """Nothing is guessed."""
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 2
    assert complaint in answer.output
