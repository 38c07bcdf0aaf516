"""The test kit that users get: a run in memory, contexts, a clock, and a fixture."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from stageflow.app import Stageflow
from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext, TaskExecutionContext
from stageflow.contracts.results import StageResults
from stageflow.contracts.retry import RetryPolicy
from stageflow.contracts.stage import FailurePolicy, StageResultContract
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.errors import (
    HostMissingError,
    InvalidValueError,
    TaskCancelledError,
    TaskFailedError,
    UnknownWorkflowError,
    WaitTimeoutError,
)
from stageflow.testing import drain_work, job_context, move_clock, run_workflow, stage_results, task_context
from stageflow.testing.plugin import AppFactory, stageflow_app
from stageflow.workflow.authoring import stage, task, workflow
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry

WORKFLOWS = JobRegistry()

__all__ = ["stageflow_app"]


class Count(Contract):
    """Parameters of the job."""

    n: int
    fails_at: int = -1
    fails_until_attempt: int = 1


class Square(Contract):
    """What a task gets and returns."""

    value: int
    fails_until_attempt: int = 1


class Total(Contract):
    """The answer of the job."""

    total: int


@task("square", retry=RetryPolicy(max_attempts=3, initial_seconds=3600, cap_seconds=7200, jitter=False))
def square(parameters: Square, context: TaskExecutionContext) -> Square:
    """Square a number, at the attempt that is asked for."""
    if parameters.value < 0:
        msg = "no negative numbers"
        raise ValueError(msg)
    if context.attempt < parameters.fails_until_attempt:
        msg = "not yet"
        raise OSError(msg)
    return Square(value=parameters.value**2)


@task("book")
def book(parameters: Square, context: TaskExecutionContext) -> Square:
    """Write a row in the transaction that completes the task."""
    context.transaction().execute("insert into ledger (number) values (?)", (parameters.value,))
    return parameters


@task("add", cpu_bound=True)
def add(parameters: Total, context: TaskExecutionContext) -> Total:
    """Pass a sum on."""
    context.check()
    return parameters


@workflow("squares", registry=WORKFLOWS)
class Squares(BaseController[Count]):
    """Squares, then their sum."""

    squares = stage(1, "square", task=square, policy=FailurePolicy.any_may_fail())
    sums = stage(2, "sum", task=add, after=squares)

    @squares.plan
    def plan_squares(self, job: JobExecutionContext[Count]) -> Iterator[Square]:
        """Plan n numbers, one of them bad."""
        for index in range(job.parameters.n):
            bad = index == job.parameters.fails_at
            yield Square(value=-1 if bad else index, fails_until_attempt=job.parameters.fails_until_attempt)

    @sums.plan
    def plan_sum(self, job: JobExecutionContext[Count], squares: StageResults[Square]) -> Iterator[Total]:
        """Plan one sum."""
        assert job.total_stages in {1, 2}
        yield Total(total=sum(each.value for each in squares))

    def aggregate_job_results(
        self,
        job: JobExecutionContext[Count],
        stage_results: dict[int, StageResults[object]],
    ) -> Total:
        """Answer with the sum."""
        assert job.job_type == "squares"
        return self.sums.of(stage_results)[0]


def test_a_run_gives_answer_results_and_counts() -> None:
    """One call runs a workflow to its end, and everything can be asked for, typed."""
    run = run_workflow(Squares, Count(n=4), registry=WORKFLOWS)
    run.assert_completed()
    run.assert_stage(1, status=StageStatus.COMPLETED, tasks=4, completed=4, failed=0, skipped=0)
    assert run.answer == Total(total=14)
    assert [each.value for each in run.results(Squares.squares)] == [0, 1, 4, 9]
    assert run.stage(2).results == {0: Total(total=14)}
    assert run.result.total_tasks == run.tasks_run == 5
    assert run.job.stage == 2


def test_a_run_waits_for_no_retry() -> None:
    """Two attempts with hours between them take no time, for the clock is moved."""
    run = run_workflow("squares", Count(n=2, fails_until_attempt=3), registry=WORKFLOWS)
    run.assert_completed()
    assert run.stage(1).attempts == {0: 3, 1: 3}
    assert run.tasks_run == 7
    assert run.result.completed_at - run.result.created_at >= timedelta(hours=3)


def test_a_run_tells_failures_with_their_traceback() -> None:
    """The error of a task that failed is there by its index."""
    run = run_workflow(Squares, Count(n=3, fails_at=1), registry=WORKFLOWS)
    run.assert_status(JobStatus.COMPLETED_WITH_ERRORS)
    run.assert_stage(1, completed=2, failed=1)
    assert list(run.stage(1).errors) == [1]
    assert "Traceback" in run.stage(1).errors[1]
    assert "no negative numbers" in run.stage(1).errors[1]


def test_asserts_say_what_should_be_and_what_is() -> None:
    """A failing assert names the stage, the counts and why the job ended as it did."""
    run = run_workflow(Squares, Count(n=1, fails_at=0), registry=WORKFLOWS)
    run.assert_failed("no negative numbers")
    with pytest.raises(AssertionError, match=r"the job should be completed\. The job is failed: stage 1 failed"):
        run.assert_completed()
    said = r"stage 1 \(square\): completed should be 1 but is 0, failed should be 0 but is 1"
    with pytest.raises(AssertionError, match=said):
        run.assert_stage(1, tasks=1, completed=1, failed=0)
    with pytest.raises(AssertionError, match="because of 'the moon'"):
        run.assert_failed("the moon")
    with pytest.raises(AssertionError, match=r"stage 2 was never opened; there are: 1 failed\."):
        run.stage(2)
    assert run.answer is None


def test_a_run_needs_a_registered_workflow() -> None:
    """What is not registered where one looks is named, with what is."""
    with pytest.raises(UnknownWorkflowError, match="registered: squares version 1"):
        run_workflow("circles", Count(n=1), registry=WORKFLOWS)
    with pytest.raises(UnknownWorkflowError, match="Squares"):
        run_workflow(Squares, Count(n=1))


def test_a_run_ends_after_its_timeout() -> None:
    """A run that does not end says so, instead of hanging."""
    with pytest.raises(WaitTimeoutError, match="still work"):
        run_workflow(Squares, Count(n=3), registry=WORKFLOWS, timeout=-1)


def test_runs_leave_apps_of_the_test_alone(stageflow_app: AppFactory) -> None:
    """A run has a controller of its own: what the test bound to an app stays bound."""
    app = stageflow_app(WORKFLOWS)
    record = app.submit(Squares, Count(n=1)).job
    run_workflow(Squares, Count(n=1), registry=WORKFLOWS).assert_completed()
    planned = WORKFLOWS.find(Squares).controller.process_job_stage(record, 1)
    assert planned.stages_planned == [1]


def test_the_clock_brings_what_is_due_later(stageflow_app: AppFactory) -> None:
    """A job for tomorrow runs when the clock says so."""
    app = stageflow_app(WORKFLOWS)
    before = app.repositories.store.now()
    move_clock(app, 3600)
    assert app.repositories.store.now() - before >= timedelta(hours=1)
    tomorrow = app.repositories.store.now() + timedelta(days=1)
    job = app.submit(Squares, Count(n=2), not_before=tomorrow).job
    assert drain_work(app) == 3
    assert app.job(job.job_id).status is JobStatus.COMPLETED
    assert app.repositories.store.now() >= tomorrow
    assert drain_work(app) == 0


def test_a_clock_that_cannot_be_moved_is_named() -> None:
    """A store of another kind gets a sentence, not an AttributeError."""
    foreign = SimpleNamespace(repositories=SimpleNamespace(store=SimpleNamespace(url="foreign:1")))
    with pytest.raises(InvalidValueError, match="clock of foreign:1 cannot be moved; use an app on sqlite::memory:"):
        move_clock(cast("Stageflow", foreign), 1)


def test_a_handler_is_called_like_a_function() -> None:
    """A handler needs nothing but its parameters and a context."""
    assert square(Square(value=3), task_context()) == Square(value=9)
    assert task_context(stage_number=2, task_index=7).task_id == f"{'0' * 64}-2-7"
    with pytest.raises(OSError, match="not yet"):
        square(Square(value=3, fails_until_attempt=2), task_context(attempt=1))


def test_a_handler_can_be_told_to_stop() -> None:
    """Cancellation can be tried without a worker."""
    with pytest.raises(TaskCancelledError):
        add(Total(total=1), task_context(cancelled=True))
    assert not task_context().cancelled


def test_a_handler_writes_on_the_connection_that_the_test_gives() -> None:
    """What it wrote is for the test to look at, before anybody commits."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with closing(connection):
        connection.execute("create table ledger (number integer)")
        connection.execute("begin")
        assert book(Square(value=3), task_context(connection=connection)) == Square(value=3)
        assert connection.execute("select number from ledger").fetchall() == [(3,)]
        connection.execute("rollback")
        assert connection.execute("select number from ledger").fetchall() == []


