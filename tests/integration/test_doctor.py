"""Rows that were altered by hand are found by the doctor, mended where they can be, and the job completes; on both stores."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    RetryPolicy,
    Stageflow,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.backends.postgres import PostgresStore
from stageflow.cli import main
from stageflow.contracts.open_work import OpenState
from stageflow.insights import Ailment, AilmentKind, Diagnosis, Finding, FindingKind, examine_store
from stageflow.testing.drain import drain_work, move_clock

registry = JobRegistry()
pausing: list[Callable[[str], object]] = []

_TASKS = 20
_PAUSED_AT = 7


class Many(Contract):
    """Job parameters."""

    paused_at: int = _PAUSED_AT
    failing: int = -1


class Item(Contract):
    """Task parameters and result."""

    index: int
    pauses: bool
    fails: bool


@task("item")
def item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Have the job paused, once."""
    if parameters.pauses:
        pausing[-1](context.job_id)
    if parameters.fails:
        msg = "as it was told"
        raise ValueError(msg)
    return parameters


@workflow("doctored", registry=registry)
class DoctoredController(BaseController[Many]):
    """One stage."""

    only = stage(1, "only", task=item, policy=FailurePolicy.any_may_fail(), retry=RetryPolicy(max_attempts=1))

    @only.plan
    def plan_only(self, job: JobExecutionContext[Many]) -> Iterator[Item]:
        """Twenty tasks."""
        asked = job.parameters
        for index in range(_TASKS):
            yield Item(index=index, pauses=index == asked.paused_at, fails=index == asked.failing)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty store of each kind."""
    dsn: str = f"sqlite:{tmp_path / 'jobs.db'}" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    return dsn


@pytest.fixture
def app(url: str) -> Iterator[Stageflow]:
    """Give an app on it, that no worker works on."""
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        jobs = made.repositories.jobs
        pausing.append(lambda job_id: jobs.update_job_status_with_validation(job_id, JobStatus.PAUSED))
        yield made
        pausing.pop()


@pytest.fixture
def hand(url: str) -> Callable[[str], None]:
    """Give a hand that alters rows past the store, in the SQL of PostgreSQL."""

    def alter(statement: str) -> None:
        if url.startswith("sqlite:"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:"))) as file, file:
                assert file.execute(statement.replace("stageflow.", "stageflow_")).rowcount
        else:
            with psycopg.connect(url) as connection:
                assert psycopg.ClientCursor(connection).execute(statement).rowcount

    return alter


def start(app: Stageflow, *, paused_at: int = _PAUSED_AT, failing: int = -1) -> str:
    """Run a job up to the task that has it paused."""
    job_id = app.submit(DoctoredController, Many(paused_at=paused_at, failing=failing), new_run=True).job.job_id
    drain_work(app)
    assert app.job(job_id).status is JobStatus.PAUSED
    assert app.doctor().ailments == []
    return job_id


def complete(app: Stageflow, job_id: str) -> None:
    """Resume a job, and run it to its end."""
    if app.job(job_id).status is JobStatus.PAUSED:
        app.repositories.jobs.update_job_status_with_validation(job_id, JobStatus.PROCESSING)
    drain_work(app)
    result = app.wait(job_id, timeout=0)
    assert (result.status, result.successful_tasks) == (JobStatus.COMPLETED, _TASKS)
    assert app.doctor().healthy


def the(diagnosis: Diagnosis, kind: AilmentKind) -> Ailment:
    """Return the one ailment that there is."""
    assert [ailment.kind for ailment in diagnosis.ailments] == [kind]
    assert diagnosis.healthy is diagnosis.ailments[0].mended
    return diagnosis.ailments[0]


@pytest.mark.parametrize("shift", [-3, 3])
def test_a_counter_that_was_altered_is_found_and_mended_and_the_job_completes(
    app: Stageflow, hand: Callable[[str], None], shift: int
) -> None:
    """Looking changes nothing, mending sets the counters to what the rows say, and nothing is left to be found."""
    job_id = start(app)
    hand(f"update stageflow.stages set remaining = remaining + {shift}, successful_tasks = successful_tasks - {shift}")  # noqa: S608  a number
    found = the(app.doctor(), AilmentKind.COUNTERS_WRONG)
    assert found.job_id == job_id
    assert f"remaining is {12 + shift} and should be 12, completed is {8 - shift} and should be 8" in found.text
    assert found.advice == "run `stageflow doctor --repair`"
    assert the(app.doctor(), AilmentKind.COUNTERS_WRONG) == found
    assert the(app.doctor(repair=True), AilmentKind.COUNTERS_WRONG).mended
    assert app.doctor().ailments == []
    complete(app, job_id)


def test_a_job_that_a_wrong_counter_stalled_is_explained_mended_and_completes(
    app: Stageflow, hand: Callable[[str], None]
) -> None:
    """The fan-in that never fired: all tasks have ended, one remains by the counter, and nothing is there to be claimed."""
    job_id = start(app)
    hand("update stageflow.stages set remaining = remaining + 1, successful_tasks = successful_tasks - 1")
    app.repositories.jobs.update_job_status_with_validation(job_id, JobStatus.PROCESSING)
    drain_work(app)
    assert app.job(job_id).status is JobStatus.PROCESSING
    (stuck,) = [finding for finding in app.explain(job_id).findings if finding.kind is FindingKind.STUCK]
    assert stuck.text == "stage 1 (only) is moved by nothing: 1 task remains, and no range is there that would be claimed"
    assert "stageflow doctor" in stuck.advice
    diagnosis = app.doctor(repair=True)
    assert [ailment.kind for ailment in diagnosis.ailments] == [
        AilmentKind.COUNTERS_WRONG,
        AilmentKind.STAGE_NOT_ADVANCED,
    ]
    assert diagnosis.healthy
    complete(app, job_id)


def test_an_advancement_that_wrong_counters_opened_is_taken_back(app: Stageflow, hand: Callable[[str], None]) -> None:
    """The stage would be closed with tasks that never ran."""
    job_id = start(app)
    hand("update stageflow.stages set remaining = 0, successful_tasks = task_count")
    hand(
        "insert into stageflow.ranges (stage_id, kind, work_type, first, last, state, created_at)"
        " select stage_id, 'advance', 'doctored/1', 0, 1, 'held', created_at from stageflow.stages"
    )
    assert the(app.doctor(repair=True), AilmentKind.COUNTERS_WRONG).mended
    complete(app, job_id)


def test_counters_are_not_mended_while_somebody_advances_the_stage(app: Stageflow, hand: Callable[[str], None]) -> None:
    """Its holder would go on with what it read."""
    start(app)
    hand("update stageflow.stages set remaining = 0, successful_tasks = task_count")
    hand(
        "insert into stageflow.ranges (stage_id, kind, work_type, first, last, state, token, created_at)"
        " select stage_id, 'advance', 'doctored/1', 0, 1, 'leased', 1000, created_at from stageflow.stages"
    )
    left = the(app.doctor(repair=True), AilmentKind.COUNTERS_WRONG)
    assert not left.mended
    assert "somebody is advancing the stage" in left.advice


def test_mended_counters_ask_the_failure_policy_again(app: Stageflow, hand: Callable[[str], None]) -> None:
    """A stage whose failure a wrong counter hid halts as soon as the counter is right, and skips what waits."""
    job_id = start(app, failing=2)
    hand("update stageflow.stages set failed_tasks = 0, successful_tasks = 8, minimum_success_rate = 100")
    assert the(app.doctor(repair=True), AilmentKind.COUNTERS_WRONG).mended
    (halted,) = app.progress(job_id).stages
    assert (halted.completed, halted.failed, halted.skipped, halted.remaining) == (7, 1, 12, 0)
    app.repositories.jobs.update_job_status_with_validation(job_id, JobStatus.PROCESSING)
    drain_work(app)
    assert app.job(job_id).status is JobStatus.FAILED


def test_tasks_that_nothing_moves_get_a_range_and_the_job_completes(app: Stageflow, hand: Callable[[str], None]) -> None:
    """Gaps between results and ranges, and at the end of the stage."""
    job_id = start(app, paused_at=4)
    hand("update stageflow.ranges set first = 7 where kind = 'task' and first = 5")
    hand("update stageflow.ranges set last = 17 where kind = 'task' and last = 20")
    found = the(app.doctor(), AilmentKind.TASKS_WITHOUT_MOVER)
    assert "has 5 tasks with neither a result nor a range, the first is task 5" in found.text
    assert the(app.doctor(repair=True), AilmentKind.TASKS_WITHOUT_MOVER).mended
    complete(app, job_id)


def test_gap_and_counter_are_mended_together(app: Stageflow, hand: Callable[[str], None]) -> None:
    """The rows first, then the counters, in one go."""
    job_id = start(app)
    hand("delete from stageflow.ranges where kind = 'task'")
    hand("update stageflow.stages set remaining = 0, successful_tasks = task_count")
    diagnosis = app.doctor(repair=True)
    assert {ailment.kind for ailment in diagnosis.ailments} >= {AilmentKind.TASKS_WITHOUT_MOVER, AilmentKind.COUNTERS_WRONG}
    assert diagnosis.healthy
    complete(app, job_id)


def test_a_stage_without_its_advancement_gets_it(app: Stageflow, hand: Callable[[str], None]) -> None:
    """Paused with its last task, so that the advancement was held: and then it was deleted."""
    job_id = start(app, paused_at=_TASKS - 1)
    hand("delete from stageflow.ranges where kind = 'advance'")
    assert the(app.doctor(), AilmentKind.STAGE_NOT_ADVANCED).job_id == job_id
    assert the(app.doctor(repair=True), AilmentKind.STAGE_NOT_ADVANCED).mended
    complete(app, job_id)


def test_a_stage_without_its_planning_gets_it(app: Stageflow, hand: Callable[[str], None]) -> None:
    """The job would stay queued for ever."""
    job_id = app.submit(DoctoredController, Many(paused_at=-1), new_run=True).job.job_id
    hand("delete from stageflow.ranges where kind = 'plan'")
    assert the(app.doctor(), AilmentKind.STAGE_NOT_PLANNED).job_id == job_id
    assert the(app.doctor(repair=True), AilmentKind.STAGE_NOT_PLANNED).mended
    complete(app, job_id)


def test_what_cannot_be_mended_is_named_with_what_to_do(app: Stageflow, hand: Callable[[str], None]) -> None:
    """Two ranges over one task, and definitions that are gone."""
    start(app)
    hand(
        "insert into stageflow.ranges (stage_id, kind, work_type, first, last, state, created_at)"
        " select stage_id, 'task', 'doctored/1/item', 5, 6, 'held', created_at from stageflow.stages"
    )
    hand("delete from stageflow.tasks where task_index >= 18")
    diagnosis = app.doctor(repair=True)
    kinds = [ailment.kind for ailment in diagnosis.ailments]
    assert kinds == [AilmentKind.TASKS_MISSING, AilmentKind.TASKS_DOUBLED, AilmentKind.COUNTERS_WRONG]
    assert not any(ailment.mended for ailment in diagnosis.ailments)
    assert "the definitions from 18 on are gone" in diagnosis.ailments[0].text
    assert "has 1 task with more than one result or range, the first is task 5" in diagnosis.ailments[1].text


def test_a_job_whose_stages_are_all_closed_is_named(app: Stageflow, hand: Callable[[str], None]) -> None:
    """Nothing would open the next one, and nothing would end it."""
    job_id = start(app)
    hand("delete from stageflow.ranges where kind = 'task'")
    hand("update stageflow.stages set status = 'completed'")
    assert the(app.doctor(repair=True), AilmentKind.JOB_WITHOUT_STAGE).job_id == job_id
    assert FindingKind.STUCK in app.explain(job_id).kinds


BEYOND = {"sqlite": "9223372036854775807", "postgresql": "'infinity'"}
BEFORE = {"sqlite": "-9223372036854775807", "postgresql": "'-infinity'"}


def kind_of(app: Stageflow) -> str:
    """Return which store it is."""
    return app.repositories.store.url.partition(":")[0]


def damage(app: Stageflow, hand: Callable[[str], None], assignment: str, job_id: str, table: str = "jobs") -> None:
    """Write something into a job's row, or those of its stages, that the contract refuses."""
    value = assignment.replace("BEYOND", BEYOND[kind_of(app)])
    hand(f"update stageflow.{table} set {value} where job_id = '{job_id}'")  # noqa: S608  a test's own


