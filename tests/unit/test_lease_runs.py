"""One lease, run to its end: what its handlers are given, what is reported when, and in whose transaction."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import pytest

from stageflow import (
    BaseController,
    Contract,
    InvalidValueError,
    JobExecutionContext,
    JobRegistry,
    PayloadOptions,
    PermanentTaskError,
    PredecessorMissingError,
    RetryPolicy,
    Stageflow,
    StageResults,
    TaskCancelledError,
    TaskExecutionContext,
    TaskStatus,
    stage,
    task,
)
from stageflow.backends.memory import MemoryBlobStore
from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.blob import BlobProperties
from stageflow.contracts.lease import CompletionOutcome, Lease, RangeCompletion, TaskCompletionResult
from stageflow.contracts.payload import PayloadReference
from stageflow.engine import execute
from stageflow.engine.execute import execute_range
from stageflow.engine.host import LeaseHost
from stageflow.engine.writes import HandlerWrites
from stageflow.errors import BlobStoreUnreachableError, TransactionMisuseError
from stageflow.repositories import PayloadShelf
from stageflow.telemetry import running_task
from stageflow.testing.conformance.builders import claim_one, let_leases_expire, new_job, start, tasks_type
from stageflow.worker.board import LeaseBoard, RunningLease
from stageflow.worker.handlers import HandlerRunner
from stageflow.workflow.registry import Workflow

OK, BAD, AGAIN = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.QUEUED
deeds: dict[int, Callable[[TaskExecutionContext], object]] = {}
seen: list[TaskExecutionContext] = []


class Index(Contract):
    """Parameters of job and task, and a task's result."""

    index: int


class Other(Contract):
    """What no task here takes or returns."""

    index: int


@task("work", retry=RetryPolicy(max_attempts=2, initial_seconds=3.0, jitter=False, retry_on=(ValueError, OSError, Exception)))
def work(parameters: Index, context: TaskExecutionContext) -> Index:
    """Do what is to be done at this index, and return what came of it, or else the parameters."""
    seen.append(context)
    assert running_task.get() == context
    done = deeds[parameters.index](context) if parameters.index in deeds else None
    return cast("Index", parameters if done is None else done)


@task("later", predecessor=Index)
async def later(parameters: Index, context: TaskExecutionContext) -> None:
    """Do nothing, on the event loop."""


class Works(BaseController[Index]):
    """A stage, and one that follows it."""

    first = stage(1, "first", task=work)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Index]) -> Iterator[Index]:
        """Plan one task."""
        yield job.parameters


class Combined(Works):
    """The same, with its results combined."""

    first = stage(1, "first", task=work)

    @first.plan
    def plan_again(self, job: JobExecutionContext[Index]) -> Iterator[Index]:
        """Plan one task."""
        yield job.parameters

    @first.combine
    def add(self, left: Index, right: Index) -> Index:
        """Add."""
        return Index(index=left.index + right.index)


class Late(BaseController[Index]):
    """One stage of an async handler."""

    first = stage(1, "first", task=work)
    second = stage(2, "second", task=later, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Index]) -> Iterator[Index]:
        """Plan one task."""
        yield job.parameters

    @second.plan
    def plan_second(self, job: JobExecutionContext[Index], results: StageResults[Index]) -> Iterator[Index]:  # noqa: ARG002
        """Plan one task."""
        yield job.parameters


class Told(NamedTuple):
    """A report, whether it belonged into a handler's transaction, and how it was answered."""

    report: RangeCompletion
    inside: bool
    outcomes: list[CompletionOutcome]


