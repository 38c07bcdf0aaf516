"""How a stage is closed, one lease at a time: what is answered, told, stored and handed to the hooks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    OrchestrationAction,
    OrchestrationDataContract,
    PayloadOptions,
    PayloadsUnreachableError,
    RetryableTaskError,
    StageAggregate,
    StageExecutionContext,
    Stageflow,
    StageResults,
    StageStatus,
    TaskExecutionContext,
    TaskStatus,
    stage,
    task,
    workflow,
)
from stageflow.backends.memory import MemoryBlobStore
from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.base import JsonObject
from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.event import EventKind
from stageflow.contracts.job import NewJob
from stageflow.contracts.lease import Lease, WorkKind
from stageflow.engine.advance import Advanced, advance_stage
from stageflow.engine.calls import Asker
from stageflow.engine.reading import read_leased_job
from stageflow.errors import BlobStoreUnreachableError
from stageflow.telemetry import Event
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    ask,
    chunk,
    claim_all,
    claim_one,
    claim_plan,
    complete_one,
    control_type,
    create,
    new_job,
    new_stage,
    plan_all,
    report,
    take_advance,
    tasks_type,
)
from stageflow.workflow.current import get_current_job

registry = JobRegistry()
IN_A_ROW = 3_000
MOST = 6_000


class Name(Contract):
    """Job parameters."""

    name: str


class Index(Contract):
    """Task parameters."""

    index: int


class Of(Contract):
    """Task results."""

    of: int


class Answer(Contract):
    """What the job answers."""

    sums: dict[int, int]
    names: list[str]
    text: str


@dataclass
class Wish:
    """What the hooks are to do, and what they saw."""

    advances: bool = True
    added: StageAggregate = field(default_factory=StageAggregate)
    text: str = ""
    raises: dict[str, BaseException] = field(default_factory=dict)
    returns: dict[str, object] = field(default_factory=dict)
    silence_in_hook: int = 0
    combining: list[JobExecutionContext[Any] | None] = field(default_factory=list)
    contexts: list[StageExecutionContext] = field(default_factory=list)

    def of(self, hook: str, answer: object) -> Any:
        """Return a hook's answer, or raise what is wished."""
        if hook in self.raises:
            raise self.raises[hook]
        return self.returns.get(hook, answer)


wish = Wish()


@task("work")
def work(parameters: Index, context: TaskExecutionContext) -> Of:  # noqa: ARG001  the shape of a handler
    """Stand for the task whose outcomes the tests report."""
    return Of(of=parameters.index)


class Wishing(BaseController[Name]):
    """Does in its hooks what a test wishes."""

    def aggregate_stage_results(
        self,
        job: JobExecutionContext[Name],
        stage: StageExecutionContext,
        results: StageResults[Any],
    ) -> StageAggregate:
        """Note the stage."""
        assert get_current_job(job.job_id) is job
        wish.contexts.append(stage)
        blobs.silent += wish.silence_in_hook
        assert all(each.of >= 0 for each in results)
        answer: StageAggregate = wish.of("aggregate_stage_results", wish.added)
        return answer

    def should_advance_stage(self, job: JobExecutionContext[Name], stage: StageExecutionContext) -> bool:
        """Say what is wished, or what the policy says."""
        assert get_current_job(job.job_id) is job
        answer: bool = wish.of("should_advance_stage", wish.advances and super().should_advance_stage(job, stage))
        return answer

    def aggregate_job_results(self, job: JobExecutionContext[Name], stage_results: dict[int, StageResults[Any]]) -> Answer:
        """Add up each stage."""
        assert get_current_job(job.job_id) is job
        assert [results.stage_number for results in stage_results.values()] == list(stage_results)
        sums = {number: sum(each.of for each in results) for number, results in stage_results.items()}
        names = [str(job.get_stage_result(number).metadata.get("name", job.parameters.name)) for number in stage_results]
        answer: Answer = wish.of("aggregate_job_results", Answer(sums=sums, names=names, text=wish.text))
        return answer


@workflow("line", registry=registry)
class Line(Wishing):
    """Two stages, one after the other."""

    first = stage(1, "first", task=work)
    second = stage(2, "second", task=work)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Name]) -> Iterator[Index]:  # noqa: ARG002  the shape of a planner
        """Plan what the tests plan."""
        yield Index(index=0)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Name]) -> Iterator[Index]:  # noqa: ARG002
        """Plan what the tests plan."""
        yield Index(index=0)