@pytest.mark.parametrize(
    ("table", "assignment", "named"),
    [
        ("jobs", "parameters = '{'", "parameters is no JSON object"),
        ("jobs", "created_at = BEYOND", "created_at cannot be read"),
        ("jobs", "job_type = 'no type'", "job_type"),
        ("stages", "task_type = 'no type'", "task_type"),
        ("stages", "created_at = BEYOND", "created_at"),
    ],
)
def test_a_damaged_row_is_an_ailment_and_hides_no_other(
    app: Stageflow, hand: Callable[[str], None], table: str, assignment: str, named: str
) -> None:
    """The job with the damaged row is named, and what is wrong with others is found and mended all the same."""
    damaged, other = start(app), start(app)
    damage(app, hand, assignment, damaged, table)
    (stage_of_other,) = [each.stage_id for each in app.repositories.store.list_stages(other, 1)]
    hand(f"delete from stageflow.ranges where kind = 'task' and stage_id = {stage_of_other}")  # noqa: S608  a number
    diagnosis = app.doctor(repair=True)
    assert {ailment.job_id for ailment in diagnosis.ailments} == {damaged, other}
    (found,) = [ailment for ailment in diagnosis.ailments if ailment.job_id == damaged]
    assert (found.kind, found.mended, named in found.text) == (AilmentKind.ROW_DAMAGED, False, True)
    assert f"stageflow cancel {damaged[:16]}" in found.advice
    assert all(ailment.mended for ailment in diagnosis.ailments if ailment.job_id == other)
    app.repositories.jobs.update_job_status_with_validation(other, JobStatus.PROCESSING)
    drain_work(app)
    assert app.wait(other, timeout=0).successful_tasks == _TASKS