class Run:
    """A lease on tasks of a job, and what a slot has in its hands for it."""

    def __init__(self, app: Stageflow, controller: type[BaseController[Index]], count: int) -> None:
        store = app.repositories.store
        assert isinstance(store, SqliteStore)
        self.app, self.store, self.job = app, store, new_job()
        self.workflow: Workflow = JobRegistry().register(controller, "demo")
        start(store, self.job, count)
        self.lease: Lease = claim_one(store, tasks_type(self.job))
        self.running = RunningLease(self.lease, LeaseBoard().draining)
        self.writes = HandlerWrites(app.repositories, worker_id="ada", lease_seconds=30.0)
        self.host = LeaseHost(self.lease, self.workflow, self.running, app.repositories, self.writes)

    def reports(self, lease: Lease | None = None, *, payloads: PayloadShelf | None = None) -> Iterator[RangeCompletion]:
        """Run the lease and yield its reports."""
        return execute_range(
            self.lease if lease is None else lease,
            self.workflow,
            self.running,
            cast("Any", HandlerRunner(1).run),
            worker_id="ada",
            host=self.host,
            writes=self.writes,
            payloads=payloads,
        )

    def told(self, lease: Lease | None = None) -> list[Told]:
        """Run the lease as a slot does, and tell of its reports."""
        return [self.take(report) for report in self.reports(lease)]

    def take(self, report: RangeCompletion) -> Told:
        """Do with a report what a slot does."""
        assert running_task.get() is None
        inside = self.writes.is_offered
        answers: Sequence[TaskCompletionResult] = (
            self.writes.complete(report)
            if inside
            else self.app.repositories.completion.complete_tasks_and_check_stages([report], "ada", 30.0)
        )
        if answers and answers[-1].outcome is CompletionOutcome.STALE:
            self.running.lose()
        return Told(report, inside, [answer.outcome for answer in answers])

    def statuses(self) -> list[TaskStatus]:
        """Return the stored statuses of the tasks."""
        return [each.status for each in self.store.list_tasks(self.job.job_id, 1, 1, first_index=0, limit=100)]


