"""Rows that were altered by hand, and results that cannot be stored: the task or the job fails, with the reason."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobQueueMessage,
    JobRegistry,
    JobStatus,
    PayloadOptions,
    Stageflow,
    StageResults,
    StageResultsInvalidError,
    TaskExecutionContext,
    TaskQueueMessage,
    UnknownWorkflowError,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.cli import main
from stageflow.errors import MalformedRowError
from stageflow.repositories import Repositories
from stageflow.testing.drain import drain_work

registry = JobRegistry()


class Sizes(Contract):
    """Job parameters."""

    size: int


class Text(Contract):
    """Task result."""

    text: str


@task("text")
def make_text(parameters: Sizes, context: TaskExecutionContext) -> Text:  # noqa: ARG001  the shape of a handler
    """Return so much text."""
    return Text(text="x" * parameters.size)


@workflow("texts", registry=registry)
class TextController(BaseController[Sizes]):
    """One stage of one task."""

    texts = stage(1, "texts", task=make_text)

    @texts.plan
    def plan_texts(self, job: JobExecutionContext[Sizes]) -> Iterator[Sizes]:
        """Pass the parameters on."""
        yield job.parameters


@workflow("copied_texts", registry=registry)
class CopyController(BaseController[Sizes]):
    """Two stages of one task."""

    texts = stage(1, "texts", task=make_text)
    copies = stage(2, "copies", task=make_text, after=texts)

    @texts.plan
    def plan_texts(self, job: JobExecutionContext[Sizes]) -> Iterator[Sizes]:
        """Pass the parameters on."""
        yield job.parameters

    @copies.plan
    def plan_copies(self, job: JobExecutionContext[Sizes], texts: StageResults[Text]) -> Iterator[Sizes]:
        """One task for each text."""
        for text in texts:
            yield Sizes(size=min(len(text.text), job.parameters.size))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a database file."""
    return tmp_path / "jobs.db"


@pytest.fixture
def app(path: Path) -> Iterator[Stageflow]:
    """Give an app on that file, without a worker."""
    with Stageflow(f"sqlite:{path}", registry=registry, payloads=PayloadOptions(max_bytes=1_048_576)) as made:
        yield made


def alter(path: Path, statement: str) -> None:
    """Change rows past the store."""
    connection = sqlite3.connect(path, isolation_level=None)
    assert connection.execute(statement).rowcount == 1
    connection.close()


def test_a_result_that_is_too_large_fails_its_task(app: Stageflow) -> None:
    """At once, without a retry, and the error says what to do instead."""
    job_id = app.submit(TextController, Sizes(size=1_048_577)).job.job_id
    drain_work(app)
    failed = app.repositories.tasks.list_tasks_for_job(job_id, 1)[0]
    assert (failed.status, failed.attempt) == ("failed", 1)
    assert "write it to a blob" in str(failed.error_details)
    assert app.job(job_id).status is JobStatus.FAILED


def test_altered_task_parameters_fail_the_task(app: Stageflow, path: Path) -> None:
    """What no longer validates is never handed to a handler."""
    job_id = app.submit(TextController, Sizes(size=1)).job.job_id
    hint = JobQueueMessage(job_id=job_id, job_type="texts", stage_number=1)
    registry.find(TextController).controller.process_job_queue_message(hint)
    alter(path, """update stageflow_tasks set parameters = '{"size":"1"}'""")
    drain_work(app)
    failed = app.repositories.tasks.list_tasks_for_job(job_id, 1)[0]
    assert (failed.status, failed.attempt) == ("failed", 1)
    assert "are no Sizes" in str(failed.error_details)


