"""People delete what ended long ago, on both stores, through the app and the command line."""

import json
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from click.testing import CliRunner, Result

from stageflow import (
    BaseController,
    Contract,
    ContractViolationError,
    InvalidTransitionError,
    InvalidValueError,
    JobExecutionContext,
    JobNotFoundError,
    JobRegistry,
    JobStatus,
    Stageflow,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.backends.postgres import PostgresStore
from stageflow.backends.sqlite import SqliteStore
from stageflow.cli import main
from stageflow.contracts.dead_letter import NewDeadLetter
from stageflow.contracts.retention import PurgeBatch
from stageflow.testing.conformance.builders import cancel, new_job, start
from stageflow.testing.conformance.looking import snapshot
from stageflow.testing.drain import drain_work

registry = JobRegistry()
MONTH = timedelta(days=30)


class Two(Contract):
    """Job and task parameters, and the results."""

    index: int


@task("kept_for_a_while")
def item(parameters: Two, context: TaskExecutionContext) -> Two:  # noqa: ARG001  a handler's shape
    """Return what came."""
    return parameters


@workflow("kept_for_a_while", registry=registry)
class KeptController(BaseController[Two]):
    """One stage of two tasks."""

    only = stage(1, "only", task=item)

    @only.plan
    def plan(self, job: JobExecutionContext[Two]) -> Iterator[Two]:  # noqa: ARG002  a planner's shape
        """Plan two tasks."""
        yield from (Two(index=index) for index in range(2))


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each store, migrated and empty."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=registry) as app:
        app.migrate()
        yield app


def let_pass(app: Stageflow, age: timedelta) -> None:
    """Move the store's clock."""
    store = app.repositories.store
    assert isinstance(store, PostgresStore | SqliteStore)
    store.move_clock(age.total_seconds())


def run_jobs(app: Stageflow, count: int) -> list[str]:
    """Run jobs to their end and return their ids."""
    ids = [app.submit(KeptController, Two(index=index)).job.job_id for index in range(count)]
    drain_work(app)
    return ids


def park_and_discard(app: Stageflow) -> int:
    """Park a message, and put it away."""
    new = NewDeadLetter(queue="q", message_id="m", body=b"not json", reason="not JSON", delivery_count=1)
    return app.discard(app.repositories.store.add_dead_letter(new).letter_id).letter_id


def test_a_purge_looks_before_it_deletes(app: Stageflow) -> None:
    """A dry run is the default; the purge then deletes exactly what it named, and the same request makes a new job."""
    (job_id,) = run_jobs(app, 1)
    letter_id = park_and_discard(app)
    let_pass(app, MONTH + timedelta(hours=1))
    waiting = app.submit(KeptController, Two(index=7)).job.job_id
    promised = app.purge(MONTH)
    assert (promised.jobs, promised.tasks, promised.letters, promised.kept) == (1, 2, 1, 0)
    assert (promised.dry_run, promised.complete) == (True, True)
    assert app.job(job_id).status is JobStatus.COMPLETED
    assert app.dead_letter(letter_id)
    done = app.purge(MONTH, dry_run=False)
    assert done == promised.model_copy(update={"dry_run": False, "before": done.before})
    with pytest.raises(JobNotFoundError):
        app.job(job_id)
    assert app.dead_letters(state=None) == []
    again = app.purge(MONTH, dry_run=False)
    assert (again.jobs, again.letters, again.size_bytes) == (0, 0, 0)
    drain_work(app)
    assert app.job(waiting).status is JobStatus.COMPLETED
    assert run_jobs(app, 1) == [job_id]
    assert app.job(job_id).status is JobStatus.COMPLETED
    assert app.verify().drifts == []


def test_a_status_narrows_a_purge(app: Stageflow) -> None:
    """Jobs that ended otherwise stay, and so do all dead letters."""
    completed, cancelled = run_jobs(app, 1)[0], app.submit(KeptController, Two(index=9)).job.job_id
    app.cancel(cancelled)
    letter_id = park_and_discard(app)
    let_pass(app, MONTH * 2)
    purged = app.purge(MONTH, status=JobStatus.CANCELLED, dry_run=False)
    assert (purged.jobs, purged.tasks, purged.letters) == (1, 0, 0)
    assert app.job(completed).status is JobStatus.COMPLETED
    assert app.dead_letter(letter_id)


def test_a_limit_ends_a_purge_that_another_continues(app: Stageflow) -> None:
    """The answer says that there may be more."""
    run_jobs(app, 3)
    let_pass(app, MONTH * 2)
    answers = [app.purge(MONTH, dry_run=False, limit=2) for _ in range(2)]
    assert [(answer.jobs, answer.complete) for answer in answers] == [(2, False), (1, True)]


@pytest.mark.parametrize("age", [timedelta(0), timedelta(seconds=-1), timedelta(days=40_000), timedelta.max], ids=str)
def test_an_absurd_age_is_refused(app: Stageflow, age: timedelta) -> None:
    """Nothing is deleted by a sign or a unit that was mistaken."""
    (job_id,) = run_jobs(app, 1)
    with pytest.raises(InvalidValueError, match="older_than must be longer than nothing and at most 100 years"):
        app.purge(age, dry_run=False)
    assert app.job(job_id)


def test_a_wrong_status_limit_or_type_is_refused(app: Stageflow) -> None:
    """What has not ended is never purged, whoever asks."""
    job_id = app.submit(KeptController, Two(index=1)).job.job_id
    let_pass(app, MONTH * 2)
    with pytest.raises(InvalidTransitionError, match="is queued has not ended and is never purged; purge one of: cancelled"):
        app.purge(MONTH, status=JobStatus.QUEUED, dry_run=False)
    with pytest.raises(InvalidValueError, match="limit must be 1 to 1,000,000, got 0"):
        app.purge(MONTH, limit=0)
    with pytest.raises(ContractViolationError, match="older_than"):
        app.purge(30)  # type: ignore[arg-type]  # what the test is about
    assert app.purge(MONTH, dry_run=False).jobs == 0
    assert app.job(job_id).status is JobStatus.QUEUED


def test_the_command_line_purges_only_when_told(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --yes it says what would go; with --json a program reads the same."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["purge", *arguments, "--app", f"{__name__}:cli_app"])

    (job_id,) = run_jobs(app, 1)
    let_pass(app, MONTH)
    told = call("--older-than", "1w", "--status", "completed")
    assert (told.exit_code, told.output.splitlines()[-1]) == (0, "nothing was deleted; add --yes to delete")
    assert "would delete 1 job with 2 tasks and 0 dead letters" in told.output
    assert app.job(job_id)
    document = json.loads(call("--older-than", "24h", "--yes", "--json").output)
    assert (document["jobs"], document["tasks"], document["dry_run"], document["complete"]) == (1, 2, False, True)
    assert "deleted 0 jobs" in call("--older-than", "30d", "--yes").output


@pytest.mark.parametrize("text", ["30", "-30d", "30 days", "3y", "1.5d", "d", "", "0d", "999999999999d", "99999w"])
def test_a_duration_that_is_none_is_a_usage_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what a duration looks like."""
    with Stageflow("sqlite::memory:", registry=registry) as app:
        monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)
        answer = CliRunner().invoke(main, ["purge", f"--older-than={text}", "--app", f"{__name__}:cli_app", "--yes"])
    assert answer.exit_code == 2
    assert "30d" in answer.output or "100 years" in answer.output


@pytest.mark.parametrize("table", ["jobs", "stages", "ranges"])
def test_a_purge_waits_for_nobody(postgres_dsn: str, table: str) -> None:
    """A job of which somebody holds a row is passed over whole, so a purge is no party to a deadlock."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    job = new_job()
    start(store, job, 2)
    cancel(store, job)
    before = snapshot(store, job)
    batch = PurgeBatch(
        status=JobStatus.CANCELLED,
        before=store.now() + timedelta(hours=1),
        after=None,
        limit=10,
        max_tasks=10,
        dry_run=False,
    )
    with psycopg.connect(postgres_dsn) as rival:
        rows = psycopg.sql.SQL("select 1 from {} for update").format(psycopg.sql.Identifier("stageflow", table))
        assert rival.execute(rows).fetchall()
        passed = store.purge_jobs(batch)
        assert (passed.jobs, passed.kept) == (0, 1)
        assert snapshot(store, job) == before
        rival.rollback()
    assert store.purge_jobs(batch).jobs == 1
    store.close()
