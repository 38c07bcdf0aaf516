"""What the engine tells of what it does: events for operators, words for those it refuses."""

from collections.abc import Iterator
from typing import Any

import pytest

from stageflow import (
    BaseController,
    Contract,
    ContractViolationError,
    DeadLetterNotFoundError,
    InvalidTransitionError,
    InvalidValueError,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    OrchestrationAction,
    OrchestrationDataContract,
    PermanentTaskError,
    RetryPolicy,
    Stageflow,
    StageResults,
    TaskCancelledError,
    TaskExecutionContext,
    TaskStatus,
    stage,
    task,
    workflow,
)
from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.base import JsonObject
from stageflow.contracts.lease import ClaimRequest, CompletionOutcome, RangeCompletion, Recovery
from stageflow.engine.recover import recover_work
from stageflow.engine.schedules import fire_due
from stageflow.engine.writes import HandlerWrites, Written
from stageflow.telemetry import Event
from stageflow.testing.conformance.builders import claim_one, let_leases_expire, new_job, report, start, tasks_type
from stageflow.testing.drain import drain_work, move_clock

registry = JobRegistry()
bad: set[int] = set()
seen: list[Any] = []


class Count(Contract):
    """Job parameters."""

    count: int


class Item(Contract):
    """Task parameters and results."""

    index: int


@task("step", retry=RetryPolicy(max_attempts=1))
def step(parameters: Item, context: TaskExecutionContext) -> Item:
    """Tell how far it is and keep where it stands; fail where that is wished."""
    seen.append(context.last_checkpoint(Item))
    context.progress(1, 1)
    context.checkpoint(Item(index=parameters.index + 10))
    seen.append(context.last_checkpoint(Item))
    if parameters.index in bad:
        msg = "it is bad"
        raise PermanentTaskError(msg)
    return parameters


@workflow("steps", registry=registry)
class Steps(BaseController[Count]):
    """Two stages, one after the other."""

    first = stage(1, "first", task=step)
    second = stage(2, "second", task=step, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Count]) -> Iterator[Item]:
        """Plan the items."""
        for index in range(job.parameters.count):
            yield Item(index=index)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Count], first: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """Plan them again."""
        yield from first


