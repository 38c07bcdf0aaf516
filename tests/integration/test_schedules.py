"""Jobs by cron, on both stores, through the app, workers and the command line."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from stageflow import (
    BaseController,
    CatchUp,
    Contract,
    ContractViolationError,
    InvalidValueError,
    JobExecutionContext,
    JobRecord,
    JobRegistry,
    JobStatus,
    ScheduleNotFoundError,
    ScheduleState,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    UnknownWorkflowError,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.cli import main
from stageflow.testing.drain import drain_work, move_clock

registry = JobRegistry()
refusing: list[str] = []


class Report(Contract):
    """Job parameters."""

    region: str = "north"


class Made(Contract):
    """The job's answer."""

    scheduled_for: datetime | None


@task("report_task")
def write_report(parameters: Report, context: TaskExecutionContext) -> Report:  # noqa: ARG001  a handler's shape
    """Do nothing."""
    return parameters


@workflow("report", registry=registry)
class ReportController(BaseController[Report]):
    """One stage."""

    only = stage(1, "only", task=write_report)

    def validate_job_parameters(self, parameters: Report) -> Report:
        """Refuse what a test asks for."""
        if parameters.region in refusing:
            msg = f"there is no region {parameters.region}"
            raise ValueError(msg)
        return parameters

    @only.plan
    def plan_only(self, job: JobExecutionContext[Report]) -> Iterator[Report]:
        """Plan one task."""
        yield job.parameters

    def aggregate_job_results(self, job: JobExecutionContext[Report], stage_results: dict[int, StageResults[Any]]) -> Made:  # noqa: ARG002  a hook's shape
        """Answer with the fire time."""
        return Made(scheduled_for=job.scheduled_for)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty store of each kind."""
    dsn: str = f"sqlite:{tmp_path / 'jobs.db'}" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    return dsn


@pytest.fixture
def hand(url: str) -> Callable[[str], None]:
    """Give a hand that alters rows past the store, in the SQL of PostgreSQL."""

    def alter(statement: str) -> None:
        if url.startswith("sqlite:"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:"))) as file, file:
                assert file.execute(statement.replace("stageflow.", "stageflow_")).rowcount
        else:
            with psycopg.connect(url) as connection:
                assert connection.execute(statement.encode()).rowcount

    return alter


@pytest.fixture
def app(url: str) -> Iterator[Stageflow]:
    """Give an app on each store, migrated and empty."""
    refusing.clear()
    with Stageflow(url, registry=registry) as app:
        app.migrate()
        yield app


def jobs_of(app: Stageflow) -> list[JobRecord]:
    """Return all jobs, by fire time."""
    return sorted(app.repositories.jobs.list_jobs(limit=1000), key=lambda job: str(job.scheduled_for))


def go_to(app: Stageflow, moment: datetime) -> None:
    """Let the store's time be a little after a moment."""
    move_clock(app, (moment - app.repositories.store.now()).total_seconds() + 1)


def hourly(app: Stageflow, catch_up: CatchUp = CatchUp.SKIP) -> datetime:
    """Schedule a report for every hour, and return the first fire time."""
    first = app.schedule("hourly", ReportController, Report(), cron="0 * * * *", catch_up=catch_up, priority=3).next_fire_at
    assert first is not None
    return first


def test_a_schedule_fires_once_and_its_job_knows_the_time(app: Stageflow) -> None:
    """Two rounds of maintenance make one job; its hooks and its record have the fire time, and the schedule moves on."""
    first = hourly(app)
    assert app.maintain().scheduled == 0
    go_to(app, first)
    assert app.maintain().scheduled == 1
    assert app.maintain().scheduled == 0
    (job,) = jobs_of(app)
    assert (job.scheduled_for, job.metadata["schedule"], job.priority) == (first, "hourly", 3)
    drain_work(app)
    answer = app.result(job.job_id, timeout=5)
    assert answer == Made(scheduled_for=first)
    (schedule,) = app.schedules()
    assert (schedule.last_fire_at, schedule.last_job_id) == (first, job.job_id)
    assert schedule.next_fire_at == first + timedelta(hours=1)


def test_many_maintainers_make_one_job(app: Stageflow) -> None:
    """However many processes look at the same moment, each fire time has one job."""
    go_to(app, hourly(app))
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: app.maintain().scheduled, range(8)))
    assert sum(made) == 1
    assert len(jobs_of(app)) == 1


@pytest.mark.parametrize(("catch_up", "expected"), [("skip", []), ("one", [3]), ("all", [0, 1, 2, 3])])
def test_what_was_missed_is_made_good_as_the_schedule_says(app: Stageflow, catch_up: str, expected: list[int]) -> None:
    """After three and a half hours without anybody: nothing, the newest for all, or each with its own fire time."""
    first = hourly(app, CatchUp(catch_up))
    go_to(app, first + timedelta(hours=3, minutes=30))
    assert app.maintain().scheduled == len(expected)
    assert [job.scheduled_for for job in jobs_of(app)] == [first + timedelta(hours=hour) for hour in expected]
    assert app.schedules()[0].next_fire_at == first + timedelta(hours=4)