@workflow("fork", registry=registry)
class Fork(Wishing):
    """Three stages, of which two may be a group; failures are let pass."""

    first = stage(1, "first", task=work, policy=FailurePolicy.at_least(30))
    second = stage(2, "second", task=work, policy=FailurePolicy.at_least(30))
    third = stage(3, "third", task=work)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Name]) -> Iterator[Index]:  # noqa: ARG002  the shape of a planner
        """Plan what the tests plan."""
        yield Index(index=0)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Name]) -> Iterator[Index]:  # noqa: ARG002
        """Plan what the tests plan."""
        yield Index(index=0)

    @third.plan
    def plan_third(self, job: JobExecutionContext[Name]) -> Iterator[Index]:  # noqa: ARG002
        """Plan what the tests plan."""
        yield Index(index=0)


@workflow("folding", registry=registry)
class Folding(Wishing):
    """One stage whose results are combined."""

    only = stage(1, "only", task=work)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Name]) -> Iterator[Index]:  # noqa: ARG002  the shape of a planner
        """Plan what the tests plan."""
        yield Index(index=0)

    @only.combine
    def combine_only(self, left: Of, right: Of) -> Of:
        """Add, for the job that is current."""
        wish.combining.append(get_current_job(new_job().job_id))
        answer: Of = wish.of("combine", Of(of=left.of + right.of))
        return answer


class RestlessBlobs(MemoryBlobStore):
    """Does not answer as often as it should not."""

    silent = 0

    def _answer(self) -> None:
        if self.silent:
            self.silent -= 1
            msg = "the line is cut; password=hunter2 is of no use"
            raise BlobStoreUnreachableError(msg)

    def write(self, *arguments: Any, **options: Any) -> Any:
        """Write, or do not answer."""
        self._answer()
        return super().write(*arguments, **options)

    def read_chunks(self, *arguments: Any, **options: Any) -> Iterator[bytes]:
        """Read, or do not answer."""
        self._answer()
        return super().read_chunks(*arguments, **options)


blobs = RestlessBlobs()


@contextmanager
def make_app(*, patience_seconds: float) -> Iterator[Stageflow]:
    """Open an app in memory with small rows, and forget all wishes."""
    vars(wish).update(vars(Wish()))
    blobs.silent = 0
    payloads = PayloadOptions(inline_bytes=IN_A_ROW, max_bytes=MOST, patience_seconds=patience_seconds)
    with Stageflow("sqlite::memory:", registry=registry, blobs=blobs, payloads=payloads) as app:
        app.migrate()
        yield app


@pytest.fixture
def app() -> Iterator[Stageflow]:
    """Give an app in memory with small rows, that does not wait for its blob store."""
    with make_app(patience_seconds=0) as app:
        yield app


@pytest.fixture
def patient() -> Iterator[Stageflow]:
    """Give an app that waits for its blob store."""
    with make_app(patience_seconds=30) as app:
        yield app


@pytest.fixture
def events(app: Stageflow) -> Iterator[list[Event]]:
    """Note all events."""
    heard: list[Event] = []
    with app.telemetry.listening(heard.append):
        yield heard


def store_of(app: Stageflow) -> SqliteStore:
    """Return the store behind an app."""
    store = app.repositories.store
    assert isinstance(store, SqliteStore)
    return store


def run_stage(app: Stageflow, job: NewJob, *outcomes: TaskStatus) -> Lease:
    """Plan and run the stage of a job that is next, and return the lease on closing it."""
    store = store_of(app)
    plan_all(store, job, len(outcomes))
    return report_stage(app, job, *outcomes)


def report_stage(app: Stageflow, job: NewJob, *outcomes: TaskStatus) -> Lease:
    """Report the outcomes of a stage that is planned."""
    store = store_of(app)
    lease = claim_one(store, tasks_type(job))
    return take_advance(store, job, complete_one(store, report(lease, *outcomes)))


def begin(app: Stageflow, job: NewJob, *outcomes: TaskStatus) -> Lease:
    """Create a job and run its first stage."""
    create(store_of(app), job)
    return run_stage(app, job, *outcomes)


def close(app: Stageflow, lease: Lease) -> Advanced:
    """Close the stage of a lease."""
    found = registry.get(lease.job_type, lease.workflow_version)
    asker = Asker(app.repositories, worker_id="closer", lease_seconds=30.0)
    steps = advance_stage(lease, found, app.repositories, app.telemetry)
    answer: Any = None
    while True:
        try:
            (answer,) = asker.ask([steps.send(answer)])
        except StopIteration as ended:
            return cast("Advanced", ended.value)


def give_up_plan(app: Stageflow) -> None:
    """Let the lease on planning what follows expire, so that a test can claim it."""
    store = store_of(app)
    store.move_clock(31)
    assert app.maintain().recovery.returned == 1
    store.move_clock(3600)