@pytest.fixture
def app() -> Iterator[Stageflow]:
    """Give an app in memory, with tables of its user's, of which one refuses at the commit."""
    deeds.clear()
    seen.clear()
    with Stageflow("sqlite::memory:", registry=JobRegistry()) as app:
        transaction = app.repositories.store.begin_transaction()
        transaction.connection.execute("create table ledger (number integer)")
        transaction.connection.execute("create table parents (number integer primary key)")
        transaction.connection.execute(
            "create table children (parent integer references parents (number) deferrable initially deferred)"
        )
        transaction.commit()
        yield app


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no report be due because of the time, however slow the machine is."""
    monkeypatch.setattr(execute, "FLUSH_SECONDS", 3600.0)


def ledger(app: Stageflow) -> list[int]:
    """Return what handlers wrote."""
    transaction = app.repositories.store.begin_transaction()
    rows = transaction.connection.execute("select number from ledger order by number").fetchall()
    transaction.roll_back()
    return [number for (number,) in rows]


def write(context: TaskExecutionContext) -> None:
    """Write a row."""
    context.transaction().execute("insert into ledger (number) values (?)", (context.task_index,))


def write_orphan(context: TaskExecutionContext) -> None:
    """Write a row that cannot be committed."""
    write(context)
    context.transaction().execute("insert into children (parent) values (7)")


def fail(error: BaseException) -> Callable[[TaskExecutionContext], None]:
    """Return what fails."""

    def failing(context: TaskExecutionContext) -> None:  # noqa: ARG001  the shape of a deed
        raise error

    return failing


def places(told: list[Told]) -> list[tuple[int, list[TaskStatus], bool]]:
    """Return which tasks each report was of, and whether it went into a transaction."""
    return [(each.report.first, each.report.statuses, each.inside) for each in told]


def test_a_handler_is_told_all_of_its_task(app: Stageflow) -> None:
    """From its job to its attempt, with the worker that runs it and the host that it can ask."""
    run = Run(app, Works, 4)
    lease = run.lease.model_copy(update={"attempt": 2, "generation": 3, "run": 4, "first": 1, "tasks": run.lease.tasks[1:]})
    list(run.reports(lease))
    assert seen == [
        TaskExecutionContext(
            job_id=run.job.job_id,
            job_type="demo",
            run=4,
            stage_number=1,
            task_index=index,
            task_type="work",
            attempt=2,
            generation=3,
            worker_id="ada",
            signal=run.host,
        )
        for index in (1, 2, 3)
    ]
    assert running_task.get() is None


def test_a_handler_without_a_host_is_stopped_by_its_lease(app: Stageflow) -> None:
    """That is all it can ask of it."""
    run = Run(app, Works, 2)
    noted: list[bool] = []

    def stop(context: TaskExecutionContext) -> None:
        noted.append(context.cancelled)
        run.running.stop()
        noted.append(context.cancelled)

    deeds[0] = stop
    reports = list(execute_range(run.lease, run.workflow, run.running, cast("Any", HandlerRunner(1).run), worker_id="w"))
    assert noted == [False, True]
    assert [report.statuses for report in reports] == [[OK]]
    assert seen[0].signal is run.running


def test_a_report_says_of_each_task_what_came_of_it(app: Stageflow, unhurried: None) -> None:  # noqa: ARG001  a fixture
    """Result, error, time and retry, of the lease that it was run on."""
    run = Run(app, Works, 5)
    deeds[1] = fail(ValueError("not this time"))
    deeds[2] = fail(PermanentTaskError("never"))
    deeds[3] = lambda _: Index(index=30)
    began, at = time.perf_counter(), time.time()
    (report,) = run.reports()
    elapsed = time.perf_counter() - began
    assert (report.range_id, report.token, report.stage_id) == (run.lease.range_id, run.lease.token, run.lease.stage_id)
    assert (report.first, report.statuses, report.partials) == (0, [OK, AGAIN, BAD, OK, OK], [])
    assert report.results == ['{"index":0}', None, None, '{"index":30}', '{"index":4}']
    assert [error is None for error in report.errors] == [True, False, False, True, True]
    assert str(report.errors[1]).endswith("ValueError: not this time\n")
    assert str(report.errors[2]).endswith("PermanentTaskError: never\n")
    assert [(each.task_index, each.delay_seconds, each.error_details) for each in report.retries] == [
        (1, 3.0, report.errors[1])
    ]
    assert all(0 <= seconds <= elapsed for seconds in report.seconds)
    assert sum(report.seconds) <= elapsed
    assert all(at - 1 <= each <= time.time() + 1 for each in report.completed_at)
    assert run.take(report).outcomes == [CompletionOutcome.RECORDED]
    assert run.statuses() == [OK, AGAIN, BAD, OK, OK]


def test_the_last_attempt_is_not_followed_by_another(app: Stageflow, unhurried: None) -> None:  # noqa: ARG001  a fixture
    """Whatever failed: the handler, or its commit."""
    run = Run(app, Works, 2)
    deeds.update({0: fail(ValueError("again")), 1: write_orphan})
    told = run.told(run.lease.model_copy(update={"attempt": 2}))
    assert places(told) == [(1, [OK], True), (0, [BAD], False), (1, [BAD], False)]
    assert [each.report.retries for each in told] == [[], [], []]


def test_reports_are_due_by_number_and_by_time(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from the report before; where the time is over, each task is reported when it ends."""
    monkeypatch.setattr(execute, "FLUSH_TASKS", 2)
    monkeypatch.setattr(execute, "FLUSH_SECONDS", 3600.0)
    assert places(Run(app, Works, 5).told()) == [(0, [OK, OK], False), (2, [OK, OK], False), (4, [OK], False)]
    monkeypatch.setattr(execute, "FLUSH_SECONDS", -math.inf)
    with Stageflow("sqlite::memory:", registry=JobRegistry()) as other:
        assert places(Run(other, Combined, 3).told()) == [(0, [OK], False), (1, [OK], False), (2, [OK], False)]


