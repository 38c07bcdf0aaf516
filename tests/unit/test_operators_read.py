"""What an operator reads of repairs, purges, schedules, deadlines and submissions: whole answers, events and refusals."""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from stageflow import (
    BaseController,
    Contract,
    ContractViolationError,
    FailurePolicy,
    IdempotencyConflictError,
    InvalidTransitionError,
    InvalidValueError,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    OrchestrationAction,
    OrchestrationDataContract,
    PayloadOptions,
    PayloadTooLargeError,
    PermanentTaskError,
    RetryPolicy,
    ScheduleNotFoundError,
    StageAggregate,
    StageExecutionContext,
    Stageflow,
    StageResults,
    SubmitOutcome,
    TaskExecutionContext,
    TaskStatus,
    stage,
    task,
    workflow,
)
from stageflow.backends.memory import MemoryBlobStore
from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.base import JsonObject
from stageflow.contracts.dead_letter import NewDeadLetter
from stageflow.contracts.job import NewJob
from stageflow.contracts.schedule import ScheduleState
from stageflow.engine.cron import Cron
from stageflow.engine.deadlines import end_if_overdue
from stageflow.engine.repair import repair_stage
from stageflow.engine.schedules import fire_due
from stageflow.telemetry import Event
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    claim_one,
    complete_one,
    new_job,
    new_stage,
    report,
    start,
    tasks_type,
)
from stageflow.testing.drain import drain_work, move_clock

registry = JobRegistry()
bad: set[int] = set()
minutes: dict[int, float] = {}
refused: list[BaseException] = []
acts: list[Callable[[], object]] = []
apps: list[Stageflow] = []
MONTH = timedelta(days=30)
SMALL = 500
LARGE = 100_000


class Order(Contract):
    """Job parameters."""

    count: int = 1
    text: str = ""
    other_model: bool = False


class Number(Contract):
    """Task parameters and results."""

    number: int


@task("piece", retry=RetryPolicy(max_attempts=1))
def piece(parameters: Number, context: TaskExecutionContext) -> Number:
    """Fail where that is wished, and take as long as is wished."""
    move_clock(apps[-1], 60 * minutes.get(context.stage_number, 0))
    if parameters.number in bad:
        msg = f"{parameters.number} is bad"
        raise PermanentTaskError(msg)
    return parameters


class Pieces(BaseController[Order]):
    """Checks orders."""

    def validate_job_parameters(self, parameters: Order) -> Order:
        """Refuse what is to be refused."""
        if acts:
            acts.pop()()
        if refused:
            raise refused[0]
        if parameters.other_model:
            return Number(number=1)  # type: ignore[return-value]  # what the test is about
        return parameters


@workflow("pieces", registry=registry)
class Four(Pieces):
    """One stage, a group of two, and one more."""

    first = stage(1, "first", task=piece, policy=FailurePolicy.any_may_fail())
    left = stage(2, "left", task=piece, policy=FailurePolicy.any_may_fail())
    right = stage(3, "right", task=piece, policy=FailurePolicy.any_may_fail())
    last = stage(4, "last", task=piece)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Order]) -> Iterator[Number]:
        """Plan 10, 11 and so on."""
        yield from (Number(number=10 + index) for index in range(job.parameters.count))

    @first.orchestrate
    def fork(self, job: JobExecutionContext[Order], results: StageResults[Number]) -> OrchestrationDataContract:  # noqa: ARG002  a hook's shape
        """Run the next two together."""
        return OrchestrationDataContract(action=OrchestrationAction.PARALLEL_STAGES, stages=[2, 3])

    @left.plan
    def plan_left(self, job: JobExecutionContext[Order]) -> Iterator[Number]:
        """Plan 20, 21 and so on."""
        yield from (Number(number=20 + index) for index in range(job.parameters.count))

    @right.plan
    def plan_right(self, job: JobExecutionContext[Order]) -> Iterator[Number]:  # noqa: ARG002  a planner's shape
        """Plan one."""
        yield Number(number=30)

    @last.plan
    def plan_last(self, job: JobExecutionContext[Order]) -> Iterator[Number]:  # noqa: ARG002
        """Plan one."""
        yield Number(number=40)


@workflow("timed_pieces", registry=registry)
class Timed(Pieces):
    """Two stages, of which the first has a time of its own."""

    first = stage(1, "first", task=piece, timeout_seconds=600)
    last = stage(2, "last", task=piece)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Order]) -> Iterator[Number]:
        """Plan as many as are wanted."""
        yield from (Number(number=10 + index) for index in range(job.parameters.count))

    @last.plan
    def plan_last(self, job: JobExecutionContext[Order]) -> Iterator[Number]:  # noqa: ARG002  a planner's shape
        """Plan one."""
        yield Number(number=40)