def test_a_late_firing_is_not_a_missed_one(app: Stageflow) -> None:
    """Who skips what was missed still fires what is due since less than five minutes."""
    first = hourly(app)
    go_to(app, first + timedelta(hours=2, minutes=4))
    assert app.maintain().scheduled == 1
    assert jobs_of(app)[0].scheduled_for == first + timedelta(hours=2)


def test_a_long_sleep_is_bounded(app: Stageflow) -> None:
    """Of 1,441 missed minutes the newest 1,000 are made good, in one transaction."""
    first = app.schedule("minutely", ReportController, Report(), cron="* * * * *", catch_up="all").next_fire_at
    assert first is not None
    go_to(app, first + timedelta(days=1))
    assert app.maintain().scheduled == 1000
    made = {job.scheduled_for for job in jobs_of(app)}
    assert (len(made), max(str(each) for each in made)) == (1000, str(first + timedelta(days=1)))


def test_a_schedule_that_cannot_fire_stops_loudly(app: Stageflow) -> None:
    """Parameters that the workflow no longer takes fail the schedule with the reason; others go on; a resumption mends it."""
    first = hourly(app)
    app.schedule("southern", ReportController, Report(region="south"), cron="0 * * * *")
    refusing.append("south")
    go_to(app, first)
    assert app.maintain().scheduled == 1
    failed = app.schedules()[1]
    assert (failed.name, failed.state, failed.next_fire_at) == ("southern", ScheduleState.FAILED, None)
    assert "there is no region south" in (failed.error_details or "")
    (ailment,) = app.doctor().ailments
    assert (ailment.kind.value, "schedule southern of report failed" in ailment.text) == ("schedule_failed", True)
    refusing.clear()
    assert app.resume_schedule("southern").state is ScheduleState.ACTIVE
    go_to(app, first + timedelta(hours=1))
    assert app.maintain().scheduled == 2
    assert app.doctor().ailments == []


BEYOND = {"sqlite": "9223372036854775807", "postgresql": "'infinity'"}
BEFORE = {"sqlite": "-9223372036854775807", "postgresql": "'-infinity'"}


def damage(app: Stageflow, hand: Callable[[str], None], column: str, values: dict[str, str] | str) -> datetime:
    """Schedule two reports, damage the row of the second one, and let both be due."""
    first = hourly(app)
    app.schedule("southern", ReportController, Report(region="south"), cron="0 * * * *")
    value = values if isinstance(values, str) else values[app.repositories.store.url.partition(":")[0]]
    hand(f"update stageflow.schedules set {column} = {value} where name = 'southern'")  # noqa: S608  a test's own
    go_to(app, first)
    return first


@pytest.mark.parametrize(
    ("column", "values", "named"),
    [
        ("parameters", "'{'", "parameters is no JSON object"),
        ("parameters", "'[1]'", "parameters is no JSON object"),
        ("created_at", BEYOND, "created_at cannot be read"),
        ("next_fire_at", BEFORE, "next_fire_at cannot be read"),
        ("last_job_id", "'nobody'", "last_job_id cannot be read"),
    ],
)
def test_a_damaged_schedule_fails_alone(
    app: Stageflow, hand: Callable[[str], None], column: str, values: dict[str, str] | str, named: str
) -> None:
    """It is listed with what is wrong, the doctor names it, the round that fires fails it loudly, and the others fire."""
    damage(app, hand, column, values)
    whole, damaged = app.schedules()
    assert (whole.damage, damaged.name, damaged.state) == (None, "southern", ScheduleState.ACTIVE)
    assert named in (damaged.damage or "")
    (ailment,) = app.doctor().ailments
    assert (ailment.kind.value, "the row of schedule southern is damaged" in ailment.text) == ("row_damaged", True)
    assert app.maintain().scheduled == 1
    failed = app.schedules()[1]
    assert (failed.state, failed.next_fire_at) == (ScheduleState.FAILED, None)
    assert "the schedule cannot fire" in (failed.error_details or "")
    assert app.telemetry.wait_for("schedule_failed", timeout_seconds=0)
    assert [each.kind.value for each in app.doctor().ailments] == ["schedule_failed"]


def test_a_damaged_schedule_is_paused_removed_and_replaced(app: Stageflow, hand: Callable[[str], None], url: str) -> None:
    """Nothing of its row but the name is needed for that; scheduling it again cures it."""
    first = damage(app, hand, "parameters", "'{'")
    assert app.pause_schedule("southern").state is ScheduleState.PAUSED
    shown = CliRunner().invoke(main, ["schedules", "list", "--store", url])
    assert (shown.exit_code, "southern is damaged: parameters is no JSON object" in shown.output) == (0, True)
    app.schedule("southern", ReportController, Report(region="south"), cron="0 * * * *")
    assert app.schedules()[1].damage is None
    hand("update stageflow.schedules set parameters = '{' where name = 'southern'")
    assert CliRunner().invoke(main, ["schedules", "remove", "southern", "--store", url]).exit_code == 0
    assert [each.name for each in app.schedules()] == ["hourly"]
    assert app.schedules()[0].next_fire_at == first