def statuses(app: Stageflow, job: NewJob) -> list[tuple[int, str]]:
    """Return the stages of a job with their statuses."""
    run = app.job(job.job_id).run
    return [(each.stage_number, each.status.value) for each in app.repositories.stages.list_stages(job.job_id, run)]


def refused(job: NewJob, number: int, outcome: str) -> Event:
    """Return the event of a closing that the store refused."""
    return Event(name="advance_refused", job_id=job.job_id, details={"stage": number, "outcome": outcome})


def advanced_event(job: NewJob, number: int, outcome: str) -> Event:
    """Return the event of a stage that was closed."""
    return Event(name="stage_advanced", job_id=job.job_id, details={"stage": number, "outcome": outcome})


def failed_event(job: NewJob, number: int) -> Event:
    """Return the event of a job that failed."""
    return Event(name="job_failed", job_id=job.job_id, details={"stage": number})


def test_a_closed_stage_hands_over_the_planning_of_the_next(app: Stageflow, events: list[Event]) -> None:
    """To the worker that closed it, for as long as it said; the stage's result has counts, time and what the hook added."""
    job = new_job(job_type="line", stages=2)
    wish.added = StageAggregate(metadata={"name": "ada"})
    lease = begin(app, job, OK, OK, OK)
    moment = app.repositories.store.now()
    answer = close(app, lease)
    assert (answer.stage_closed, answer.job_ended) == (True, False)
    assert answer.plan is not None
    assert (answer.plan.kind, answer.plan.stage_number, answer.plan.job_id) == (WorkKind.PLAN, 2, job.job_id)
    assert events == [advanced_event(job, 1, "advanced")]
    result = app.job(job.job_id).stage_results["1"]
    assert result.model_dump(exclude={"task_results", "completed_at"}) == {
        "stage_number": 1,
        "status": StageStatus.COMPLETED,
        "task_count": 3,
        "successful_tasks": 3,
        "failed_tasks": 0,
        "skipped_tasks": 0,
        "cancelled_tasks": 0,
        "success_rate": 100.0,
        "results_paged": False,
        "metadata": {"name": "ada"},
        "orchestration": None,
        "stage_key": "1",
    }
    assert abs(result.completed_at - moment) < timedelta(minutes=1)
    assert ask(store_of(app), control_type(job)).leases == []
    store_of(app).move_clock(29)
    assert app.maintain().recovery.returned == 0
    store_of(app).move_clock(2)
    assert app.maintain().recovery.returned == 1


def test_the_hooks_see_the_stage_as_its_policy_leaves_it(app: Stageflow) -> None:
    """With its tasks' results, and the verdict of the policy before the controller has spoken."""
    job = new_job(job_type="fork", stages=3)
    wish.advances = False
    close(app, begin(app, job, OK, BAD))
    (seen,) = wish.contexts
    assert seen.model_dump(exclude={"result"}) == {
        "job_id": job.job_id,
        "job_type": "fork",
        "run": 1,
        "stage_number": 1,
        "name": "stage 1",
        "generation": 1,
    }
    assert seen.result.status is StageStatus.COMPLETED_WITH_ERRORS
    assert [(each.status, each.result_data, each.error_details) for each in seen.result.task_results] == [
        (OK, {"of": 0}, None),
        (BAD, None, "task 1 is failed"),
    ]
    assert app.job(job.job_id).stage_results["1"].status is StageStatus.FAILED
    wish.advances = True
    app.repair(job.job_id, 1)
    (again,) = claim_all(store_of(app), tasks_type(job))
    close(app, take_advance(store_of(app), job, complete_one(store_of(app), report(again, OK))))
    repaired = wish.contexts[1]
    assert (repaired.run, repaired.generation, repaired.result.successful_tasks) == (2, 2, 2)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [((OK, BAD), StageStatus.COMPLETED_WITH_ERRORS), ((OK, BAD, TaskStatus.SKIPPED), StageStatus.FAILED)],
    ids=["whole", "cut short"],
)
def test_a_halted_stage_fails_where_something_was_skipped(
    app: Stageflow, outcomes: tuple[TaskStatus, ...], status: StageStatus
) -> None:
    """A halt that came after its last task changes nothing; one skipped task does, whatever share completed."""
    job = new_job(job_type="fork", stages=3, first_stage=new_stage(1, fail_fast=True))
    store = store_of(app)
    create(store, job)
    plan_all(store, job, len(outcomes))
    lease = claim_one(store, tasks_type(job), max_tasks=2)
    close(app, take_advance(store, job, complete_one(store, report(lease, *outcomes[:2]))))
    (opened, *_) = app.repositories.stages.list_stages(job.job_id, 1)
    assert opened.halted
    assert app.job(job.job_id).stage_results["1"].status is status