@workflow("cut_pieces", registry=registry)
class Cut(Pieces):
    """A group that ends its job, and is cut off there."""

    first = stage(1, "first", task=piece)
    left = stage(2, "left", task=piece)
    right = stage(3, "right", task=piece)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Order]) -> Iterator[Number]:  # noqa: ARG002  a planner's shape
        """Plan one."""
        yield Number(number=10)

    @left.plan
    def plan_left(self, job: JobExecutionContext[Order]) -> Iterator[Number]:  # noqa: ARG002
        """Plan one."""
        yield Number(number=20)

    @right.plan
    def plan_right(self, job: JobExecutionContext[Order]) -> Iterator[Number]:  # noqa: ARG002
        """Plan one."""
        yield Number(number=30)

    def aggregate_stage_results(
        self,
        job: JobExecutionContext[Order],  # noqa: ARG002  the shape of a hook
        stage: StageExecutionContext,
        results: StageResults[Any],  # noqa: ARG002
    ) -> StageAggregate:
        """Run the next two together."""
        parallel = OrchestrationDataContract(action=OrchestrationAction.PARALLEL_STAGES, stages=[2, 3])
        return StageAggregate(orchestration=parallel if stage.stage_number == 1 else None)

    def aggregate_job_results(self, job: JobExecutionContext[Order], stage_results: dict[int, StageResults[Any]]) -> None:  # noqa: ARG002
        """Stop dead."""
        raise KeyboardInterrupt


@workflow("versioned_pieces", version=3, registry=registry)
class Third(Pieces):
    """The third version of one stage."""

    only = stage(1, "only", task=piece)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Order]) -> Iterator[Number]:  # noqa: ARG002  a planner's shape
        """Plan one."""
        yield Number(number=10)


class Name(Contract):
    """Parameters of the jobs that the store's suite builds."""

    name: str


@task("work")
def work(parameters: Number, context: TaskExecutionContext) -> Number:  # noqa: ARG001  a handler's shape
    """Stand for a task whose outcome is reported."""
    return parameters


@workflow("demo", registry=registry)
class Demo(BaseController[Name]):
    """The workflow of the jobs that the store's suite builds."""

    only = stage(1, "only", task=work)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Name]) -> Iterator[Number]:  # noqa: ARG002  a planner's shape
        """Plan one."""
        yield Number(number=10)


@pytest.fixture
def blobs() -> MemoryBlobStore:
    """Give a blob store that is empty."""
    return MemoryBlobStore()


@pytest.fixture
def app(blobs: MemoryBlobStore) -> Iterator[Stageflow]:
    """Give an app in memory."""
    for each in (bad, minutes, refused, acts):
        each.clear()
    options = PayloadOptions(inline_bytes=SMALL, max_bytes=LARGE, patience_seconds=0)
    with Stageflow("sqlite::memory:", registry=registry, blobs=blobs, payloads=options) as app:
        app.migrate()
        apps[:] = [app]
        yield app


@pytest.fixture
def events(app: Stageflow) -> Iterator[list[Event]]:
    """Note what is told of what operators do."""
    heard: list[Event] = []
    told = {
        "job_overdue",
        "schedule_stored",
        "schedule_fired",
        "schedule_failed",
        "schedule_removed",
        "purged",
        "stage_repaired",
    }
    told |= {"job_paused", "job_resumed", "job_cancelled"}
    with app.telemetry.listening(lambda event: heard.append(event) if event.name in told else None):
        yield heard


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the machine be in another time zone."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def store_of(app: Stageflow) -> SqliteStore:
    """Return the store behind an app."""
    store = app.repositories.store
    assert isinstance(store, SqliteStore)
    return store


def run(app: Stageflow, order: Order | None = None, controller: type[Pieces] = Four) -> str:
    """Run a job to its end, and return its id."""
    job_id = app.submit(controller, order or Order(), new_run=True).job.job_id
    drain_work(app)
    return job_id