def test_what_stops_the_firing_stops_nothing_else(app: Stageflow, hand: Callable[[str], None]) -> None:
    """A worker's round ends what is late all the same, again and again, and says what stopped the rest."""
    job_id = app.submit(ReportController, Report(), timeout_seconds=5, not_before=app.repositories.store.now()).job.job_id
    hand("alter table stageflow.schedules rename column last_job_id to gone")
    with app.worker(WorkerOptions(slots=1, recover_seconds=0.1, poll_seconds=0.05)):
        assert app.telemetry.wait_for("recovery_failed", count=2, timeout_seconds=30)
        assert app.wait(job_id, timeout=30).status is JobStatus.COMPLETED


def test_a_schedule_of_an_unknown_workflow_is_left_to_others(app: Stageflow) -> None:
    """Who does not know the workflow fires nothing and breaks nothing; the doctor says who could."""
    first = hourly(app)
    go_to(app, first + timedelta(minutes=2))
    known, app.registry = app.registry, JobRegistry()  # type: ignore[misc]  # another process, on the same moved clock
    assert app.maintain().scheduled == 0
    assert app.schedules()[0].state is ScheduleState.ACTIVE
    (ailment,) = app.doctor().ailments
    assert ailment.kind.value == "schedule_late"
    assert "workflow report is not registered here" in ailment.text
    app.registry = known  # type: ignore[misc]  # and back
    assert app.maintain().scheduled == 1


def test_a_worker_fires_schedules_by_itself(app: Stageflow) -> None:
    """No leader, no timer, no second process: the resident recoverer creates the job, and its worker runs it."""
    go_to(app, hourly(app))
    options = WorkerOptions(slots=1, recover_seconds=0.1, poll_seconds=0.05)
    with app.worker(options):
        assert app.telemetry.wait_for("schedule_fired", timeout_seconds=30)
        (job,) = jobs_of(app)
        assert app.wait(job.job_id, timeout=30).status is JobStatus.COMPLETED


def test_a_paused_schedule_rests_and_does_not_catch_up(app: Stageflow) -> None:
    """What passes while it is paused was not wanted, also with ``all``."""
    first = hourly(app, CatchUp.ALL)
    assert app.pause_schedule("hourly").state is ScheduleState.PAUSED
    go_to(app, first + timedelta(hours=2))
    assert app.maintain().scheduled == 0
    assert app.resume_schedule("hourly").next_fire_at == first + timedelta(hours=3)
    assert app.maintain().scheduled == 0
    assert jobs_of(app) == []
    assert app.doctor().ailments == []


def test_what_cannot_be_scheduled_is_refused(app: Stageflow) -> None:
    """Each wrong argument is named, and nothing is stored."""
    with pytest.raises(InvalidValueError, match="is no cron expression"):
        app.schedule("bad", ReportController, Report(), cron="99 * * * *")
    with pytest.raises(InvalidValueError, match="no time zone"):
        app.schedule("bad", ReportController, Report(), cron="0 * * * *", time_zone="Nowhere")
    with pytest.raises(InvalidValueError, match="schedule: name"):
        app.schedule("bad name", ReportController, Report(), cron="0 * * * *")
    with pytest.raises(InvalidValueError, match="schedule: catch_up"):
        app.schedule("bad", ReportController, Report(), cron="0 * * * *", catch_up="some")  # type: ignore[arg-type]  # what the test is about
    with pytest.raises(ContractViolationError, match=r"^schedule\('report'\): parameters must be Report"):
        app.schedule("bad", ReportController, Made(scheduled_for=None), cron="0 * * * *")  # type: ignore[misc]  # likewise
    with pytest.raises(UnknownWorkflowError):
        app.schedule("bad", "unknown", Report(), cron="0 * * * *")
    with pytest.raises(ScheduleNotFoundError, match="no schedule 'bad'"):
        app.unschedule("bad")
    assert app.schedules() == []


def test_the_command_line_manages_schedules(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """It adds, lists, pauses, resumes and removes; a name that is not there exits with 2."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)

    def call(*arguments: str) -> Any:
        answer = CliRunner().invoke(main, ["schedules", *arguments, "--json", "--app", f"{__name__}:cli_app"])
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.output)

    arguments = [
        "--cron",
        "0 3 * * *",
        "--time-zone",
        "Europe/Vienna",
        "--catch-up",
        "all",
        "--parameters",
        '{"region": "east"}',
    ]
    added = call("add", "nightly", "report", *arguments)
    assert (added["state"], added["catch_up"], added["parameters"]) == ("active", CatchUp.ALL, {"region": "east"})
    assert [each["name"] for each in call("list")] == ["nightly"]
    assert call("pause", "nightly")["state"] == "paused"
    assert call("resume", "nightly")["state"] == "active"
    table = CliRunner().invoke(main, ["schedules", "list", "--app", f"{__name__}:cli_app"])
    assert "nightly" in table.output
    assert call("remove", "nightly") == {"name": "nightly", "removed": True}
    missing = CliRunner().invoke(main, ["schedules", "remove", "nightly", "--app", f"{__name__}:cli_app"])
    assert (missing.exit_code, "no schedule 'nightly'" in missing.output) == (2, True)