def test_the_lease_of_a_former_run_is_left_alone(app: Stageflow, events: list[Event]) -> None:
    """Its holder is told that the job ended; the new run is as it was."""
    job = new_job(job_type="line", stages=2)
    lease = begin(app, job, OK)
    app.cancel(job.job_id)
    app.resubmit(job.job_id)
    events.clear()
    assert close(app, lease.model_copy(update={"state": None})) == Advanced(stage_closed=False)
    assert events == [refused(job, 1, "job_ended")]
    assert statuses(app, job) == [(1, "pending")]
    assert wish.contexts == []


def test_a_job_that_is_late_ends_before_its_stage_is_closed(app: Stageflow, events: list[Event]) -> None:
    """No hook is called."""
    deadline = app.repositories.store.now() + timedelta(minutes=1)
    job = new_job(job_type="line", stages=2).model_copy(update={"deadline": deadline})
    create(store_of(app), job)
    plan_all(store_of(app), job, 1)
    store_of(app).move_clock(61)
    lease = report_stage(app, job, OK)
    assert close(app, lease) == Advanced(stage_closed=False, job_ended=True)
    said = (
        f"the job had not ended by its deadline, {deadline:%Y-%m-%d %H:%M:%S} UTC; unfinished: stage 1 (stage 1) processing, "
        "0 of 1 tasks without a result; stage 2 not begun. Give it more time, or less to do, and resubmit it."
    )
    assert events == [Event(name="job_overdue", job_id=job.job_id, details={"stage": None, "error": said})]
    assert wish.contexts == []
    assert app.job(job.job_id).error_details == said


def test_a_stage_of_a_paused_job_is_not_closed(app: Stageflow, events: list[Event]) -> None:
    """Whoever tries is told why."""
    job = new_job(job_type="line", stages=2)
    lease = begin(app, job, OK)
    app.pause(job.job_id)
    events.clear()
    assert close(app, lease) == Advanced(stage_closed=False)
    assert events == [refused(job, 1, "paused")]


@pytest.mark.parametrize(
    ("job_type", "outcome", "event"),
    [
        ("line", OK, {"stage": 1, "outcome": "job_ended"}),
        ("folding", OK, {"stage": 1, "outcome": "cancelled"}),
        ("line", BAD, {"stage": 1}),
    ],
    ids=["goes on", "ends", "fails"],
)
def test_a_job_that_ended_meanwhile_is_not_ended_again(
    app: Stageflow, events: list[Event], job_type: str, outcome: TaskStatus, event: JsonObject
) -> None:
    """Neither with the next stage, nor with an answer, nor with a failure."""
    job = new_job(job_type=job_type, stages=2 if job_type == "line" else 1)
    lease = begin(app, job, outcome)
    app.cancel(job.job_id)
    events.clear()
    assert close(app, lease) == Advanced(stage_closed=False, job_ended=False)
    assert events == [Event(name="advance_refused", job_id=job.job_id, details=event)]
    assert app.job(job.job_id).status is JobStatus.CANCELLED


def test_the_last_stage_ends_the_job_with_its_answer(app: Stageflow, events: list[Event]) -> None:
    """The answer is made of all stages, the closing one among them."""
    job = new_job(job_type="line", stages=2)
    wish.added = StageAggregate(metadata={"name": "ada"})
    close(app, begin(app, job, OK, OK, OK))
    give_up_plan(app)
    wish.added = StageAggregate(metadata={"name": "bob"})
    lease = run_stage(app, job, OK, OK)
    events.clear()
    assert close(app, lease) == Advanced(stage_closed=True, job_ended=True)
    assert events == [
        advanced_event(job, 2, "final"),
        Event(name="job_completed", job_id=job.job_id, details={"status": "completed"}),
    ]
    assert app.job(job.job_id).result_data == {"sums": {"1": 3, "2": 1}, "names": ["ada", "bob"], "text": ""}
    silent = new_job("silent", job_type="folding")
    wish.returns["aggregate_job_results"] = None
    assert close(app, begin(app, silent, OK)) == Advanced(stage_closed=True, job_ended=True)
    assert app.job(silent.job_id).result_data is None