def test_results_are_combined_report_by_report(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """One value for the tasks of each; what a transaction takes is combined by itself."""
    monkeypatch.setattr(execute, "FLUSH_TASKS", 2)
    monkeypatch.setattr(execute, "FLUSH_SECONDS", 3600.0)
    deeds.update({3: write, 5: write_orphan, 6: lambda _: Index(index=60)})
    told = Run(app, Combined, 8).told()
    combined = [(each.first, each.last, each.value) for one in told for each in one.report.partials]
    assert combined == [
        (0, 2, '{"index":1}'),
        (3, 4, '{"index":3}'),
        (5, 6, '{"index":5}'),
        (4, 5, '{"index":4}'),
        (6, 7, '{"index":60}'),
        (7, 8, '{"index":7}'),
    ]
    assert ledger(app) == [3]


def test_a_task_with_a_transaction_takes_those_before_it_along(app: Stageflow, unhurried: None) -> None:  # noqa: ARG001
    """They are committed together; those after it are reported by themselves."""
    run = Run(app, Works, 5)
    deeds.update({1: write, 2: write})
    recorded = CompletionOutcome.RECORDED
    told = run.told()
    assert places(told) == [(1, [OK], True), (2, [OK], True), (3, [OK, OK], False)]
    assert [each.outcomes for each in told] == [[recorded, recorded], [recorded], [recorded]]
    assert run.statuses() == [OK] * 5
    assert ledger(app) == [1, 2]


def test_what_cannot_be_committed_fails_its_task_alone(app: Stageflow, unhurried: None) -> None:  # noqa: ARG001  a fixture
    """It is tried again as its policy says, with the words of the database; those before it are reported without it."""
    run = Run(app, Works, 3)
    deeds[1] = write_orphan
    told = run.told()
    assert places(told) == [(1, [OK], True), (0, [OK], False), (1, [AGAIN, OK], False)]
    assert [each.outcomes for each in told] == [[], [CompletionOutcome.RECORDED], [CompletionOutcome.RECORDED]]
    (retry,) = told[-1].report.retries
    assert (retry.task_index, retry.delay_seconds) == (1, 3.0)
    assert retry.error_details.endswith("IntegrityError: FOREIGN KEY constraint failed\n")
    assert 0 <= told[-1].report.seconds[0] < 60
    assert ledger(app) == []


def test_what_a_handler_wrote_before_it_failed_is_taken_back(app: Stageflow, unhurried: None) -> None:  # noqa: ARG001  a fixture
    """Its error is reported like any other, with the tasks around it."""
    run = Run(app, Works, 3)

    def write_and_fail(context: TaskExecutionContext) -> None:
        write(context)
        raise PermanentTaskError

    deeds[1] = write_and_fail
    assert places(run.told()) == [(0, [OK, BAD, OK], False)]
    assert ledger(app) == []


def test_who_lost_the_lease_commits_nothing_and_stops(app: Stageflow, unhurried: None) -> None:  # noqa: ARG001  a fixture
    """The answer says so, also to the report of the tasks before."""
    run = Run(app, Works, 4)

    def lose_and_write(context: TaskExecutionContext) -> None:
        let_leases_expire(run.store)
        claim_one(run.store, tasks_type(run.job), worker="bob")
        write(context)

    deeds[1] = lose_and_write
    told = run.told()
    stale = CompletionOutcome.STALE
    assert [(each.report.first, each.inside, each.outcomes) for each in told] == [(1, True, [stale]), (0, False, [stale])]
    assert (len(seen), ledger(app)) == (2, [])


def test_an_interrupt_leaves_nothing_open(app: Stageflow) -> None:
    """Neither a transaction nor a task that log records would name."""
    run = Run(app, Works, 2)

    def write_and_be_interrupted(context: TaskExecutionContext) -> None:
        write(context)
        raise KeyboardInterrupt

    deeds[0] = write_and_be_interrupted
    with pytest.raises(KeyboardInterrupt):
        run.told()
    assert (run.writes.is_open, running_task.get(), ledger(app)) == (False, None, [])


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (Other(index=1), "task 'work' must return Index, it returned Other: Other(index=1); correct the handler (tests.unit."),
        ("a text", "task 'work' must return Index, it returned str: 'a text'; correct the handler (tests.unit."),
    ],
)
def test_a_result_of_another_type_is_a_violation_that_no_retry_cures(app: Stageflow, done: object, said: str) -> None:
    """Its error names both types, the value and the handler."""
    deeds[0] = lambda _: done
    (told,) = Run(app, Works, 1).told()
    assert told.report.statuses == [BAD]
    assert f"ContractViolationError: {said}" in str(told.report.errors[0])
    assert "test_lease_runs:work, " in str(told.report.errors[0])