@workflow("forked", registry=registry)
class Forked(BaseController[Count]):
    """A parallel group of two after the first stage."""

    forks = stage(1, "forks", task=step)
    left = stage(2, "left", task=step, after=forks)
    right = stage(3, "right", task=step, after=forks)

    @forks.plan
    def plan_forks(self, job: JobExecutionContext[Count]) -> Iterator[Item]:  # noqa: ARG002
        """Plan one item."""
        yield Item(index=0)

    @forks.orchestrate
    def fork(self, job: JobExecutionContext[Count], results: StageResults[Item]) -> OrchestrationDataContract:  # noqa: ARG002
        """Run the other two together."""
        return OrchestrationDataContract(action=OrchestrationAction.PARALLEL_STAGES, stages=[2, 3])

    @left.plan
    def plan_left(self, job: JobExecutionContext[Count], forks: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """Plan what goes well."""
        yield Item(index=1)

    @right.plan
    def plan_right(self, job: JobExecutionContext[Count], forks: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """Plan what goes wrong at first."""
        yield Item(index=2)


@pytest.fixture
def app() -> Iterator[Stageflow]:
    """Give an app in memory."""
    bad.clear()
    seen.clear()
    with Stageflow("sqlite::memory:", registry=registry) as app:
        app.migrate()
        yield app


@pytest.fixture
def events(app: Stageflow) -> Iterator[list[Event]]:
    """Note all events, but for those that come often."""
    heard: list[Event] = []
    often = {"range_completed", "lease_claimed"}
    with app.telemetry.listening(lambda event: None if event.name in often else heard.append(event)):
        yield heard


def test_a_job_tells_of_each_of_its_steps(app: Stageflow, events: list[Event]) -> None:
    """By its id, from its creation to its end."""
    job_id = app.submit(Steps, Count(count=1)).job.job_id
    drain_work(app)
    assert [event for event in events if event.name != "task_progress"] == [
        Event(name="job_created", job_id=job_id, details={"job_type": "steps"}),
        Event(name="stage_planned", job_id=job_id, details={"stage": 1}),
        Event(name="stage_advanced", job_id=job_id, details={"stage": 1, "outcome": "advanced"}),
        Event(name="stage_planned", job_id=job_id, details={"stage": 2}),
        Event(name="stage_advanced", job_id=job_id, details={"stage": 2, "outcome": "final"}),
        Event(name="job_completed", job_id=job_id, details={"status": "completed"}),
    ]


def test_a_job_that_fails_and_runs_again_tells_so(app: Stageflow, events: list[Event]) -> None:
    """With the run, and where it goes on; what was only tried dry tells nothing."""
    bad.add(0)
    job_id = app.submit(Steps, Count(count=1)).job.job_id
    drain_work(app)
    assert events[-1] == Event(name="job_failed", job_id=job_id, details={"stage": 1})
    events.clear()
    app.resubmit(job_id, dry_run=True)
    app.repair(job_id, 1, dry_run=True)
    assert events == []
    app.resubmit(job_id)
    app.cancel(job_id)
    app.resubmit(job_id)
    drain_work(app)
    bad.clear()
    app.repair(job_id, 1)
    again: JsonObject = {"run": 2, "from_stage": 1}
    assert [event for event in events if event.name in {"job_resubmitted", "job_cancelled", "stage_repaired"}] == [
        Event(name="job_resubmitted", job_id=job_id, details=again),
        Event(name="job_cancelled", job_id=job_id),
        Event(name="job_resubmitted", job_id=job_id, details={**again, "run": 3}),
        Event(name="stage_repaired", job_id=job_id, details={"run": 4, "stage": 1, "tasks": 1}),
    ]


def test_what_operators_do_is_told(app: Stageflow, events: list[Event]) -> None:
    """Each verb by its name, with what it was done to."""
    job_id = app.submit(Steps, Count(count=1)).job.job_id
    app.pause(job_id)
    app.resume(job_id)
    app.limit_task_type("steps", "step", max_running=2)
    app.reset_task_type("steps", "step")
    app.pause_task_type("steps", "step")
    app.resume_task_type("steps", "step")
    stored = app.schedule("daily", Steps, Count(count=1), cron="0 2 * * *")
    app.unschedule("daily")
    kind: JsonObject = {"job_type": "steps", "task_type": "step"}
    assert events[1:] == [
        Event(name="job_paused", job_id=job_id),
        Event(name="job_resumed", job_id=job_id),
        Event(name="task_type_limited", details={**kind, "max_running": 2, "max_per_second": None}),
        Event(name="task_type_reset", details=kind),
        Event(name="task_type_paused", details=kind),
        Event(name="task_type_resumed", details=kind),
        Event(name="schedule_stored", details={"schedule": "daily", "next_fire_at": str(stored.next_fire_at)}),
        Event(name="schedule_removed", details={"schedule": "daily"}),
    ]


def test_a_schedule_that_fires_tells_of_its_fire_time(app: Stageflow, events: list[Event]) -> None:
    """With the number of jobs; an unknown time zone is shown."""
    stored = app.schedule("daily", Steps, Count(count=1), cron="0 2 * * *", catch_up="one")
    events.clear()
    assert fire_due(registry, app.repositories, app.telemetry) == 0
    move_clock(app, 86_400)
    assert fire_due(registry, app.repositories, app.telemetry) == 1
    fired: JsonObject = {"schedule": "daily", "jobs": 1, "fire_time": str(stored.next_fire_at)}
    assert events == [Event(name="schedule_fired", details=fired)]
    with pytest.raises(InvalidValueError, match="there is no time zone 'Mars/Base'; name one of the IANA database"):
        app.schedule("there", Steps, Count(count=1), cron="0 2 * * *", time_zone="Mars/Base")


def test_recovered_work_is_counted(app: Stageflow, events: list[Event]) -> None:
    """By what was done; a round that found nothing tells nothing."""
    assert recover_work(app.repositories, app.telemetry, expired=None, death_budget=3) == Recovery()
    assert events == []
    app.submit(Steps, Count(count=1))
    request = ClaimRequest(worker_id="dies", work_types=["steps/1"], max_tasks=[1], max_leases=1, lease_seconds=10)
    assert app.repositories.leases.claim_work(request).leases
    move_clock(app, 11)
    answer = recover_work(app.repositories, app.telemetry, expired=None, death_budget=3)
    assert answer != Recovery()
    assert events[1:] == [Event(name="work_recovered", details=answer.model_dump())]
    drain_work(app)


def test_a_plan_is_given_up_after_twice_as_many_deaths_as_tasks_may_have(app: Stageflow) -> None:
    """What cannot be told apart from its neighbours gets the double budget, and no more."""
    job_id = app.submit(Steps, Count(count=1)).job.job_id
    request = ClaimRequest(worker_id="dies", work_types=["steps/1"], max_tasks=[1], max_leases=1, lease_seconds=10)
    for deaths in range(4):
        assert app.job(job_id).status is not JobStatus.FAILED, deaths
        assert app.repositories.leases.claim_work(request).leases
        move_clock(app, 11)
        recover_work(app.repositories, app.telemetry, expired=None, death_budget=2)
        move_clock(app, 3600)
        recover_work(app.repositories, app.telemetry, expired=None, death_budget=2)
    assert app.job(job_id).status is JobStatus.FAILED


def test_a_checkpoint_is_kept_for_its_own_task(app: Stageflow) -> None:
    """Each task reads its own, and at first none."""
    app.submit(Steps, Count(count=2))
    drain_work(app)
    stage_one = [None, Item(index=10), None, Item(index=11)]
    assert seen == stage_one * 2


def test_a_request_that_is_no_parameter_model_is_a_violation(app: Stageflow) -> None:
    """A program reads what a person does."""
    with pytest.raises(ContractViolationError) as caught:
        app.submit("steps", Item(index=1))
    assert str(caught.value) == "submit('steps'): parameters must be Count, got Item: Item(index=1); pass Count(...)"
    assert vars(caught.value) == {
        "function": "submit",
        "parameter": "parameters",
        "expected": "Count",
        "actual": "Item",
        "path": "parameters",
        "preview": "Item(index=1)",
    }


def test_a_stage_from_which_nothing_goes_on_is_told_with_those_that_do(app: Stageflow) -> None:
    """By their numbers, for the run that ended."""
    bad.add(1)
    job_id = app.submit(Steps, Count(count=2)).job.job_id
    drain_work(app)
    with pytest.raises(InvalidValueError) as caught:
        app.resubmit(job_id, from_stage=2)
    assert str(caught.value) == (
        f"job {job_id} is failed and cannot be resubmitted from stage 2; in this state it can from stage 1: those that its run "
        "1 had begun and whose predecessors had completed"
    )
    answer = app.resubmit(job_id)
    assert (answer.former_run, answer.run, answer.former_status, answer.from_stage) == (1, 2, JobStatus.FAILED, 1)
    assert (answer.kept_stages, answer.kept_tasks, answer.dry_run) == ([], 0, False)
    assert "1 of 2 tasks failed" in str(answer.former_error)


def test_a_parallel_group_runs_again_as_a_whole(app: Stageflow) -> None:
    """From its first stage, with its siblings; the refusal lists where the job can go on."""
    bad.add(2)
    job_id = app.submit(Forked, Count(count=1)).job.job_id
    drain_work(app)
    with pytest.raises(
        InvalidValueError, match="cannot be resubmitted from stage 3; in this state it can from stage 1, 2: those"
    ):
        app.resubmit(job_id, from_stage=3)
    bad.clear()
    seen.clear()
    answer = app.resubmit(job_id, from_stage=2)
    assert (answer.kept_stages, answer.kept_tasks) == ([1], 1)
    opened = app.repositories.stages.list_stages(job_id, 2)
    assert [(each.stage_number, each.group_first, each.group_last) for each in opened] == [(1, 1, 1), (2, 2, 3), (3, 2, 3)]
    drain_work(app)
    assert seen == [None, Item(index=11), None, Item(index=12)]
    assert app.job(job_id).status is JobStatus.COMPLETED
    with pytest.raises(InvalidTransitionError, match=f"^job {job_id} is completed and cannot be resubmitted"):
        app.resubmit(job_id)


def test_the_tasks_that_can_be_repaired_are_told(app: Stageflow) -> None:
    """First and last of the stage, whatever was asked for."""
    job_id = app.submit(Steps, Count(count=3)).job.job_id
    drain_work(app)
    for asked, said in (
        ([], "name at least one task of stage 1, 0 to 2; None means those that failed"),
        (
            None,
            (
                f"no task of stage 1 of job {job_id} failed, so there is nothing to run again unless you name it: give the "
                "tasks, 0 to 2"
            ),
        ),
        (
            [3, 0, -1],
            f"stage 1 of job {job_id} has tasks 0 to 2, and not -1, 3; name those it has, `stageflow tasks JOB` lists them",
        ),
    ):
        with pytest.raises(InvalidValueError) as caught:
            app.repair(job_id, 1, tasks=asked)
        assert str(caught.value) == said


def test_a_letter_that_is_not_there_is_named(app: Stageflow) -> None:
    """With the way to those that are."""
    for act in (app.dead_letter, app.requeue, app.discard):
        with pytest.raises(DeadLetterNotFoundError) as caught:
            act(7)
        assert str(caught.value) == "there is no dead letter 7; list them with `stageflow letters list`"


def test_only_the_task_that_runs_gets_a_transaction(app: Stageflow) -> None:
    """Not the one before it, and nobody once the door is closed; who asks twice gets the same connection."""
    writes = HandlerWrites(app.repositories, worker_id="w", lease_seconds=10.0)
    over = "task 4 is over: its handler came too late to ask for a transaction, stop"
    with pytest.raises(TaskCancelledError) as caught:
        writes.connection_of(4)
    assert str(caught.value) == over
    writes.admit(5)
    with pytest.raises(TaskCancelledError) as caught:
        writes.connection_of(4)
    assert str(caught.value) == over
    assert not writes.close_door()
    writes.admit(5)
    connection = writes.connection_of(5)
    assert writes.connection_of(5) is connection
    assert writes.is_open
    assert writes.close_door()
    with pytest.raises(TaskCancelledError):
        writes.connection_of(5)
    writes.roll_back()
    assert writes.refusal is None


def test_what_a_handler_wrote_is_committed_with_its_task_or_not_at_all(app: Stageflow) -> None:
    """With those of the same lease before it; who lost the lease writes nothing, and gets the answer of its own task alone."""
    store, job = app.repositories.store, new_job()
    assert isinstance(store, SqliteStore)
    start(store, job, 4)
    lease = claim_one(store, tasks_type(job))
    writes = HandlerWrites(app.repositories, worker_id="ada", lease_seconds=10.0)

    def write(index: int, *before: RangeCompletion) -> tuple[list[CompletionOutcome], Written]:
        writes.admit(index)
        writes.connection_of(index).execute(f"create table of_{index} (number integer)")
        writes.close_door()
        writes.offer(before)
        offered = writes.is_offered
        answers = writes.complete(report(lease, TaskStatus.COMPLETED, first=index))
        written = writes.settled()
        assert (offered, writes.is_offered, writes.is_open, writes.refusal) == (True, False, False, None)
        return [answer.outcome for answer in answers], written

    recorded, stale = CompletionOutcome.RECORDED, CompletionOutcome.STALE
    assert write(1, report(lease, TaskStatus.COMPLETED)) == ([recorded, recorded], Written.COMMITTED)
    let_leases_expire(store)
    claim_one(store, tasks_type(job), worker="bob")
    assert write(2) == ([stale], Written.STALE)
    assert write(3, report(lease, TaskStatus.COMPLETED, first=2)) == ([stale], Written.STALE)
    transaction = store.begin_transaction()
    tables = [
        name
        for (name,) in transaction.connection.execute("select name from sqlite_master where name like 'of\\__' escape '\\'")
    ]
    transaction.roll_back()
    assert tables == ["of_1"]