def test_a_large_answer_comes_back_and_a_too_large_one_is_named(app: Stageflow) -> None:
    """It lies in the blob store; where it is larger than the app may store the job fails and says what was."""
    wish.text = "x" * IN_A_ROW
    job = new_job(job_type="folding")
    close(app, begin(app, job, OK, OK))
    assert [current.job_id for current in wish.combining if current is not None] == [job.job_id]
    assert app.job(job.job_id).result_data == {"sums": {"1": 1}, "names": ["job"], "text": wish.text}
    wish.text = "x" * MOST
    other = new_job("other", job_type="folding")
    assert close(app, begin(app, other, OK)) == Advanced(stage_closed=False, job_ended=True)
    assert app.job(other.job_id).error_details == (
        "Closing stage 1 failed: the answer of aggregate_job_results: 6044 bytes of JSON, at most 6000 are stored; write it to "
        "a blob yourself and pass on its name"
    )


def test_a_stage_that_fails_its_job_is_stored_with_it(app: Stageflow, events: list[Event]) -> None:
    """With what the hook noted, however large; the job's error counts, and shows the first failure."""
    wish.added = StageAggregate(metadata={"name": "x" * IN_A_ROW})
    job = new_job(job_type="line", stages=2)
    assert close(app, begin(app, job, OK, BAD, BAD)) == Advanced(stage_closed=True, job_ended=True)
    assert events == [failed_event(job, 1)]
    ended = app.job(job.job_id)
    assert ended.error_details == (
        "stage 1 failed: 2 of 3 tasks failed, 0 were skipped, 1 completed; first failure, task 1: task 1 is failed"
    )
    assert ended.stage_results["1"].metadata == wish.added.metadata
    assert statuses(app, job) == [(1, "failed")]
    wish.added = StageAggregate(metadata={"name": "x" * MOST})
    other = new_job("other", job_type="line", stages=2)
    assert close(app, begin(app, other, BAD)) == Advanced(stage_closed=False, job_ended=True)
    assert str(app.job(other.job_id).error_details).startswith("Closing stage 1 failed: the result of stage 1: 6")


def test_a_stage_may_end_its_job_though_its_tasks_completed(app: Stageflow) -> None:
    """By its orchestration, and then it stays completed; or because the controller does not want to go on."""
    reason = "nothing was found"
    wish.added = StageAggregate(orchestration=OrchestrationDataContract(action=OrchestrationAction.FAIL_JOB, reason=reason))
    job = new_job(job_type="line", stages=2)
    assert close(app, begin(app, job, OK)) == Advanced(stage_closed=True, job_ended=True)
    assert app.job(job.job_id).error_details == f"stage 1 ended the job: {reason}"
    assert statuses(app, job) == [(1, "completed")]
    assert app.job(job.job_id).stage_results["1"].orchestration == wish.added.orchestration
    wish.added = StageAggregate()
    wish.advances = False
    other = new_job("other", job_type="line", stages=2)
    close(app, begin(app, other, OK))
    said = "stage 1 failed: should_advance_stage answered False (0 of 1 tasks failed, 0 were skipped, 1 completed)"
    assert app.job(other.job_id).error_details == said
    assert statuses(app, other) == [(1, "failed")]


def test_a_stage_may_complete_its_job_early(app: Stageflow, events: list[Event]) -> None:
    """The stages still to come are skipped, and no answer is made of them."""
    wish.added = StageAggregate(orchestration=OrchestrationDataContract(action=OrchestrationAction.COMPLETE_JOB, reason="done"))
    job = new_job(job_type="fork", stages=3)
    assert close(app, begin(app, job, OK, BAD)) == Advanced(stage_closed=True, job_ended=True)
    assert events == [
        advanced_event(job, 1, "final"),
        Event(name="job_completed", job_id=job.job_id, details={"status": "completed_with_errors"}),
    ]
    assert statuses(app, job) == [(1, "completed_with_errors"), (2, "skipped"), (3, "skipped")]
    assert app.job(job.job_id).result_data == {"sums": {"1": 0}, "names": ["job"], "text": ""}