@pytest.mark.parametrize("planned", [False, True])
def test_altered_job_parameters_fail_the_job(app: Stageflow, path: Path, planned: bool) -> None:  # noqa: FBT001  a case
    """Before its planning, or before its closing."""
    job_id = app.submit(TextController, Sizes(size=1)).job.job_id
    if planned:
        hint = JobQueueMessage(job_id=job_id, job_type="texts", stage_number=1)
        registry.find(TextController).controller.process_job_queue_message(hint)
    alter(path, """update stageflow_jobs set parameters = '{"size":"1"}'""")
    drain_work(app)
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert "stored parameters of the job are no Sizes" in str(job.error_details)


def test_a_malformed_stage_result_is_told_from_a_missing_one(app: Stageflow, path: Path) -> None:
    """Who asks for a damaged result learns which field is wrong, and that it is a ValueError, not a KeyError."""
    job_id = app.submit(TextController, Sizes(size=1)).job.job_id
    drain_work(app)
    job = app.job(job_id)
    controller = registry.find(TextController).controller
    assert controller._validate_and_get_stage_results(job, 1) == job.stage_results["1"]  # noqa: SLF001  asked for by this name
    alter(path, """update stageflow_stages set stored_result = replace(stored_result, '"task_count":1', '"task_count":"1"')""")
    with pytest.raises(StageResultsInvalidError, match="task_count") as caught:
        controller._validate_and_get_stage_results(job, 1)  # noqa: SLF001  likewise
    assert isinstance(caught.value, ValueError)
    assert not isinstance(caught.value, KeyError)


def test_an_earlier_stage_result_that_was_altered_fails_the_job_at_the_next_closing(app: Stageflow, path: Path) -> None:
    """A job goes on from results that validate or not at all, also where the damage comes after the planning."""
    job_id = app.submit(CopyController, Sizes(size=1)).job.job_id
    controller = registry.find(CopyController).controller
    controller.process_job_queue_message(JobQueueMessage(job_id=job_id, job_type="copied_texts", stage_number=1))
    first = TaskQueueMessage(job_id=job_id, job_type="copied_texts", task_type="text", stage_number=1, first=0, last=1)
    assert controller.process_task_queue_message(first).stages_planned == [2]
    alter(path, """update stageflow_stages set stored_result = '{"task_count":"1"}' where stage_number = 1""")
    drain_work(app)
    with pytest.raises(StageResultsInvalidError, match="stage 1"):
        app.job(job_id)
    connection = sqlite3.connect(path)
    status, error = connection.execute("select status, error_details from stageflow_jobs").fetchone()
    connection.close()
    assert status == "failed"
    assert "Cannot close stage 2 - stage results invalid: " in error
    assert "the stored result of stage 1 is invalid at stage_number" in error


def damage_one_of_two(repositories: Repositories, alter_rows: Callable[[str], None], table: str) -> tuple[str, str]:
    """Create two jobs and make the parameters of the first no object; return their ids, the damaged one first."""
    with_parameters = [Sizes(size=size) for size in (1, 2)]
    damaged, whole = [repositories.jobs.create_job_from_params("texts", each, 1).job_id for each in with_parameters]
    alter_rows(f"update {table} set parameters = '[1]', metadata = 'x' where job_id = '{damaged}'")  # noqa: S608  a test's own
    return damaged, whole


@pytest.fixture(params=["sqlite", "postgres"])
def damaged_pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """Give the address of a store with a damaged and a whole job, and their ids."""
    if request.param == "sqlite":
        url, table = f"sqlite:{tmp_path / 'pair.db'}", "stageflow_jobs"
        alter_rows: Callable[[str], None] = partial(alter, tmp_path / "pair.db")
    else:
        url, table = request.getfixturevalue("migrated_dsn"), "stageflow.jobs"

        def alter_rows(statement: str) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(statement.encode())

    with Stageflow(url, registry=registry) as made:
        made.migrate()
        yield url, *damage_one_of_two(made.repositories, alter_rows, table)