def test_parameters_that_are_no_longer_those_of_the_task_fail_it_for_good(app: Stageflow) -> None:
    """The error names the model and the field."""
    run = Run(app, Works, 1)
    (report,) = run.reports(run.lease.model_copy(update={"tasks": ['{"number":1}']}))
    assert report.statuses == [BAD]
    assert "PermanentTaskError: the stored parameters of the task are no Index: 2 validation errors" in str(report.errors[0])


class Absent(MemoryBlobStore):
    """A blob store that does not answer the next requests."""

    absences = 0

    def write(self, container: str, name: str, content: bytes, *, content_type: str = "a/b") -> BlobProperties:
        """Write, or do not answer."""
        self._answer()
        return super().write(container, name, content, content_type=content_type)

    def read_chunks(self, container: str, name: str, *, chunk_bytes: int = 1000) -> Iterator[bytes]:
        """Read, or do not answer."""
        self._answer()
        return super().read_chunks(container, name, chunk_bytes=chunk_bytes)

    def _answer(self) -> None:
        if self.absences:
            self.absences -= 1
            msg = "it is away"
            raise BlobStoreUnreachableError(msg)


def test_large_parameters_and_results_wait_for_their_store(app: Stageflow) -> None:
    """One that does not answer at once is asked again, with the work in hand; the result belongs to the job."""
    run, blobs = Run(app, Works, 1), Absent()
    shelf = PayloadShelf(blobs, PayloadOptions(inline_bytes=1, patience_seconds=30))
    blobs.absences = 1
    given = shelf.store(run.job.job_id, '{"index":0}', "parameters", patient=True)
    blobs.absences = 1

    def go_away(context: TaskExecutionContext) -> Index:  # noqa: ARG001  the shape of a deed
        blobs.absences = 1
        return Index(index=12345)

    deeds[0] = go_away
    (report,) = run.reports(run.lease.model_copy(update={"tasks": [given]}), payloads=shelf)
    assert (report.statuses, report.errors, blobs.absences) == ([OK], [None], 0)
    assert PayloadReference.from_text(str(report.results[0])).job_id == run.job.job_id
    assert shelf.load(str(report.results[0]), "the result") == '{"index":12345}'


def test_payloads_that_cannot_be_had_or_kept_are_named(app: Stageflow) -> None:
    """Those of which task, and whether as parameters or as a result."""
    run = Run(app, Works, 1)
    shelf = PayloadShelf(MemoryBlobStore(), PayloadOptions(inline_bytes=1, max_bytes=10))
    missing = PayloadReference(size_bytes=3, sha256="b" * 64, job_id=run.job.job_id).to_text()
    (report,) = run.reports(run.lease.model_copy(update={"tasks": [missing]}), payloads=shelf)
    assert report.statuses == [BAD]
    assert "PayloadUnreadableError: the parameters of a task 'work' is not in the blob store" in str(report.errors[0])
    (report,) = run.reports(payloads=shelf)
    assert report.statuses == [BAD]
    assert "PayloadTooLargeError: the result of a task 'work': 11 bytes of JSON, at most 10 are stored" in str(report.errors[0])