@pytest.mark.parametrize("hook", ["combine", "aggregate_stage_results", "should_advance_stage", "aggregate_job_results"])
def test_a_hook_that_goes_wrong_fails_the_job_by_its_name(app: Stageflow, events: list[Event], hook: str) -> None:
    """What it raised is told, and what it returned instead of what it should; the stage has no result."""
    wrong = new_job("wrong", job_type="folding")
    wish.returns[hook] = 7
    assert close(app, begin(app, wrong, OK, OK)) == Advanced(stage_closed=False, job_ended=True)
    expected = {
        "aggregate_stage_results": "must return StageAggregate",
        "should_advance_stage": "must return bool",
        "aggregate_job_results": "must return Contract or NoneType",
    }
    if hook == "combine":
        assert "combine raised" in str(app.job(wrong.job_id).error_details)
    elif hook != "should_advance_stage":
        assert app.job(wrong.job_id).error_details == (
            f"Closing stage 1 failed: {hook} {expected[hook]}, it returned int: 7; correct the hook"
        )
    wish.returns.clear()
    events.clear()
    job = new_job(job_type="folding")
    wish.raises[hook] = RetryableTaskError("not now")
    assert close(app, begin(app, job, OK, OK)) == Advanced(stage_closed=False, job_ended=True)
    assert events == [failed_event(job, 1)]
    ended = app.job(job.job_id)
    assert str(ended.error_details).startswith("Closing stage 1 failed: Traceback")
    assert "RetryableTaskError: not now" in str(ended.error_details)
    assert (ended.stage_results, statuses(app, job)) == ({}, [(1, "failed")])
    (opened,) = app.repositories.stages.list_stages(job.job_id, 1)
    assert opened.stored_result is None
    other = new_job("other", job_type="folding")
    wish.raises[hook] = ValueError("never")
    close(app, begin(app, other, OK, OK))
    assert str(app.job(other.job_id).error_details).startswith(f"Closing stage 1 failed: {hook} raised ValueError: Traceback")


def test_a_closing_without_its_blob_store_is_tried_again_after_a_while(app: Stageflow, events: list[Event]) -> None:
    """Fifteen seconds, as often as it takes, whether the engine met the silence or a hook did."""
    job = new_job(job_type="folding")
    wish.text = "x" * IN_A_ROW
    lease = begin(app, job, OK)
    blobs.silent = 1
    details: JsonObject = {"stage": 1, "kind": "advance", "delay_seconds": 15.0}
    away = Event(name="payloads_unreachable", job_id=job.job_id, details=details)
    assert close(app, lease) == Advanced(stage_closed=False)
    assert events == [away]
    events.clear()
    store = store_of(app)
    store.move_clock(14.5)
    assert ask(store, control_type(job)).leases == []
    store.move_clock(0.6)
    lease = claim_one(store, control_type(job))
    assert (lease.kind, lease.attempt, lease.deaths) == (WorkKind.ADVANCE, 2, 0)
    wish.raises["aggregate_stage_results"] = PayloadsUnreachableError("the blob store does not answer")
    assert close(app, lease) == Advanced(stage_closed=False)
    assert events == [away]
    found = [event.detail for event in app.history(job.job_id) if event.kind is EventKind.ADVANCING_RETRIED]
    assert found[1] == "the blob store does not answer"
    assert str(found[0]).startswith("the answer of aggregate_job_results is too large for a row, and the blob store does not")
    assert "hunter2" not in str(found[0])
    wish.raises.clear()
    store.move_clock(15.1)
    assert close(app, claim_one(store, control_type(job))) == Advanced(stage_closed=True, job_ended=True)


def fork(app: Stageflow, job: NewJob) -> None:
    """Run the first stage of a job, and plan the two that it opens together."""
    parallel = OrchestrationDataContract(action=OrchestrationAction.PARALLEL_STAGES, stages=[2, 3])
    wish.added = StageAggregate(orchestration=parallel)
    assert close(app, begin(app, job, OK, BAD)).stage_closed
    wish.added = StageAggregate()
    give_up_plan(app)
    store = store_of(app)
    for _ in range(2):
        store.add_tasks(chunk(claim_plan(store, job), 1))


def group(app: Stageflow, job: NewJob, outcomes: dict[int, TaskStatus]) -> list[Lease]:
    """Report the only tasks of both stages of a group, and return the leases on closing them, by number."""
    store = store_of(app)
    leases = claim_all(store, tasks_type(job))
    answers = [complete_one(store, report(lease, outcomes[lease.stage_number])) for lease in leases]
    return sorted((answer.advance for answer in answers if answer.advance), key=lambda lease: lease.stage_number)


def test_the_last_of_a_group_ends_the_job_with_what_all_of_it_left(app: Stageflow, events: list[Event]) -> None:
    """The first that is closed tells that others are open."""
    job = new_job(job_type="fork", stages=3)
    fork(app, job)
    left, right = group(app, job, {2: OK, 3: OK})
    # It was leased before its sibling was closed.
    right = right.model_copy(update={"state": app.repositories.jobs.require_job_state(job.job_id)})
    events.clear()
    assert close(app, left) == Advanced(stage_closed=True)
    wish.added = StageAggregate(metadata={"name": "right"})
    assert close(app, right) == Advanced(stage_closed=True, job_ended=True)
    assert events == [
        advanced_event(job, 2, "siblings_open"),
        advanced_event(job, 3, "final"),
        Event(name="job_completed", job_id=job.job_id, details={"status": "completed_with_errors"}),
    ]
    assert app.job(job.job_id).result_data == {
        "sums": {"1": 0, "2": 0, "3": 0},
        "names": ["job", "job", "right"],
        "text": "",
    }