def said(error: type[Exception], call: Any, *arguments: Any, **options: Any) -> str:
    """Return the message with which a call is refused."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    return str(caught.value)


class TestRepair:
    """What a repair keeps, and what it runs again."""

    def test_one_of_a_group_is_repaired_beside_the_others(self, app: Stageflow, events: list[Event]) -> None:
        """Named tasks run again, each once; the stages before and beside are kept, what follows is planned again."""
        job_id = run(app, Order(count=3))
        promised = app.repair(job_id, 2, tasks=[2, 0, 2], dry_run=True)
        assert promised.model_dump() == {
            "job_id": job_id,
            "former_run": 1,
            "former_status": JobStatus.COMPLETED,
            "former_error": None,
            "run": 2,
            "stage_number": 2,
            "generation": 2,
            "tasks": [0, 2],
            "kept_tasks": 1,
            "kept_stages": [1, 3],
            "later_stages": [4],
            "dry_run": True,
        }
        assert (events, app.job(job_id).run) == ([], 1)
        assert app.repair(job_id, 2, tasks=[2, 0, 2]) == promised.model_copy(update={"dry_run": False})
        assert events == [Event(name="stage_repaired", job_id=job_id, details={"run": 2, "stage": 2, "tasks": 2})]
        opened = app.repositories.stages.list_stages(job_id, 2)
        assert [(each.stage_number, each.group_first, each.group_last) for each in opened] == [(1, 1, 1), (2, 2, 3), (3, 2, 3)]
        assert drain_work(app) == 3
        assert app.job(job_id).status is JobStatus.COMPLETED

    def test_what_failed_is_found_however_much_it_is(self, app: Stageflow) -> None:
        """More than a page of tasks that failed, and none that completed; the answer has the error of the run that failed."""
        job = new_job()
        self.end(app, job, *[BAD] * 2_299, OK)
        answer = app.repair(job.job_id, 1, dry_run=True)
        assert answer.tasks == list(range(2_299))
        assert (answer.kept_tasks, answer.former_status) == (1, JobStatus.FAILED)
        assert str(answer.former_error).startswith("stage 1 failed: 2299 of 2300 tasks failed, 0 were skipped, 1 completed;")

    def test_what_a_halt_skipped_runs_again_too(self, app: Stageflow) -> None:
        """Without what completed before it."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        self.end(app, job, OK, BAD, left=2)
        assert app.repair(job.job_id, 1, dry_run=True).tasks == [1, 2, 3]

    def end(self, app: Stageflow, job: NewJob, *outcomes: TaskStatus, left: int = 0) -> None:
        """Report outcomes of a job's only stage, of which some tasks may be left, and let it be closed."""
        store = store_of(app)
        start(store, job, len(outcomes) + left)
        lease = claim_one(store, tasks_type(job), max_tasks=len(outcomes))
        complete_one(store, report(lease, *outcomes))
        store.move_clock(31)
        assert app.maintain().recovery.returned == 1
        drain_work(app)
        assert app.job(job.job_id).status is JobStatus.FAILED

    def test_where_nothing_can_be_repaired_it_is_said(self, app: Stageflow) -> None:
        """With the stages that can, or that there is none."""
        job_id = run(app)
        assert said(InvalidValueError, app.repair, job_id, 5) == (
            f"stage 5 of job {job_id}, which is completed in run 1, cannot be repaired: only a stage that has a result, beside "
            "and after stages that completed, can. In this state that is stage 1, 2, 3, 4"
        )
        cancelled = app.submit(Four, Order(), new_run=True).job.job_id
        assert said(InvalidTransitionError, app.repair, cancelled, 1).startswith(
            f"job {cancelled} is queued and cannot be repaired, which only a job that has ended can; allowed from queued: "
        )
        app.cancel(cancelled)
        assert said(InvalidValueError, app.repair, cancelled, 1) == (
            f"stage 1 of job {cancelled}, which is cancelled in run 1, cannot be repaired: only a stage that has a result, "
            "beside and after stages that completed, can. In this state that is no stage of it; resubmit the job instead"
        )
        assert said(InvalidValueError, app.repair, job_id, 1, tasks=[]) == (
            "name at least one task of stage 1, 0 to 0; None means those that failed"
        )
        assert said(InvalidValueError, app.repair, job_id, 1, tasks=[1, 0, -1]) == (
            f"stage 1 of job {job_id} has tasks 0 to 0, and not -1, 1; name those it has, `stageflow tasks JOB` lists them"
        )
        assert said(InvalidValueError, app.repair, job_id, 1) == (
            f"no task of stage 1 of job {job_id} failed, so there is nothing to run again unless you name it: give the tasks, "
            "0 to 0"
        )

    def test_a_stage_of_other_tasks_than_it_ran_is_refused(self, app: Stageflow) -> None:
        """The workflow of the same version was changed since."""
        changed = JobRegistry()

        @task("other_piece")
        def other_piece(parameters: Number, context: TaskExecutionContext) -> Number:  # noqa: ARG001  a handler's shape
            """Return what comes."""
            return parameters

        class Changed(BaseController[Order]):
            """One stage of other tasks."""

            only = stage(1, "only", task=other_piece)

            @only.plan
            def plan_only(self, job: JobExecutionContext[Order]) -> Iterator[Number]:  # noqa: ARG002  a planner's shape
                """Plan one."""
                yield Number(number=1)

        changed.register(Changed, "pieces")
        job_id = run(app)
        options: dict[str, Any] = {"tasks": [0], "dry_run": False}
        assert said(InvalidValueError, repair_stage, job_id, 1, changed, app.repositories, app.telemetry, **options) == (
            f"stage 1 of job {job_id} ran tasks of type 'piece' and is declared with 'other_piece' now; resubmit from there, "
            "or submit the work as another job (new_run)"
        )