@pytest.mark.parametrize("assignment", ["created_at = BEYOND", "not_before = BEYOND", "parameters = '{'"])
def test_a_job_with_a_damaged_row_is_listed_and_cancelled(app: Stageflow, hand: Callable[[str], None], assignment: str) -> None:
    """As the doctor advises: a time that cannot be read keeps nobody from ending the job, nor from seeing the others."""
    damaged, other = start(app), start(app)
    damage(app, hand, assignment, damaged)
    listed = {job.job_id: job.damage for job in app.repositories.jobs.list_jobs()}
    assert listed[other] is None
    assert assignment.partition(" ")[0] in str(listed[damaged])
    app.cancel(damaged)
    assert app.doctor().ailments == []


def test_a_damaged_range_is_named(app: Stageflow, hand: Callable[[str], None]) -> None:
    """A lease that ended at a time that cannot be read: the rest of the store is looked at."""
    start(app)
    hand(f"update stageflow.ranges set state = 'leased', token = 9, lease_expires_at = {BEFORE[kind_of(app)]}")  # noqa: S608  a test's own
    assert the(app.doctor(), AilmentKind.ROW_DAMAGED).job_id is None


def test_the_lost_row_of_counters_is_named(tmp_path: Path) -> None:
    """Without it nothing can be claimed, and the doctor says how it is restored; that is what restores it."""
    path = tmp_path / "jobs.db"
    with Stageflow(f"sqlite:{path}", registry=registry) as app, closing(sqlite3.connect(path, isolation_level=None)) as file:
        app.migrate()
        file.execute("delete from stageflow_counters")
        found = the(app.doctor(), AilmentKind.SCHEMA_DRIFT)
        assert "nothing can be claimed" in found.text
        assert app.verify().drifts == [found.text]
        file.execute(found.text.split("`")[1])
        assert app.doctor().ailments == []
        job_id = app.submit(DoctoredController, Many(paused_at=-1)).job.job_id
        drain_work(app)
        assert app.job(job_id).status is JobStatus.COMPLETED