@pytest.mark.parametrize("failing", [(2,), (3,), (2, 3)], ids=str)
def test_a_group_fails_its_job_with_the_reasons_of_those_that_failed(
    app: Stageflow, events: list[Event], failing: tuple[int, ...]
) -> None:
    """All of them are told, and nothing of the others."""
    job = new_job(job_type="fork", stages=3)
    fork(app, job)
    left, right = group(app, job, {number: BAD if number in failing else OK for number in (2, 3)})
    events.clear()
    close(app, left)
    assert close(app, right) == Advanced(stage_closed=False, job_ended=True)
    assert events == [advanced_event(job, 2, "siblings_open"), failed_event(job, 3)]
    counts = "failed: 1 of 1 tasks failed, 0 were skipped, 0 completed; first failure, task 0: task 0 is failed"
    reasons = "; ".join(f"stage {number} {counts}" for number in failing)
    assert app.job(job.job_id).error_details == f"in the parallel group 2 to 3: {reasons}"
    assert statuses(app, job)[1:] == [(number, "failed" if number in failing else "completed") for number in (2, 3)]


def test_one_of_a_group_may_end_the_job_by_its_own_decision(app: Stageflow) -> None:
    """Then it counts as failed, and its reason is the job's."""
    job = new_job(job_type="fork", stages=3)
    fork(app, job)
    left, right = group(app, job, {2: OK, 3: OK})
    end = OrchestrationDataContract(action=OrchestrationAction.FAIL_JOB, reason="enough")
    wish.added = StageAggregate(orchestration=end)
    close(app, left)
    wish.added = StageAggregate()
    close(app, right)
    assert app.job(job.job_id).error_details == "in the parallel group 2 to 3: stage 2 ended the job: enough"
    assert statuses(app, job) == [(1, "completed_with_errors"), (2, "failed"), (3, "completed")]


def large(app: Stageflow, job: NewJob, text: str) -> str:
    """Return what a row holds for a JSON object that is too large for it."""
    return app.repositories.payloads.store(job.job_id, text[:-1] + " " * IN_A_ROW + "}", "it")


def begin_large(app: Stageflow, job: NewJob) -> Lease:
    """Run the first stage of a job whose parameters and results lie in the blob store."""
    store = store_of(app)
    create(store, job.model_copy(update={"parameters": large(app, job, job.parameters)}))
    plan_all(store, job, 1)
    done = report(claim_one(store, tasks_type(job)), OK)
    results = [large(app, job, str(text)) for text in done.results]
    return take_advance(store, job, complete_one(store, done.model_copy(update={"results": results})))


@pytest.mark.parametrize("silent", range(1, 4))
def test_a_short_silence_of_the_blob_store_is_waited_for(patient: Stageflow, silent: int) -> None:
    """Whatever is read: parameters, task results and the results of stages; and nothing goes back."""
    job = new_job(job_type="line", stages=2)
    wish.added = StageAggregate(metadata={"name": "x" * IN_A_ROW})
    lease = begin_large(patient, job)
    blobs.silent = silent == 1
    wish.silence_in_hook = silent == 2
    assert close(patient, lease).stage_closed
    wish.silence_in_hook = 0
    give_up_plan(patient)
    wish.added = StageAggregate()
    lease = run_stage(patient, job, OK)
    blobs.silent = silent == 3
    assert close(patient, lease) == Advanced(stage_closed=True, job_ended=True)
    assert patient.telemetry.counts["payloads_unreachable"] == 0


def test_results_are_waited_for_where_the_hooks_look_at_them(patient: Stageflow) -> None:
    """Before the first hook is called."""
    job = new_job(job_type="folding")
    store = store_of(patient)
    create(store, job)
    plan_all(store, job, 1)
    done = report(claim_one(store, tasks_type(job)), OK)
    results = [large(patient, job, str(text)) for text in done.results]
    lease = take_advance(store, job, complete_one(store, done.model_copy(update={"results": results})))
    blobs.silent = 1
    assert close(patient, lease) == Advanced(stage_closed=True, job_ended=True)
    assert wish.contexts[0].result.task_results[0].result_data == {"of": 0}