class TestPurge:
    """What a purge deletes, and what it says of it."""

    def test_all_that_went_is_counted_and_told(self, app: Stageflow, blobs: MemoryBlobStore, events: list[Event]) -> None:
        """Jobs with tasks, letters and payloads; what was promised before, but for the payloads, which only a purge finds."""
        job_id = run(app, Order(count=2, text="x" * 2 * SMALL))
        letter = app.repositories.store.add_dead_letter(
            NewDeadLetter(queue="q", message_id="m", body=b"x" * 300, reason="not JSON", delivery_count=1)
        )
        app.discard(letter.letter_id)
        assert [each.name.partition("/")[0] for each in blobs.list_blobs("stageflow-payloads")] == [job_id]
        move_clock(app, 2 * MONTH.total_seconds())
        run(app)
        jobs_alone = app.purge(MONTH, status=JobStatus.COMPLETED)
        now = app.repositories.store.now()
        promised = app.purge(MONTH)
        assert timedelta(0) <= promised.before - (now - MONTH) < timedelta(minutes=1)
        counts: JsonObject = {"jobs": 1, "tasks": 6, "letters": 1, "payloads": 0, "kept": 0, "complete": True, "dry_run": True}
        assert promised.model_dump(include=set(counts)) == counts
        assert promised.size_bytes >= jobs_alone.size_bytes + 300
        assert jobs_alone.size_bytes > 0
        assert (jobs_alone.letters, events) == (0, [])
        done = app.purge(MONTH, dry_run=False)
        assert done.model_dump(include=set(counts)) == {**counts, "payloads": 1, "dry_run": False}
        assert promised.size_bytes + 2 * SMALL <= done.size_bytes < promised.size_bytes + 3 * SMALL
        told: JsonObject = {"jobs": 1, "tasks": 6, "letters": 1, "size_bytes": done.size_bytes}
        assert events == [Event(name="purged", details=told)]
        assert list(blobs.list_blobs("stageflow-payloads")) == []
        again = app.purge(MONTH, dry_run=False)
        assert (again.jobs, again.tasks, again.letters, again.payloads, again.size_bytes) == (0, 0, 0, 0, 0)

    def test_a_dry_run_leaves_the_payloads_of_nobody(self, app: Stageflow, blobs: MemoryBlobStore) -> None:
        """Only a purge deletes what no job owns."""
        text = '"' + "x" * SMALL + '"'
        app.repositories.payloads.store("f" * 64, text, "it")
        move_clock(app, 2 * MONTH.total_seconds())
        promised = app.purge(MONTH)
        assert (promised.payloads, promised.size_bytes, len(list(blobs.list_blobs("stageflow-payloads", prefix="f" * 64)))) == (
            0,
            0,
            1,
        )
        done = app.purge(MONTH, dry_run=False)
        assert done.payloads == 1
        assert done.size_bytes == len(text)
        assert list(blobs.list_blobs("stageflow-payloads", prefix="f" * 64)) == []

    def test_as_many_letters_as_the_limit_may_not_be_all(self, app: Stageflow) -> None:
        """So the answer says that it may not be complete, and with one more it is."""
        for name in ("m", "n"):
            new = NewDeadLetter(queue="q", message_id=name, body=b"x", reason="not JSON", delivery_count=1)
            app.discard(app.repositories.store.add_dead_letter(new).letter_id)
        move_clock(app, 2 * MONTH.total_seconds())
        assert [(each.letters, each.complete) for each in (app.purge(MONTH, limit=2), app.purge(MONTH, limit=3))] == [
            (2, False),
            (2, True),
        ]

    def test_more_jobs_than_go_in_one_transaction_go_in_several(self, app: Stageflow) -> None:
        """Up to the limit, which counts all of them; those whose work is still open are kept, and counted."""
        requests = [Order(text=str(number)) for number in range(103)]
        for submitted in app.submit_many(Timed, requests):
            app.cancel(submitted.job.job_id)
        move_clock(app, 2 * MONTH.total_seconds())
        answers = [app.purge(MONTH, limit=limit) for limit in (102, 103, 104)]
        assert [(each.jobs, each.complete) for each in answers] == [(102, False), (103, False), (103, True)]

    @pytest.mark.parametrize("age", [timedelta(microseconds=1), timedelta(hours=1), timedelta(days=36_525)], ids=str)
    @pytest.mark.parametrize("limit", [1, 1_000_000])
    def test_ages_and_limits_may_be_as_large_as_is_said(self, app: Stageflow, age: timedelta, limit: int) -> None:
        """Both bounds are allowed."""
        assert app.purge(age, limit=limit).complete

    def test_a_refusal_says_what_may_be(self, app: Stageflow) -> None:
        """By the argument that is wrong."""
        assert said(InvalidValueError, app.purge, timedelta(0)) == (
            "older_than must be longer than nothing and at most 100 years (36,525 days), got 0:00:00; pass the age from which "
            "on ended jobs may go, such as timedelta(days=30)"
        )
        assert said(InvalidValueError, app.purge, MONTH, limit=1_000_001) == (
            "limit must be 1 to 1,000,000, got 1000001; it is the most jobs that one call deletes"
        )
        assert said(InvalidTransitionError, app.purge, MONTH, status=JobStatus.PAUSED) == (
            "a job that is paused has not ended and is never purged; purge one of: cancelled, completed, "
            "completed_with_errors, failed"
        )