def test_a_handler_without_a_connection_is_told_how_to_get_one() -> None:
    """A context that was made without one says what to pass."""
    with pytest.raises(HostMissingError, match=r"pass a connection of your own to task_context\(connection=…\)"):
        book(Square(value=3), task_context())


def test_a_planner_is_called_like_a_method() -> None:
    """A planner needs a job context and, after a stage, that stage's results."""
    controller = Squares()
    job = job_context(Count(n=2))
    assert type(job) is JobExecutionContext[Count]
    assert list(controller.plan_squares(job)) == [Square(value=0), Square(value=1)]
    assert list(controller.plan_sum(job, stage_results([Square(value=1), Square(value=4)]))) == [Total(total=5)]


def test_a_job_context_holds_results_of_stages() -> None:
    """Hooks that look at stored results can be tried too."""
    result = StageResultContract.from_task_results(1, [])
    assert job_context(Count(n=1), results=[result]).get_stage_result(1) == result


def test_results_can_hold_failures() -> None:
    """Results with failed tasks behave as stored ones do."""
    results = stage_results([Square(value=1), Square(value=2)], failed={1: "too hot"}, stage_number=3)
    assert (len(results), results.task_count, results.stage_number) == (2, 3, 3)
    assert list(results.items()) == [(0, Square(value=1)), (2, Square(value=2))]
    assert [row.error_details for row in results.failures()] == ["too hot"]
    with pytest.raises(TaskFailedError, match="too hot"):
        results[1]


def test_results_may_be_nothing() -> None:
    """Tasks that return nothing have results that are None."""
    assert list(stage_results([None, None])) == [None, None]


def test_impossible_results_are_refused() -> None:
    """A task that does not exist cannot have failed, and a stage has one result model."""
    with pytest.raises(ValueError, match="failed names"):
        stage_results([Square(value=1)], failed={5: "x"})
    with pytest.raises(ValueError, match="all of one model"):
        stage_results([Square(value=1), Total(total=1)])