def test_a_schema_that_drifted_is_named(app: Stageflow, url: str) -> None:
    """As by verify, and the rest is looked at too."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:"))) as file, file:
            file.execute("create index stageflow_stray on stageflow_jobs (priority)")
    else:
        with psycopg.connect(url) as connection:
            connection.execute("create index stray on stageflow.jobs (priority)")
    assert "stray" in the(app.doctor(), AilmentKind.SCHEMA_DRIFT).text


def test_a_store_without_a_schema_is_named(postgres_dsn: str) -> None:
    """Nothing else can be looked at."""
    with Stageflow(postgres_dsn, registry=registry) as app:
        assert "the schema is missing" in the(app.doctor(repair=True), AilmentKind.SCHEMA_DRIFT).text


def test_a_doctor_beside_workers_finds_nothing_and_disturbs_nothing(app: Stageflow) -> None:
    """Stages are seen as at one moment however fast they move, and looking with ``repair`` mends nothing that is well."""
    with app.worker():
        jobs = [app.submit(DoctoredController, Many(paused_at=-1), new_run=True).job.job_id for _ in range(40)]
        found: list[Ailment] = []
        stuck: list[Finding] = []
        while not all(app.job(job_id).is_terminal for job_id in jobs):
            found += app.doctor(repair=True).ailments
            stuck += [each for job_id in jobs[-3:] for each in app.explain(job_id).findings if each.kind is FindingKind.STUCK]
    assert (found, stuck) == ([], [])
    assert {app.wait(job_id, timeout=0).successful_tasks for job_id in jobs} == {_TASKS}


def test_mending_beside_workers_touches_nothing_that_is_well(app: Stageflow) -> None:
    """Each mending function looks under the lock: what workers have in hand at that moment is neither lost nor doubled."""
    store, mended = app.repositories.store, 0
    with app.worker():
        jobs = [app.submit(DoctoredController, Many(paused_at=-1), new_run=True).job.job_id for _ in range(25)]
        while not all(app.job(job_id).is_terminal for job_id in jobs):
            for opened in [each for job_id in jobs for each in store.list_stages(job_id, 1)]:
                mended += store.mend_movers(opened.stage_id)
                mended += store.mend_counters(opened.stage_id)
                mended += store.mend_control(opened.stage_id)
    assert mended == 0
    assert {app.wait(job_id, timeout=0).successful_tasks for job_id in jobs} == {_TASKS}


def test_late_leases_and_announcements_are_named(app: Stageflow) -> None:
    """The lease of a worker that is gone, and ready work of which no queue was told."""
    app.submit(DoctoredController, Many(), new_run=True)
    move_clock(app, 120)
    late = the(examine_store(app.repositories, repair=False, uses_queue=True), AilmentKind.NOT_ANNOUNCED)
    assert late.text.startswith("the planning of the stage in stage 1 of job ")
    assert app.doctor().healthy, "without a queue nobody is to be told"
    for message in app.repositories.store.list_late_ranges(OpenState.READY, late_seconds=1, limit=1):
        assert message.range.work_type == "doctored/1"


def test_an_open_transaction_is_named_with_its_process(postgres_dsn: str) -> None:
    """Dead rows pile up behind it."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    with psycopg.connect(postgres_dsn, application_name="forgotten") as connection:
        connection.execute("select pg_current_xact_id()")
        holder = f"process {connection.info.backend_pid} (forgotten, idle in transaction)"
        # The server's own vacuum may hold another one for a moment.
        assert holder in [snapshot.holder for snapshot in store.list_old_snapshots(0)]
        assert store.list_old_snapshots(300) == []
    assert holder not in [snapshot.holder for snapshot in store.list_old_snapshots(0)]
    store.close()


def test_the_command_tells_people_and_monitors(app: Stageflow, hand: Callable[[str], None], url: str) -> None:
    """Exit code 1 until it is mended, 0 when nothing is wrong, and the same as one JSON document."""
    job_id = start(app)
    hand("update stageflow.stages set remaining = remaining + 2, successful_tasks = successful_tasks - 2")
    run = CliRunner().invoke
    sick = run(main, ["doctor", "--store", url])
    assert (sick.exit_code, "  next: run `stageflow doctor --repair`" in sick.output) == (1, True)
    document = json.loads(run(main, ["doctor", "--json", "--store", url]).stdout)
    assert (document["healthy"], document["audited_jobs"], document["audited_stages"]) == (False, 1, 1)
    assert document["ailments"][0]["kind"] == "counters_wrong"
    mended = run(main, ["doctor", "--repair", "--store", url])
    assert (mended.exit_code, "- mended: stage 1 (only) of job" in mended.output) == (0, True)
    well = run(main, ["doctor", "--store", url])
    assert (well.exit_code, well.output.splitlines()[-1]) == (0, "nothing is wrong")
    complete(app, job_id)