@pytest.mark.parametrize("outcome", [OK, BAD], ids=["answers", "fails"])
def test_the_end_of_a_job_waits_for_its_blob_store(patient: Stageflow, outcome: TaskStatus) -> None:
    """With its answer, or with the result of the stage that failed it."""
    job = new_job(job_type="line", stages=2)
    close(patient, begin(patient, job, OK))
    give_up_plan(patient)
    lease = run_stage(patient, job, outcome)
    wish.text = "x" * IN_A_ROW
    wish.added = StageAggregate(metadata={"name": "x" * IN_A_ROW} if outcome is BAD else {})
    blobs.silent = 1
    assert close(patient, lease) == Advanced(stage_closed=True, job_ended=True)
    assert patient.telemetry.counts["payloads_unreachable"] == 0


def test_parameters_that_are_lost_are_named(app: Stageflow) -> None:
    """The job fails, and says what to do."""
    job = new_job(job_type="line", stages=2)
    lease = begin_large(app, job)
    for blob in list(blobs.list_blobs("stageflow-payloads")):
        blobs.delete("stageflow-payloads", blob.name)
    assert close(app, lease) == Advanced(stage_closed=False, job_ended=True)
    said = str(app.repositories.jobs.require_job_state(job.job_id).job.error_details)
    assert said.startswith("Closing stage 1 failed: the parameters of the job is not in the blob store (blob ")


def test_parameters_that_do_not_fit_any_more_are_named(app: Stageflow) -> None:
    """By the model that the workflow takes now."""
    job = new_job(job_type="line", stages=2).model_copy(update={"parameters": '{"title":"a"}'})
    assert close(app, begin(app, job, OK)) == Advanced(stage_closed=False, job_ended=True)
    said = str(app.job(job.job_id).error_details)
    assert said.startswith("Closing stage 1 failed: the stored parameters of the job are no Name: 2 validation errors for Name")


def test_as_many_results_as_travel_with_a_stage_are_all_seen(app: Stageflow) -> None:
    """A thousand of them."""
    job = new_job(job_type="line", stages=2)
    store = store_of(app)
    create(store, job)
    plan_all(store, job, 1000)
    lease = claim_one(store, tasks_type(job))
    close(app, take_advance(store, job, complete_one(store, report(lease, *[OK] * 1000))))
    (seen,) = wish.contexts
    assert [each.result_data for each in seen.result.task_results] == [{"of": index} for index in range(1000)]
    assert not seen.result.results_paged


def test_a_stage_that_the_job_does_not_have_is_named(app: Stageflow) -> None:
    """By its key, with what to do."""
    job = new_job(job_type="line", stages=2)
    lease = begin(app, job, OK)
    close(app, lease.model_copy(update={"stage_id": lease.stage_id + 7, "state": None}))
    said = str(app.job(job.job_id).error_details)
    assert said == f"Closing stage 1 failed: job {job.job_id} has no stage with key {lease.stage_id + 7}; {MEND_ROW}"


def test_a_lease_may_bring_its_job_along(app: Stageflow) -> None:
    """Then the job is not read again: what was stored since is not seen."""
    job = new_job(job_type="line", stages=2)
    lease = begin(app, job, OK)
    state = app.repositories.jobs.require_job_state(job.job_id)
    renamed = state.job.model_copy(update={"parameters": {"name": "brought"}})
    brought = lease.model_copy(update={"state": state.model_copy(update={"job": renamed})})
    assert read_leased_job(app.repositories, registry.find("line"), brought).context().parameters == Name(name="brought")
    alone = lease.model_copy(update={"state": None})
    assert read_leased_job(app.repositories, registry.find("line"), alone).context().parameters == Name(name="job")


def test_a_stored_result_that_is_damaged_stops_the_closing(app: Stageflow, events: list[Event]) -> None:
    """Of whatever stage it is: the job fails, and says which stage could not be closed."""
    job = new_job(job_type="line", stages=2)
    close(app, begin(app, job, OK))
    give_up_plan(app)
    lease = run_stage(app, job, OK)
    transaction = store_of(app).begin_transaction()
    transaction.connection.execute("update stageflow_stages set stored_result = '{}' where stage_number = 1")
    transaction.commit()
    events.clear()
    assert close(app, lease.model_copy(update={"state": None})) == Advanced(stage_closed=False, job_ended=True)
    assert events == [failed_event(job, 2)]
    (event,) = (each for each in app.history(job.job_id) if each.kind is EventKind.JOB_ENDED)
    assert str(event.detail).startswith("Cannot close stage 2 - stage results invalid: ")