def test_a_damaged_job_hides_no_other_and_is_named(damaged_pair: tuple[str, str, str]) -> None:
    """The list shows both; what cannot be read is empty and named, and whoever works from the job is refused."""
    url, damaged, whole = damaged_pair
    with Stageflow(url, registry=registry) as app:
        listed = {job.job_id: job for job in app.repositories.jobs.list_jobs()}
        assert (listed[whole].parameters, listed[whole].damage) == ({"size": 2}, None)
        assert listed[damaged].parameters == {}
        assert re.match("parameters is no JSON object: .*; metadata is no JSON object: ", str(listed[damaged].damage))
        with pytest.raises(MalformedRowError, match="stageflow cancel"):
            app.job(damaged)
    shown = CliRunner().invoke(main, ["jobs", "--store", url])
    assert (shown.exit_code, shown.output.count("texts")) == (0, 2)
    assert f"job {damaged[:16]} is damaged: parameters is no JSON object" in shown.output


def test_a_damaged_job_is_cancelled(damaged_pair: tuple[str, str, str]) -> None:
    """Ending a job needs nothing of what it holds."""
    url, damaged, _ = damaged_pair
    cancelled = CliRunner().invoke(main, ["cancel", damaged[:12], "--store", url])
    assert (cancelled.exit_code, f"{damaged} cancelled" in cancelled.output) == (0, True)
    assert "the job is damaged" in cancelled.output
    assert CliRunner().invoke(main, ["jobs", "--status", "cancelled", "--store", url]).output.count("texts") == 1


