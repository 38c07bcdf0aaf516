"""Payloads that are too large for a row go to the blob store and come back, on both stores."""

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from click.testing import CliRunner, Result

from stageflow import (
    BaseController,
    Contract,
    InvalidValueError,
    JobExecutionContext,
    JobFailedError,
    JobRegistry,
    JobStatus,
    PayloadOptions,
    PayloadsUnreachableError,
    PayloadTooLargeError,
    PayloadUnreadableError,
    StageAggregate,
    StageExecutionContext,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.backends.files import FileBlobStore
from stageflow.cli import main
from stageflow.contracts.blob import BlobProperties
from stageflow.errors import BlobNotFoundError, BlobStoreUnreachableError
from stageflow.insights.diagnosis import AilmentKind
from stageflow.telemetry import Event
from stageflow.testing.drain import drain_work, move_clock

MIB: Final = 1024 * 1024
CONTAINER: Final = "stageflow-payloads"
registry = JobRegistry()


class Order(Contract):
    """How much text each part of the job is to have, and a text of its own."""

    tasks: int = 1
    planned: int = 1
    made: int = 1
    noted: int = 0
    text: str = ""


class Text(Contract):
    """Text."""

    text: str


class Answer(Contract):
    """What came of it."""

    lengths: list[int]
    text: str


@task("make_text")
def make_text(parameters: Text, context: TaskExecutionContext) -> Text:
    """Return as much text as the first word of the parameters says, which tells its task."""
    return Text(text=str(context.task_index) * int(parameters.text.split()[0]))


@task("pass_text", predecessor=Text)
def pass_text(parameters: Text, context: TaskExecutionContext) -> Text:
    """Return the parameters, if they are what the task before returned."""
    assert context.predecessor() == parameters
    return parameters


@workflow("large", registry=registry)
class LargeController(BaseController[Order]):
    """Plans large tasks, which return large texts, which the next stage is planned from."""

    made = stage(1, "made", task=make_text)
    passed = stage(2, "passed", task=pass_text, after=made)

    @made.plan
    def plan_made(self, job: JobExecutionContext[Order]) -> Iterator[Text]:
        """Plan tasks one by one."""
        for _ in range(job.parameters.tasks):
            yield Text(text=f"{job.parameters.made} {'p' * job.parameters.planned}")

    @passed.plan
    def plan_passed(self, job: JobExecutionContext[Order], results: StageResults[Text]) -> Iterator[Text]:  # noqa: ARG002  a planner's shape
        """Plan one task for each result."""
        yield from results

    def aggregate_stage_results(
        self, job: JobExecutionContext[Order], stage: StageExecutionContext, results: StageResults[Any]
    ) -> StageAggregate:
        """Note as much as the job says, and how long the results were that the contract holds."""
        lengths = [len(str(each.result_data["text"])) for each in stage.result.task_results if each.result_data is not None]
        assert lengths == [len(each.text) for each in results]
        return StageAggregate(metadata={"note": "n" * job.parameters.noted})

    def aggregate_job_results(self, job: JobExecutionContext[Order], stage_results: dict[int, StageResults[Any]]) -> Answer:
        """Return all text there is."""
        assert all(len(str(job.get_stage_result(number).metadata["note"])) == job.parameters.noted for number in (1, 2))
        texts = [each.text for each in stage_results[2]]
        return Answer(lengths=[len(text) for text in texts], text="".join(texts))


@workflow("plain", registry=registry)
class PlainController(BaseController[Order]):
    """Looks at results in the planner of the second stage only."""

    made = stage(1, "made", task=make_text)
    passed = stage(2, "passed", task=make_text, after=made)

    @made.plan
    def plan_made(self, job: JobExecutionContext[Order]) -> Iterator[Text]:
        """Plan one task."""
        yield Text(text=f"{job.parameters.made} x")

    @passed.plan
    def plan_passed(self, job: JobExecutionContext[Order], results: StageResults[Text]) -> Iterator[Text]:  # noqa: ARG002  a planner's shape
        """Plan one task for each result, for its length."""
        for result in results:
            yield Text(text=f"1 {len(result.text)}")


class FailingBlobs(FileBlobStore):
    """A folder whose writes or reads fail as long as they should."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.failing_writes = 0
        self.failing_reads = 0
        self.losing = False
        self.writes = 0
        self.fail_at = -1

    def write(self, container: str, name: str, content: bytes, *, content_type: str = "x/y") -> BlobProperties:
        """Write, or fail."""
        if self.failing_writes:
            self.failing_writes -= 1
            msg = "the disk is away"
            raise BlobStoreUnreachableError(msg)
        self.writes += 1
        if self.writes == self.fail_at:
            msg = "the disk is away"
            raise BlobStoreUnreachableError(msg)
        return super().write(container, name, content, content_type=content_type)

    def read_chunks(self, container: str, name: str, *, chunk_bytes: int = 4 * MIB) -> Iterator[bytes]:
        """Read, or fail."""
        if self.failing_reads:
            self.failing_reads -= 1
            msg = "the disk is away"
            raise BlobStoreUnreachableError(msg)
        if self.losing:
            msg = "there is no such blob"
            raise BlobNotFoundError(msg)
        return super().read_chunks(container, name, chunk_bytes=chunk_bytes)


@dataclass
class Place:
    """A store and its blobs."""

    url: str
    folder: Path
    apps: list[Stageflow] = field(default_factory=list)

    @property
    def blobs(self) -> FailingBlobs:
        """The blob store, seen past the app."""
        return FailingBlobs(self.folder)

    def app(self, blobs: FailingBlobs | None = None, **options: Any) -> Stageflow:
        """Open an app on it."""
        app = Stageflow(
            self.url, registry=registry, blobs=self.blobs if blobs is None else blobs, payloads=PayloadOptions(**options)
        )
        app.migrate()
        self.apps.append(app)
        return app

    def names(self) -> list[str]:
        """Return the names of all payload blobs."""
        if not (self.folder / CONTAINER).exists():
            return []
        return [blob.name for blob in self.blobs.list_blobs(CONTAINER)]

    def longest(self, table: str, column: str) -> int:
        """Return the length of the longest text in a column."""
        if self.url.startswith("sqlite:"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:"))) as connection:
                statement = f"select max(length({column})) from stageflow_{table}"  # noqa: S608  our own names
                return int(connection.execute(statement).fetchone()[0])
        with psycopg.connect(self.url) as connection:
            statement = f"select max(length({column})) from stageflow.{table}"  # noqa: S608  our own names
            row = connection.execute(statement.encode()).fetchone()
            assert row is not None
            return int(row[0])


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a store of each kind, with a folder for blobs."""
    url = f"sqlite:{tmp_path / 'jobs.db'}" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    place = Place(url, tmp_path / "blobs")
    yield place
    for app in place.apps:
        app.close()


def run(app: Stageflow, order: Order) -> str:
    """Run a job to its end, and return its id."""
    job_id = app.submit(LargeController, order).job.job_id
    drain_work(app, timeout=120)
    return job_id


def test_a_large_result_flows_through_all_stages(place: Place) -> None:
    """3 MiB go from a handler to the next planner, to its handler, to the aggregate and to the answer; no row holds them."""
    app = place.app()
    job_id = run(app, Order(tasks=2, made=3 * MIB))
    answer = app.result(job_id, timeout=0)
    assert isinstance(answer, Answer)
    assert answer.lengths == [3 * MIB, 3 * MIB]
    assert answer.text == "0" * 3 * MIB + "1" * 3 * MIB
    job = app.job(job_id)
    assert job.result_data == answer.model_dump()
    assert job.shelved == {}
    assert [len(str(each.result_data)) for each in job.stage_results["1"].task_results] == [3 * MIB + 12] * 2
    assert app.wait(job_id, timeout=0).result_data == job.result_data
    assert place.longest("jobs", "result_data") < 300
    assert place.longest("results", "result") < 300
    assert place.longest("tasks", "parameters") < 300
    assert all(name.startswith(f"{job_id}/") for name in place.names())


def test_large_parameters_of_a_job_come_back(place: Place) -> None:
    """2 MiB of parameters are the planner's, the same request finds the same job, and the record has them whole."""
    app = place.app()
    order = Order(text="ü" * MIB)
    first = app.submit(LargeController, order)
    assert first.job.parameters == order.model_dump()
    assert len(place.names()) == 1
    assert app.submit(LargeController, order).job == app.job(first.job.job_id)
    drain_work(app)
    job = app.job(first.job.job_id)
    assert (job.status, job.parameters) == (JobStatus.COMPLETED, order.model_dump())
    assert place.longest("jobs", "parameters") < 300


def test_a_planner_yields_tasks_with_large_parameters(place: Place) -> None:
    """Each goes to a blob of its own content, so that equal ones share it; lists show a preview, one task the value."""
    app = place.app()
    job_id = run(app, Order(tasks=5, planned=2 * MIB))
    assert len(place.names()) == 1
    (listed, *_) = app.repositories.tasks.list_tasks_for_job(job_id, 1)
    assert listed.parameters == {"stageflow-payload": f"2.0 MiB in the blob store, {place.names()[0]}"}
    task_record = app.repositories.tasks.require_task(listed.task_id)
    assert task_record.parameters == {"text": "1 " + "p" * 2 * MIB}
    assert place.longest("tasks", "parameters") < 300


def test_a_large_stage_result_is_read_by_what_follows(place: Place) -> None:
    """Metadata of 9 MiB reaches the hooks of later stages and the job's record."""
    app = place.app()
    job_id = run(app, Order(noted=9 * MIB))
    job = app.job(job_id)
    assert job.status is JobStatus.COMPLETED, job.error_details
    assert [len(str(job.stage_results[key].metadata["note"])) for key in ("1", "2")] == [9 * MIB] * 2
    assert place.longest("stages", "stored_result") < 300


def test_what_fits_into_a_row_stays_there(place: Place) -> None:
    """A job of small payloads writes no blob at all."""
    app = place.app()
    job_id = run(app, Order(made=500_000, text="x" * 500_000))
    assert app.job(job_id).status is JobStatus.COMPLETED
    assert place.names() == []


def tamper_length(path: Path) -> None:
    """Cut the last byte off."""
    path.write_bytes(path.read_bytes()[:-1])


def tamper_content(path: Path) -> None:
    """Change the first letter of the text."""
    path.write_bytes(path.read_bytes().replace(b"p", b"q", 1))


@pytest.mark.parametrize("damage", [tamper_length, tamper_content, Path.unlink], ids=["shorter", "other", "missing"])
def test_a_damaged_payload_of_a_task_fails_it_at_once(place: Place, damage: Callable[[Path], object]) -> None:
    """The error names the payload, what is wrong and what to do; there is no second attempt."""
    app = place.app()
    job_id = app.submit(LargeController, Order(planned=2 * MIB)).job.job_id
    drain_planning(app)
    (name,) = place.names()
    damage(place.folder / CONTAINER / name)
    drain_work(app)
    (failed,) = app.repositories.tasks.list_tasks_for_job(job_id, 1)
    assert (failed.status, failed.attempt) == ("failed", 1)
    assert "PayloadUnreadableError: the parameters of a task 'make_text'" in str(failed.error_details)
    assert name in str(failed.error_details)
    with pytest.raises(JobFailedError, match="make_text"):
        app.result(job_id, timeout=0)


def drain_planning(app: Stageflow) -> None:
    """Plan the first stage, and run nothing."""
    workflow = registry.find(LargeController)
    (job,) = app.repositories.jobs.list_jobs()
    assert workflow.controller.process_job_stage(job, 1).stages_planned == [1]


def test_a_lost_result_fails_the_job_that_needs_it(place: Place) -> None:
    """Its stage cannot be closed: the job fails and says so, and completes when the blob is back and it is resubmitted."""
    blobs = place.blobs
    app = place.app(blobs)
    job_id = app.submit(LargeController, Order(made=2 * MIB)).job.job_id
    blobs.losing = True
    drain_work(app)
    state = app.job(job_id)
    assert state.status is JobStatus.FAILED
    assert f"result_data of task {job_id}-1-0 is not in the blob store" in str(state.error_details)
    blobs.losing = False
    app.resubmit(job_id)
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED
    blobs.losing = True
    with pytest.raises(PayloadUnreadableError, match="restore the blob and resubmit"):
        app.job(job_id)


def test_a_planner_that_reads_a_lost_result_fails_the_job(place: Place) -> None:
    """The error reaches the job through the planner; resubmitted from that stage, the job completes when the blob is back."""
    blobs = place.blobs
    app = place.app(blobs)
    job_id = app.submit(PlainController, Order(made=2 * MIB)).job.job_id
    blobs.losing = True
    drain_work(app)
    job = app.wait(job_id, timeout=0)
    assert job.status is JobStatus.FAILED
    assert "PayloadUnreadableError: stored result of task 0 of stage 1" in str(job.error_details)
    assert f"result_data of task {job_id}-1-0 is not in the blob store" in str(job.damage)
    blobs.losing = False
    app.resubmit(job_id, from_stage=2)
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED


def test_a_planner_that_cannot_reach_a_result_waits(place: Place) -> None:
    """As often as it takes, beyond its planning retry: the blob store is nothing that a planner can help (F16)."""
    blobs = place.blobs
    app = place.app(blobs, patience_seconds=0.0)
    job_id = app.submit(PlainController, Order(made=2 * MIB)).job.job_id
    blobs.failing_reads = 5
    drain_work(app)
    assert app.telemetry.counts["payloads_unreachable"] == 5
    assert app.job(job_id).status is JobStatus.COMPLETED


@pytest.mark.parametrize("damage", [tamper_length, Path.unlink], ids=["altered", "missing"])
def test_a_job_whose_parameters_cannot_be_read_says_how_it_is(place: Place, damage: Callable[[Path], object]) -> None:
    """Its planner cannot even be asked: the job fails, and whoever asks about it learns that, before and after."""
    app = place.app()
    lost, cancelled = (app.submit(LargeController, Order(text=letter * 2 * MIB)).job.job_id for letter in "ab")
    for name in place.names():
        damage(place.folder / CONTAINER / name)
    waiting = app.job(lost)
    assert (waiting.status, list(waiting.parameters)) == (JobStatus.QUEUED, ["stageflow-payload"])
    assert f"parameters of job {lost}" in str(waiting.damage)
    job = app.cancel(cancelled)
    assert job.status is JobStatus.CANCELLED
    assert f"parameters of job {cancelled}" in str(job.damage)
    drain_work(app)
    failed, ended = app.job(lost), app.wait(lost, timeout=0)
    assert failed.status is ended.status is JobStatus.FAILED
    assert "Planning stage 1 failed: the parameters of the job " in str(failed.error_details)
    assert ended.error_details == failed.error_details
    assert failed.damage == ended.damage == waiting.damage
    with pytest.raises(JobFailedError, match="the parameters of the job"):
        app.result(lost, timeout=0)
    assert {each.status for each in app.repositories.jobs.list_jobs()} == {JobStatus.FAILED, JobStatus.CANCELLED}
    shown = CliRunner().invoke(main, ["status", lost, "--store", place.url, "--blobs", f"file:{place.folder}"])
    assert (shown.exit_code, "failed" in shown.stdout) == (1, True)
    assert "the parameters of the job" in shown.stdout
    assert f"the job is damaged: {failed.damage}" in shown.stderr


def test_a_cancelled_job_shows_what_is_left_of_its_results(place: Place) -> None:
    """A result of a task or a stage that was lost is named and left out, or a preview; what can be read is read."""
    app = place.app()
    job_id = app.submit(LargeController, Order(tasks=2, made=2 * MIB, noted=2 * MIB)).job.job_id

    def cancel(event: Event) -> None:
        if event.name == "stage_advanced":
            app.cancel(job_id)

    with app.telemetry.listening(cancel):
        drain_work(app)
    whole = app.job(job_id)
    assert (whole.status, whole.damage, list(whole.stage_results)) == (JobStatus.CANCELLED, None, ["1"])
    texts = [str(each.result_data) for each in whole.stage_results["1"].task_results]
    for name in place.names():
        path = place.folder / CONTAINER / name
        content = path.read_bytes()
        path.unlink()
        seen = app.wait(job_id, timeout=0)
        assert (seen.status, name in str(seen.damage)) == (JobStatus.CANCELLED, True)
        if seen.stage_results:
            shown = [str(each.result_data) for each in seen.stage_results["1"].task_results]
            assert sum(one != other for one, other in zip(shown, texts, strict=True)) == 1
            assert "in the blob store" in " ".join(shown)
        path.write_bytes(content)
    assert app.job(job_id) == whole


def test_a_blob_store_that_is_away_while_a_result_is_written_costs_nothing(place: Place) -> None:
    """The worker keeps the result and writes it when the store answers again: one attempt, one call of the handler (F16)."""
    blobs = place.blobs
    app = place.app(blobs)
    job_id = app.submit(LargeController, Order(made=2 * MIB)).job.job_id
    blobs.failing_writes = 4
    drain_work(app)
    assert blobs.failing_writes == 0
    job = app.job(job_id)
    assert (job.status, [each.attempt for each in job.stage_results["1"].task_results]) == (JobStatus.COMPLETED, [1])


def test_a_blob_store_that_stays_away_makes_a_failed_attempt(place: Place) -> None:
    """Beyond the patience the task is tried again under its retry policy (F16)."""
    blobs = place.blobs
    app = place.app(blobs, patience_seconds=0.0)
    job_id = app.submit(LargeController, Order(made=2 * MIB)).job.job_id
    blobs.failing_writes = 2
    drain_work(app)
    job = app.job(job_id)
    assert (job.status, [each.attempt for each in job.stage_results["1"].task_results]) == (JobStatus.COMPLETED, [3])


@pytest.mark.parametrize("order", [Order(planned=2 * MIB), Order(noted=2 * MIB), Order(made=2 * MIB)], ids=str)
def test_planning_and_closing_wait_for_a_blob_store_that_is_away(place: Place, order: Order) -> None:
    """However often it takes: the work goes back with a delay, and the job completes when the store answers again (F16)."""
    blobs = place.blobs
    app = place.app(blobs, patience_seconds=0.0)
    job_id = app.submit(LargeController, order).job.job_id
    if order.made == 1:
        blobs.failing_writes = 7
    else:
        blobs.failing_reads = 1  # of the planner of the second stage, whose handler has three attempts
    drain_work(app)
    assert (blobs.failing_writes, blobs.failing_reads) == (0, 0)
    job = app.job(job_id)
    assert job.status is JobStatus.COMPLETED, job.error_details


def test_a_blob_store_that_is_away_at_a_submission_is_the_callers_error(place: Place) -> None:
    """Nothing is created, and nothing waits."""
    blobs = place.blobs
    app = place.app(blobs)
    blobs.failing_writes = 1
    with pytest.raises(PayloadsUnreachableError, match="parameters of a job 'large'"):
        app.submit(LargeController, Order(text="x" * 2 * MIB))
    assert app.repositories.jobs.list_jobs() == []


def test_a_purge_takes_the_blobs_of_its_jobs_and_no_others(place: Place) -> None:
    """Blobs go after the rows; those of a job that stays are untouched."""
    app = place.app(grace_seconds=0.0)
    gone = run(app, Order(text="a" * 2 * MIB, made=2 * MIB))
    move_clock(app, 7200)
    kept = run(app, Order(text="b" * 2 * MIB, made=2 * MIB))
    before = [name for name in place.names() if name.startswith(kept)]
    assert app.purge(timedelta(hours=1)).payloads == 0
    answer = app.purge(timedelta(hours=1), dry_run=False)
    assert (answer.jobs, answer.payloads) == (1, 3)
    assert place.names() == before
    assert app.job(kept).status is JobStatus.COMPLETED
    assert app.repositories.jobs.get_job(gone) is None


def test_the_doctor_names_orphans_and_deletes_them(place: Place) -> None:
    """What a crash between blob and row left behind is found after its grace period, not before."""
    app = place.app(grace_seconds=600.0)
    kept = run(app, Order(text="b" * 2 * MIB))
    stray = f"{'0' * 64}/{'1' * 64}"
    place.blobs.write(CONTAINER, stray, b"{}")
    assert app.doctor(repair=True).healthy
    move_clock(app, 1200)
    (ailment,) = app.doctor().ailments
    assert (ailment.kind, ailment.mended) == (AilmentKind.PAYLOADS_ORPHANED, False)
    assert stray in ailment.text
    (ailment,) = app.doctor(repair=True).ailments
    assert ailment.mended
    assert app.doctor().ailments == []
    assert all(name.startswith(kept) for name in place.names())
    assert app.job(kept).status is JobStatus.COMPLETED


def test_an_upper_bound_stays(place: Place) -> None:
    """More than the app's most is refused with what to do: at submission, and in a handler without another attempt."""
    app = place.app(max_bytes=3 * MIB)
    with pytest.raises(PayloadTooLargeError, match="at most 3145728 are stored; write it to a blob yourself"):
        app.submit(LargeController, Order(text="x" * 3 * MIB))
    job_id = app.submit(LargeController, Order(made=3 * MIB)).job.job_id
    drain_work(app)
    (failed,) = app.repositories.tasks.list_tasks_for_job(job_id, 1)
    assert (failed.status, failed.attempt) == ("failed", 1)
    assert "PayloadTooLargeError: the result of a task 'make_text'" in str(failed.error_details)


def test_a_planner_that_goes_on_after_an_outage_plans_the_same_references(place: Place) -> None:
    """What was planned before is compared by reference and not written again; the rest is planned."""
    blobs = place.blobs
    app = place.app(blobs, patience_seconds=0.0, inline_bytes=20)
    job_id = app.submit(LargeController, Order(tasks=600, planned=30)).job.job_id
    blobs.fail_at = 550
    drain_work(app, timeout=240)
    job = app.job(job_id)
    assert job.status is JobStatus.COMPLETED, job.error_details
    assert app.telemetry.counts["payloads_unreachable"] == 1


def test_postgresql_without_a_blob_store_says_how_to_have_one(postgres_dsn: str) -> None:
    """There is no default that all processes would share, so a large payload is refused, and a stored one not lost."""
    with Stageflow(postgres_dsn, registry=registry) as app:
        app.migrate()
        with pytest.raises(PayloadTooLargeError, match=r"this app has no blob store.*STAGEFLOW_BLOBS or --blobs"):
            app.submit(LargeController, Order(text="x" * 2 * MIB))


def test_a_process_without_the_blob_store_cannot_read_and_harms_nothing(postgres_dsn: str, tmp_path: Path) -> None:
    """Its work goes back, for a process that has it."""
    with Stageflow(postgres_dsn, registry=registry, blobs=f"file:{tmp_path}") as app:
        app.migrate()
        job_id = app.submit(LargeController, Order(text="x" * 2 * MIB)).job.job_id
        with Stageflow(postgres_dsn, registry=registry) as without:
            assert "STAGEFLOW_BLOBS" in str(without.job(job_id).damage)
            (job,) = without.repositories.jobs.list_jobs()
            assert job.parameters.keys() == {"stageflow-payload"}
            controller = registry.find(LargeController).controller
            assert controller.process_job_stage(job, 1).stages_planned == []
            assert without.repositories.jobs.list_jobs()[0].status is JobStatus.PROCESSING
        move_clock(app, 60)
        drain_work(app)
        assert app.job(job_id).status is JobStatus.COMPLETED


@pytest.mark.parametrize("url", ["sqlite::memory:", "sqlite:jobs.db"])
def test_sqlite_has_a_blob_store_by_default(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder beside the file, made when it is needed; memory for a store in memory."""
    monkeypatch.chdir(tmp_path)
    with Stageflow(url, registry=registry) as app:
        assert run(app, Order())
        assert not (tmp_path / "jobs.db.blobs").exists()
        job_id = run(app, Order(made=3 * MIB))
        answer = app.result(job_id, timeout=0)
        assert isinstance(answer, Answer)
        assert answer.lengths == [3 * MIB]
    assert (tmp_path / "jobs.db.blobs").exists() is not url.endswith(":memory:")


def test_azure_keeps_payloads(azurite: Any, tmp_path: Path) -> None:
    """The whole way with a container of the emulator, and the purge of it."""
    url, options = f"azure:{azurite.connection_string}", PayloadOptions(container=f"p{uuid.uuid4().hex}", grace_seconds=0.0)
    with Stageflow(f"sqlite:{tmp_path / 'jobs.db'}", registry=registry, blobs=url, payloads=options) as app:
        job_id = run(app, Order(tasks=2, planned=2 * MIB, made=3 * MIB, text="x" * 6 * MIB))
        answer = app.result(job_id, timeout=0)
        assert isinstance(answer, Answer)
        assert answer.lengths == [3 * MIB, 3 * MIB]
        move_clock(app, 7200)
        assert app.purge(timedelta(hours=1), dry_run=False).payloads == 5
        assert app.doctor().ailments == []


@pytest.mark.parametrize("url", ["file:", "s3:bucket", "azure:https://a.blob.core.windows.net"])
def test_an_address_of_no_blob_store_is_refused(url: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidValueError, match="blob store"):
        Stageflow("sqlite::memory:", registry=registry, blobs=url)


def test_the_command_line_takes_a_blob_store(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an option and from the environment; status shows the value, lists the preview."""
    app = ["--app", f"{__name__}:registry", "--store", place.url]
    given = [*app, "--blobs", f"file:{place.folder}"]

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments))

    order = Order(text="x" * 2 * MIB)
    assert call("migrate", *given).exit_code == 0
    ran = call("run", "large", "--parameters", order.to_json(), *given, "--json")
    assert ran.exit_code == 0, ran.output
    (name,) = place.names()
    monkeypatch.setenv("STAGEFLOW_BLOBS", f"file:{place.folder}")
    job_id = name.partition("/")[0]
    assert json.loads(call("status", job_id, *app, "--json").stdout)["parameters"] == order.model_dump()
    (listed,) = json.loads(call("jobs", *app, "--json").stdout)
    assert listed["parameters"] == {"stageflow-payload": f"2.0 MiB in the blob store, {name}"}
    place.blobs.delete(CONTAINER, name)
    lost = call("status", job_id, *app)
    assert (lost.exit_code, "completed" in lost.stdout) == (0, True)
    assert "is not in the blob store" in lost.stderr
    refused = call("status", job_id, *app, "--blobs", "s3:bucket")
    assert refused.exit_code == 2
    assert "use file:FOLDER or azure:CONNECTION_STRING" in refused.stderr