class TestSchedule:
    """When a schedule fires, and what it makes."""

    def test_a_schedule_is_stored_as_it_was_given(self, app: Stageflow, events: list[Event]) -> None:
        """With the first time at which it fires, in its own time zone."""
        options: dict[str, Any] = {"time_zone": "Europe/Vienna", "catch_up": "all", "priority": 7, "timeout_seconds": 90.0}
        now = app.repositories.store.now()
        stored = app.schedule("daily", Four, Order(count=2), cron="30 12 * * *", **options)
        assert stored.model_dump(exclude={"next_fire_at", "created_at", "updated_at"}) == {
            "name": "daily",
            "job_type": "pieces",
            "parameters": {"count": 2, "text": "", "other_model": False},
            "cron": "30 12 * * *",
            **options,
            "state": ScheduleState.ACTIVE,
            "last_fire_at": None,
            "last_job_id": None,
            "error_details": None,
            "damage": None,
        }
        fires = stored.next_fire_at
        assert fires is not None
        assert now < fires <= now + timedelta(hours=25)
        assert f"{fires.astimezone(ZoneInfo('Europe/Vienna')):%H:%M:%S}" == "12:30:00"
        assert events == [Event(name="schedule_stored", details={"schedule": "daily", "next_fire_at": str(fires)})]

    @pytest.mark.parametrize(("catch_up", "made"), [("all", [0, 1, 2]), ("one", [2]), ("skip", [2])])
    def test_what_was_missed_becomes_jobs_that_know_their_time(
        self, app: Stageflow, events: list[Event], catch_up: Any, made: list[int]
    ) -> None:
        """Each with the schedule's priority and time, and the first stage; to submit its request again finds it."""
        options: dict[str, Any] = {"cron": "* * * * *", "catch_up": catch_up, "priority": 7, "timeout_seconds": 90.0}
        first = app.schedule("often", Four, Order(count=2), **options).next_fire_at
        assert first is not None
        move_clock(app, (first - app.repositories.store.now()).total_seconds() + 150)
        events.clear()
        assert fire_due(registry, app.repositories, app.telemetry) == len(made)
        told: JsonObject = {"schedule": "often", "jobs": len(made), "fire_time": str(first)}
        assert events == [Event(name="schedule_fired", details=told)]
        times = [first + timedelta(minutes=each) for each in made]
        ids = []
        for fire_time in times:
            key = f"schedule:often@{fire_time.isoformat()}"
            found = app.submit(Four, Order(count=2), idempotency_key=key)
            assert found.outcome is SubmitOutcome.RUNNING
            ids.append(found.job.job_id)
            assert found.job.metadata == {"schedule": "often", "scheduled_for": fire_time.isoformat()}
            assert (found.job.priority, found.job.scheduled_for) == (7, fire_time)
            (opened,) = app.repositories.stages.list_stages(found.job.job_id, 1)
            assert (opened.stage_number, opened.name) == (1, "first")
        (fired,) = app.schedules()
        assert (fired.last_fire_at, fired.last_job_id) == (times[-1], ids[-1])
        assert fired.next_fire_at == first + timedelta(minutes=3)
        assert fire_due(registry, app.repositories, app.telemetry) == 0
        minutes[1] = 2
        drain_work(app)
        assert {app.job(job_id).status for job_id in ids} == {JobStatus.FAILED}

    def test_a_schedule_that_cannot_fire_stands_in_nobodys_way(self, app: Stageflow, events: list[Event]) -> None:
        """It fails with the reason, and those before and after it fire."""
        for name in ("a", "b", "c"):
            app.schedule(name, Four, Order(text=name), cron="* * * * *")
        with_damage = "update stageflow_schedules set parameters = '{' where name = 'b'"
        transaction = store_of(app).begin_transaction()
        transaction.connection.execute(with_damage)
        transaction.commit()
        move_clock(app, 61)
        events.clear()
        assert fire_due(registry, app.repositories, app.telemetry) == 2
        assert sorted((event.name, str(event.details["schedule"])) for event in events) == [
            ("schedule_failed", "b"),
            ("schedule_fired", "a"),
            ("schedule_fired", "c"),
        ]
        failed = app.schedules()[1]
        (told,) = (event for event in events if event.name == "schedule_failed")
        assert told.details == {"schedule": "b", "error": failed.error_details}
        assert str(failed.error_details).startswith("the schedule cannot fire: Traceback")
        assert str(failed.error_details).endswith(
            "InvalidValueError: its row is damaged: parameters is no JSON object: Invalid JSON: EOF while parsing an object at "
            "line 1 column 1; schedule it again, or remove it\n"
        )
        assert (failed.state, failed.next_fire_at) == (ScheduleState.FAILED, None)

    def test_a_schedule_that_was_changed_meanwhile_is_not_failed(self, app: Stageflow, events: list[Event]) -> None:
        """What could not fire is not there any more."""
        app.schedule("daily", Four, Order(), cron="* * * * *")
        move_clock(app, 61)

        def change() -> None:
            app.schedule("daily", Four, Order(), cron="0 0 1 1 *")
            refused.append(ValueError("there is no such order"))

        events.clear()
        acts.append(change)
        assert fire_due(registry, app.repositories, app.telemetry) == 0
        (changed,) = app.schedules()
        assert (changed.state, changed.cron, changed.error_details) == (ScheduleState.ACTIVE, "0 0 1 1 *", None)
        assert [event.name for event in events] == ["schedule_stored"]

    @pytest.mark.usefixtures("in_tokyo")
    def test_the_zone_of_the_machine_makes_no_other_jobs(self, app: Stageflow) -> None:
        """The key of a job has its fire time in UTC."""
        first = app.schedule("often", Four, Order(), cron="* * * * *").next_fire_at
        assert first is not None
        move_clock(app, 61)
        assert fire_due(registry, app.repositories, app.telemetry) == 1
        found = app.submit(Four, Order(), idempotency_key=f"schedule:often@{first.isoformat()}")
        assert found.outcome is SubmitOutcome.RUNNING
        assert str(found.job.metadata["scheduled_for"]).endswith("+00:00")

    def test_a_persons_interrupt_is_no_failure_of_a_schedule(self, app: Stageflow) -> None:
        """It ends the round, and the schedule fires in the next one."""
        app.schedule("daily", Four, Order(), cron="* * * * *")
        move_clock(app, 61)
        refused.append(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            fire_due(registry, app.repositories, app.telemetry)
        refused.clear()
        assert fire_due(registry, app.repositories, app.telemetry) == 1

    def test_a_schedule_is_changed_by_its_name(self, app: Stageflow, events: list[Event]) -> None:
        """Not another; and one that is not there is named."""
        for name in ("a", "b"):
            app.schedule(name, Four, Order(text=name), cron="30 12 * * *", time_zone="Europe/Vienna")
        fires = app.schedules()[1].next_fire_at
        assert fires is not None
        paused = app.pause_schedule("b")
        assert (paused.name, paused.state, paused.next_fire_at) == ("b", ScheduleState.PAUSED, fires)
        move_clock(app, 2 * 86_400)
        resumed = app.resume_schedule("b")
        assert (resumed.name, resumed.state) == ("b", ScheduleState.ACTIVE)
        assert resumed.next_fire_at == Cron("30 12 * * *", "Europe/Vienna").next_after(app.repositories.store.now())
        late = app.schedules()[0]
        assert app.resume_schedule("a") == late
        events.clear()
        app.unschedule("b")
        assert events == [Event(name="schedule_removed", details={"schedule": "b"})]
        assert [each.name for each in app.schedules()] == ["a"]
        for act in (app.pause_schedule, app.resume_schedule, app.unschedule):
            missing = "there is no schedule 'b'; `stageflow schedules list` shows those there are"
            assert said(ScheduleNotFoundError, act, "b") == missing

    def test_what_cannot_be_scheduled_is_said(self, app: Stageflow) -> None:
        """The parameters, their size, the expression and the time zone."""

        def refusal(parameters: Any, cron: str = "0 3 * * *", time_zone: str = "UTC") -> str:
            return said(Exception, app.schedule, "daily", Four, parameters, cron=cron, time_zone=time_zone)

        assert refusal(Number(number=1)) == (
            "schedule('pieces'): parameters must be Order, got Number: Number(number=1); pass Order(...)"
        )
        assert refusal(Order(other_model=True)) == (
            "schedule('pieces'): validate_job_parameters must be Order, got Number: Number(number=1); pass Order(...)"
        )
        assert refusal(Order(text="x" * 2_000_000)) == (
            "the parameters of the schedule 'daily': 2000041 bytes of JSON, at most 1048576 are stored; write it to a blob and "
            "pass on its name"
        )
        never = "write five fields: minute, hour, day, month, day of week"
        assert refusal(Order(), cron="0 3 * *") == f"'0 3 * *' is no cron expression; {never}"
        assert refusal(Order(), cron="61 3 * * *") == (
            "'61 3 * * *' is no cron expression: Bad minute; write five fields, such as 0 3 * * *"
        )
        assert refusal(Order(), time_zone="Mars/Base") == (
            "there is no time zone 'Mars/Base'; name one of the IANA database, such as Europe/Vienna or UTC"
        )
        assert app.schedules() == []


class TestCron:
    """What a cron expression means."""

    def test_the_newest_of_what_was_missed_are_listed(self) -> None:
        """As many as are wanted, however far they lie apart, the one that is due now among them; in UTC."""
        weekly = Cron("0 0 * * 1", "UTC")
        mondays = [datetime(2026, 1, 5, tzinfo=UTC) + timedelta(weeks=number) for number in range(9)]
        for now in (mondays[-1], mondays[-1] + timedelta(days=2)):
            for most in range(1, 9):
                assert weekly.missed(mondays[0], now, most) == mondays[-most:]
        assert weekly.missed(mondays[0], mondays[1], 10) == mondays[:2]
        assert weekly.missed(mondays[0], mondays[-1], 10) == mondays
        assert [each.tzinfo for each in weekly.missed(mondays[0], mondays[2], 3)] == [UTC] * 3

    @pytest.mark.usefixtures("in_tokyo")
    def test_the_zone_of_the_machine_does_not_matter(self) -> None:
        """Only the one that is named does, and answers are in UTC."""
        daily = Cron("30 12 * * *", "Europe/Vienna")
        noon = datetime(2026, 1, 5, 11, 30, tzinfo=UTC)
        times = [noon + timedelta(days=number) for number in range(3)]
        assert daily.next_after(noon) == times[1]
        assert daily.next_after(noon).tzinfo is UTC
        assert daily.missed(times[0], times[2], 2) == times[1:]

    def test_what_never_fires_is_said(self) -> None:
        """With the expression."""
        assert said(InvalidValueError, Cron, "0 0 */30 2 1#5", "UTC") == (
            "the cron expression '0 0 */30 2 1#5' never fires; name a day that exists"
        )


class TestDeadline:
    """What is said of a job that is late."""

    @pytest.mark.parametrize(
        ("slow", "unfinished"),
        [
            (0, "stage 1 (first) planning; stages 2 to 4 not begun"),
            (1, "stage 1 (first) processing, 0 of 2 tasks without a result; stages 2 to 4 not begun"),
            (
                2,
                (
                    "stage 2 (left) processing, 1 of 2 tasks without a result; stage 3 (right) processing, 0 of 1 tasks "
                    "without a result; stage 4 not begun"
                ),
            ),
            (4, "stage 4 (last) processing, 0 of 1 tasks without a result"),
        ],
    )
    def test_what_was_unfinished_is_listed(self, app: Stageflow, events: list[Event], slow: int, unfinished: str) -> None:
        """Open stages with their tasks, and those not begun."""
        deadline = app.repositories.store.now() + timedelta(minutes=1)
        job_id = app.submit(Four, Order(count=2), deadline=deadline).job.job_id
        minutes[slow] = 2
        if not slow:
            move_clock(app, 61)
        drain_work(app)
        error = str(app.job(job_id).error_details)
        assert events == [Event(name="job_overdue", job_id=job_id, details={"stage": None, "error": error})]
        assert error == (
            f"the job had not ended by its deadline, {deadline:%Y-%m-%d %H:%M:%S} UTC; unfinished: {unfinished}. Give it more "
            "time, or less to do, and resubmit it."
        )

    def test_a_stage_that_is_late_is_named(self, app: Stageflow, events: list[Event]) -> None:
        """And its deadline; one that was closed in time is never late."""
        minutes[2] = 20
        job_id = run(app, controller=Timed)
        assert (app.job(job_id).status, events) == (JobStatus.COMPLETED, [])
        minutes[1] = 11
        late = run(app, controller=Timed)
        error = str(app.job(late).error_details)
        assert events == [Event(name="job_overdue", job_id=late, details={"stage": 1, "error": error})]
        assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", error) == (
            "the job had not ended by the deadline of stage 1, TIME UTC; unfinished: stage 1 (first) processing, 0 of 1 tasks "
            "without a result; stage 2 not begun. Give it more time, or less to do, and resubmit it."
        )

    def test_a_job_that_only_had_to_end_says_so(self, app: Stageflow) -> None:
        """All its stages were closed when the process that was to end it was cut off."""
        deadline = app.repositories.store.now() + timedelta(minutes=1)
        job_id = app.submit(Cut, Order(), deadline=deadline).job.job_id
        with pytest.raises(KeyboardInterrupt):
            drain_work(app)
        move_clock(app, 61)
        assert app.maintain().overdue == 1
        assert app.job(job_id).error_details == (
            f"the job had not ended by its deadline, {deadline:%Y-%m-%d %H:%M:%S} UTC; unfinished: the end of the job. Give it "
            "more time, or less to do, and resubmit it."
        )

    def test_all_that_are_late_are_ended_and_counted(self, app: Stageflow, events: list[Event]) -> None:
        """Each once."""
        deadline = app.repositories.store.now() + timedelta(minutes=1)
        jobs = [app.submit(Four, Order(count=count), deadline=deadline).job.job_id for count in (1, 2, 3)]
        move_clock(app, 61)
        assert [app.maintain().overdue for _ in range(2)] == [3, 0]
        assert sorted(event.job_id for event in events) == sorted(jobs)

    def test_a_job_is_late_from_its_deadline_on(self, app: Stageflow) -> None:
        """That moment included; one that has ended never is."""
        deadline = app.repositories.store.now() + timedelta(minutes=1)
        job_id = app.submit(Four, Order(), deadline=deadline).job.job_id
        early = app.repositories.jobs.require_job_state(job_id)
        assert not end_if_overdue(early, app.repositories, app.telemetry)
        move_clock(app, 61)
        assert end_if_overdue(early.model_copy(update={"now": deadline}), app.repositories, app.telemetry)
        ended = app.repositories.jobs.require_job_state(job_id)
        assert not end_if_overdue(ended, app.repositories, app.telemetry)

    def test_a_job_that_lost_the_rows_of_its_stages_is_ended_too(self, app: Stageflow) -> None:
        """All of it had not begun, as far as anybody can see."""
        deadline = app.repositories.store.now() + timedelta(minutes=1)
        job_id = app.submit(Four, Order(), deadline=deadline).job.job_id
        move_clock(app, 61)
        bare = app.repositories.jobs.require_job_state(job_id).model_copy(update={"stages": []})
        assert end_if_overdue(bare, app.repositories, app.telemetry)
        assert "; unfinished: stages 1 to 4 not begun." in str(app.job(job_id).error_details)