def context_of(run: Run, /, **what: object) -> TaskExecutionContext:
    """Return the context of the first task, with this changed."""
    about = {
        "job_id": run.job.job_id,
        "job_type": "demo",
        "stage_number": 1,
        "task_index": 0,
        "task_type": "work",
        "signal": run.host,
    }
    return TaskExecutionContext.from_fields({**about, **what})


def test_a_host_passes_on_what_the_lease_says_and_hears(app: Stageflow) -> None:
    """Whether to stop, and how far the task is."""
    run = Run(app, Works, 1)
    context = context_of(run)
    context.progress(2, 5)
    assert run.running.take_progress() == (0, 2, 5)
    assert not context.cancelled
    run.running.stop()
    assert context.cancelled


def test_a_checkpoint_belongs_to_the_task_and_to_who_holds_the_lease(app: Stageflow) -> None:
    """Who lost it stores nothing, and is told to stop."""
    run = Run(app, Works, 3)
    first, second = context_of(run, task_index=1), context_of(run, task_index=2)
    first.checkpoint(Index(index=7))
    assert first.last_checkpoint(Index) == Index(index=7)
    assert second.last_checkpoint(Index) is None
    let_leases_expire(run.store)
    with pytest.raises(TaskCancelledError) as caught:
        first.checkpoint(Index(index=8))
    assert str(caught.value) == "task 1 of stage 1 lost its lease; its checkpoint was not stored, stop"
    assert first.last_checkpoint(Index) == Index(index=7)


def test_a_checkpoint_inside_of_a_transaction_is_a_misuse(app: Stageflow) -> None:
    """It would be committed before it; the error says what to do instead."""
    run = Run(app, Works, 1)
    context = context_of(run)
    run.writes.admit(0)
    assert context.transaction() is context.transaction()
    with pytest.raises(TransactionMisuseError) as caught:
        context.checkpoint(Index(index=8))
    assert str(caught.value) == (
        "context.checkpoint() commits at once, and so would not be part of context.transaction(); call it before that, or "
        "write where you are into a table of your own on the transaction's connection"
    )
    with pytest.raises(TaskCancelledError, match=r"^task 5 is over: "):
        context_of(run, task_index=5).transaction()
    run.writes.roll_back()


def test_an_async_handler_gets_no_transaction(app: Stageflow) -> None:
    """It would block the loop of all of them."""
    run = Run(app, Late, 1)
    with pytest.raises(TransactionMisuseError) as caught:
        context_of(run, stage_number=2, task_type="later").transaction()
    assert str(caught.value) == (
        "task 'later' is async, and the connection of context.transaction() would block the event loop of all async handlers; "
        "write it as a plain `def`"
    )


def test_a_predecessor_is_the_result_of_the_same_index_of_the_stage_before(app: Stageflow, unhurried: None) -> None:  # noqa: ARG001
    """Where that has none, the error says why: it failed, it was never planned, or its stage was never opened."""
    run = Run(app, Late, 3)
    deeds.update({0: lambda _: Index(index=10), 1: fail(PermanentTaskError("bad"))})
    run.told()
    assert context_of(run, stage_number=2).predecessor(Index) == Index(index=10)
    assert context_of(run, stage_number=2, task_index=2).predecessor() == Index(index=2)
    for what, said in (
        ({"task_index": 1}, "task 1 of stage 2 has no predecessor: task 1 of stage 1 is failed"),
        ({"task_index": 3}, "task 3 of stage 2 has no predecessor: stage 1 has 3 tasks"),
        ({"run": 2}, "task 0 of stage 2 has no predecessor: stage 1 was never opened"),
    ):
        with pytest.raises(PredecessorMissingError) as caught:
            context_of(run, stage_number=2, **cast("dict[str, object]", what)).predecessor()
        assert str(caught.value).startswith(said)
    with pytest.raises(InvalidValueError) as refused:
        context_of(run).predecessor()
    assert str(refused.value) == ("task 'work' declares no predecessor; write @task(…, predecessor=Model), then ask for it")