def test_a_job_with_a_malformed_stage_result_is_paused(app: Stageflow, path: Path) -> None:
    """A status is changed whatever the stages left, and the answer names what it could not read."""
    job_id = app.submit(CopyController, Sizes(size=1)).job.job_id
    controller = registry.find(CopyController).controller
    controller.process_job_queue_message(JobQueueMessage(job_id=job_id, job_type="copied_texts", stage_number=1))
    first = TaskQueueMessage(job_id=job_id, job_type="copied_texts", task_type="text", stage_number=1, first=0, last=1)
    controller.process_task_queue_message(first)
    alter(path, """update stageflow_stages set stored_result = '{"task_count":"1"}' where stage_number = 1""")
    paused = app.repositories.jobs.update_job_status_with_validation(job_id, JobStatus.PAUSED)
    assert (paused.status, paused.stage_results) == (JobStatus.PAUSED, {})
    assert "stage 1" in str(paused.damage)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty store of each kind."""
    dsn: str = f"sqlite:{tmp_path / 'rows.db'}" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    return dsn


@pytest.fixture
def hand(url: str) -> Callable[[str], None]:
    """Give a hand that alters one row past the store, in the SQL of PostgreSQL."""

    def alter_either(statement: str) -> None:
        if url.startswith("sqlite:"):
            alter(Path(url.removeprefix("sqlite:")), statement.replace("stageflow.", "stageflow_"))
        else:
            with psycopg.connect(url) as connection:
                assert connection.execute(statement.encode()).rowcount == 1

    return alter_either


EVER = {"sqlite": "-9223372036854775807", "postgresql": "'-infinity'"}
NEVER = {"sqlite": "9223372036854775807", "postgresql": "'infinity'"}


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("update stageflow.jobs set parameters = '{'", "parameters is no JSON object"),
        ("update stageflow.jobs set metadata = '[1]'", "metadata is no JSON object"),
        ("update stageflow.jobs set created_at = NEVER", "created_at cannot be read"),
        ("update stageflow.stages set created_at = NEVER", "malformed at created_at"),
    ],
)
def test_a_job_that_cannot_be_read_fails_with_the_true_reason(
    url: str, hand: Callable[[str], None], statement: str, named: str, *, planned: bool
) -> None:
    """At its planning or its closing, at once, and not as if it had killed its workers; workers go on with others."""
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        job_id = made.submit(TextController, Sizes(size=1)).job.job_id
        if planned:
            hint = JobQueueMessage(job_id=job_id, job_type="texts", stage_number=1)
            registry.find(TextController).controller.process_job_queue_message(hint)
        hand(statement.replace("NEVER", NEVER[made.repositories.store.url.partition(":")[0]]))
        other = made.submit(TextController, Sizes(size=2)).job.job_id
        with made.worker(WorkerOptions(slots=1, poll_seconds=0.05)):
            assert made.wait(other, timeout=30).status is JobStatus.COMPLETED
            assert made.telemetry.wait_for("job_failed", timeout_seconds=30)
        assert made.telemetry.counts["slot_failed"] == 0
    (error,) = errors_of(url, job_id)
    assert named in error
    assert error.startswith(("Closing" if planned else "Planning") + " stage 1 failed: ")


def errors_of(url: str, job_id: str) -> list[str]:
    """Return the errors of a job if it failed, past the store."""
    where = f"where status = 'failed' and job_id = '{job_id}'"
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:"))) as file:
            return [str(error) for (error,) in file.execute(f"select error_details from stageflow_jobs {where}")]  # noqa: S608  a test's own
    with psycopg.connect(url) as connection:
        return [str(error) for (error,) in connection.execute(f"select error_details from stageflow.jobs {where}".encode())]  # noqa: S608  likewise


def test_what_stops_a_slot_names_the_job(url: str, hand: Callable[[str], None]) -> None:
    """Where the job cannot be failed either, the event says whose work it was."""
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        job_id = made.submit(TextController, Sizes(size=1)).job.job_id
        hand("update stageflow.jobs set workflow_version = 7")
        with pytest.raises(UnknownWorkflowError) as caught:
            drain_work(made)
        assert caught.value.__notes__ == [f"This was plan work of stage 1 of job {job_id}."]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("update stageflow.jobs set created_at = NEVER", "job {job_id}: created_at cannot be read"),
        ("update stageflow.jobs set updated_at = EVER", "job {job_id}: updated_at cannot be read"),
        ("update stageflow.stages set created_at = NEVER", "stage 1 of job {job_id} is malformed at created_at"),
        ("update stageflow.stages set task_type = 'no type'", "stage 1 of job {job_id} is malformed at task_type"),
    ],
)
def test_the_error_of_a_damaged_row_names_it_and_advises_what_helps(
    url: str, hand: Callable[[str], None], statement: str, named: str
) -> None:
    """Which row, which field, and the doctor; comparing the schema would find nothing wrong."""
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        job_id = made.submit(TextController, Sizes(size=1)).job.job_id
        kind = made.repositories.store.url.partition(":")[0]
        hand(statement.replace("NEVER", NEVER[kind]).replace("EVER", EVER[kind]))
        with pytest.raises(MalformedRowError) as caught:
            made.repositories.jobs.require_job_state(job_id)
    assert named.format(job_id=job_id) in str(caught.value)
    assert "`stageflow doctor` names what is wrong" in str(caught.value)
    assert "stageflow verify" not in str(caught.value)


def test_a_status_that_there_is_none_of_names_its_job(app: Stageflow, path: Path) -> None:
    """SQLite's check can be switched off; the error says which row it was."""
    job_id = app.submit(TextController, Sizes(size=1)).job.job_id
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("pragma ignore_check_constraints = on")
        file.execute("update stageflow_jobs set status = 'sleeping'")
    with pytest.raises(MalformedRowError, match=f"the row of job {job_id} is malformed: 'sleeping' is no JobStatus"):
        app.job(job_id)


def test_a_deadline_that_cannot_be_read_is_overdue_like_another(url: str, hand: Callable[[str], None]) -> None:
    """It hides no other that is late."""
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        job_id = made.submit(TextController, Sizes(size=1)).job.job_id
        hand(f"update stageflow.jobs set deadline = {EVER[made.repositories.store.url.partition(':')[0]]}")  # noqa: S608  a test's own
        (late,) = made.repositories.deadlines.list_overdue(10)
        assert (late.job_id, late.deadline.year) == (job_id, 1)