class TestSubmission:
    """What becomes of a request."""

    def test_a_new_job_is_answered_as_it_is_stored(self, app: Stageflow) -> None:
        """With all that was asked for; the same request finds it, running and ended."""
        now = app.repositories.store.now()
        options: dict[str, Any] = {
            "priority": 3,
            "not_before": now + timedelta(minutes=1),
            "max_running": 5,
            "deadline": now + timedelta(hours=1),
            "idempotency_key": "k",
        }
        made = app.submit(Four, Order(count=2), **options)
        assert (made.outcome, made.job) == (SubmitOutcome.CREATED, app.repositories.jobs.require_job(made.job.job_id))
        assert (made.job.job_type, made.job.workflow_version, made.job.total_stages, made.job.run) == ("pieces", 1, 4, 1)
        asked = {name: value for name, value in options.items() if name not in {"idempotency_key", "max_running"}}
        assert {name: getattr(made.job, name) for name in asked} == asked
        found = app.submit(Four, Order(count=2), **options)
        assert (found.outcome, found.job) == (SubmitOutcome.RUNNING, made.job)
        drain_work(app)
        ended = app.submit(Four, Order(count=2), **options)
        assert (ended.outcome, ended.job) == (SubmitOutcome.ENDED, app.repositories.jobs.require_job(made.job.job_id))
        again = app.submit(Four, Order(count=2)).job.job_id
        mixed = app.submit_many(Four, [Order(count=3), Order(count=2)])
        assert [each.outcome for each in mixed] == [SubmitOutcome.CREATED, SubmitOutcome.RUNNING]
        assert mixed[1].job.job_id == again
        assert app.submit(Four, Order(count=2), new_run=True).job.job_id != again

    def test_a_job_that_a_transaction_meets_is_answered_unread(self, tmp_path: Path) -> None:
        """As running, with what was asked for: within the application's transaction the engine reads nothing."""
        path = tmp_path / "jobs.db"
        with Stageflow(f"sqlite:{path}", registry=registry) as app, closing(sqlite3.connect(path)) as connection:
            app.migrate()
            made = app.submit(Four, Order(), idempotency_key="k")
            app.cancel(made.job.job_id)
            met = app.submit(Four, Order(), idempotency_key="k", priority=4, connection=connection)
            assert (met.outcome, met.job.job_id, met.job.status) == (SubmitOutcome.RUNNING, made.job.job_id, JobStatus.QUEUED)
            assert met.job.priority == 4
            assert timedelta(0) <= met.job.created_at - made.job.created_at < timedelta(minutes=1)
            new = app.submit(Four, Order(count=2), connection=connection)
            assert new.outcome is SubmitOutcome.CREATED
            connection.rollback()
            assert [job.job_id for job in app.repositories.jobs.list_jobs()] == [made.job.job_id]

    def test_only_a_new_job_is_told(self, app: Stageflow) -> None:
        """With its type, once; and it has the time that it was given."""
        heard: list[Event] = []
        with app.telemetry.listening(heard.append):
            job_id = app.submit(Four, Order(), timeout_seconds=90).job.job_id
            app.submit(Four, Order(), timeout_seconds=90)
        assert heard == [Event(name="job_created", job_id=job_id, details={"job_type": "pieces"})]
        minutes[1] = 2
        drain_work(app)
        assert app.job(job_id).status is JobStatus.FAILED

    def test_large_parameters_lie_under_the_job_that_has_them(self, app: Stageflow, blobs: MemoryBlobStore) -> None:
        """And come back; too large ones are refused by their name, and nothing is stored."""
        order = Order(text="x" * SMALL)
        job_id = app.submit(Four, order).job.job_id
        (blob,) = (each.name for each in blobs.list_blobs("stageflow-payloads") if each.name.startswith(job_id))
        state = app.repositories.jobs.require_job_state(job_id)
        assert blob.removeprefix(f"{job_id}/") in str(state.job.shelved["parameters"])
        assert app.job(job_id).parameters == order.model_dump()
        said_of_it = said(PayloadTooLargeError, app.submit, Four, Order(text="x" * LARGE))
        assert said_of_it.startswith("the parameters of a job 'pieces': 1000")
        assert len(app.repositories.jobs.list_jobs()) == 1

    def test_a_key_belongs_to_one_request_of_one_version(self, app: Stageflow) -> None:
        """The same key with other parameters is a mistake; the job knows the version that it was submitted for."""
        app.submit(Four, Order(count=1), idempotency_key="k")
        assert "'k'" in said(IdempotencyConflictError, app.submit, Four, Order(count=2), idempotency_key="k")
        assert app.submit(Third, Order()).job.workflow_version == 3

    @pytest.mark.parametrize(
        ("request_", "parameter"),
        [(Number(number=1), "parameters"), (Order(other_model=True), "validate_job_parameters")],
        ids=["parameters", "validated"],
    )
    def test_a_wrong_model_is_a_violation_with_its_place(self, app: Stageflow, request_: Any, parameter: str) -> None:
        """Given by the caller, or by the workflow's own check; nothing is stored."""
        with pytest.raises(ContractViolationError) as caught:
            app.submit("pieces", request_)
        preview = "Number(number=1)" if parameter == "parameters" else "Order(count=1, text='', other_model=True)"
        assert str(caught.value) == (
            f"submit('pieces'): {parameter} must be Order, got Number: Number(number=1); pass Order(...)"
        )
        assert vars(caught.value) == {
            "function": "submit",
            "parameter": parameter,
            "expected": "Order",
            "actual": "Number",
            "path": parameter,
            "preview": preview,
        }
        assert app.repositories.jobs.list_jobs() == []

    def test_a_cancelled_job_keeps_the_reason(self, app: Stageflow, events: list[Event]) -> None:
        """Without what is secret in it; one that says nothing, or cannot be stored, is refused."""
        job_id = app.submit(Four, Order()).job.job_id
        assert said(InvalidValueError, app.cancel, job_id, reason=" ") == (
            "the reason is blank; say why the job is cancelled, or leave the reason out"
        )
        assert said(InvalidValueError, app.cancel, job_id, reason="a\0b") == (
            "the reason holds NUL or a lone surrogate, which no store can hold: 'a\\x00b'; remove it"
        )
        ended = app.cancel(job_id, reason="password=hunter2 leaked")
        assert ended.status is JobStatus.CANCELLED
        assert "hunter2" not in str(ended.error_details)
        assert "leaked" in str(ended.error_details)
        assert app.job(job_id).error_details == ended.error_details
        assert events == [Event(name="job_cancelled", job_id=job_id)]


class TestPause:
    """Pausing and going on."""

    def test_a_job_goes_on_where_it_stood(self, app: Stageflow, events: list[Event]) -> None:
        """Queued before anything of it began, and else at work; what is not paused says what it may become."""
        job_id = app.submit(Four, Order()).job.job_id
        assert said(InvalidTransitionError, app.resume, job_id).startswith(
            f"job {job_id} is queued and cannot be resumed, which only a paused job can; allowed from queued: cancelled, "
        )
        assert app.pause(job_id).status is JobStatus.PAUSED
        assert app.resume(job_id).status is JobStatus.QUEUED
        assert events == [Event(name="job_paused", job_id=job_id), Event(name="job_resumed", job_id=job_id)]

        def pause(event: Event) -> None:
            if event.name == "stage_advanced":
                app.pause(job_id)

        with app.telemetry.listening(pause):
            drain_work(app)
        assert app.job(job_id).status is JobStatus.PAUSED
        assert app.resume(job_id).status is JobStatus.PROCESSING
        drain_work(app)
        assert app.job(job_id).status is JobStatus.COMPLETED
