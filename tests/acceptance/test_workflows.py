"""Whole workflows, run by a worker to their end, on each store."""

import importlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest

from stageflow import (
    BaseController,
    Contract,
    ContractViolationError,
    FailurePolicy,
    IdempotencyConflictError,
    InvalidTransitionError,
    JobCancelledError,
    JobExecutionContext,
    JobFailedError,
    JobRegistry,
    JobResult,
    JobStatus,
    OrchestrationAction,
    OrchestrationDataContract,
    PermanentTaskError,
    RetryableTaskError,
    RetryPolicy,
    StageExecutionContext,
    Stageflow,
    StageResults,
    StageResultsInvalidError,
    StageStatus,
    SubmitOutcome,
    TaskDefinition,
    TaskExecutionContext,
    TaskStatus,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.backends.sqlite import SqliteStore
from stageflow.telemetry import Event
from stageflow.testing import drain_work
from stageflow.testing.postgres_server import PostgresDatabases

OPTIONS = WorkerOptions(slots=4, poll_seconds=0.2, beat_seconds=0.1, lease_seconds=30.0, recover_seconds=0.2)
PATIENCE = 30
SECRET = "hunter2"
WORKFLOWS = JobRegistry()
AT_ONCE = RetryPolicy(max_attempts=3, initial_seconds=0, cap_seconds=0)
AFTER_HOURS = RetryPolicy(max_attempts=3, initial_seconds=3600, cap_seconds=7200, jitter=False)
NEVER = RetryPolicy(max_attempts=1)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name a store that nobody else uses."""
    if request.param == "sqlite":
        yield "sqlite::memory:"
        return
    server: PostgresDatabases = request.getfixturevalue("postgres_server")
    dsn = server.create_database()
    yield dsn
    server.drop_database(dsn)


@pytest.fixture(scope="module")
def idle_app(store_url: str) -> Iterator[Stageflow]:
    """Give an app that nobody works for."""
    with Stageflow(store_url, registry=WORKFLOWS, options=OPTIONS) as app:
        app.migrate()
        yield app


@pytest.fixture
def app(idle_app: Stageflow) -> Iterator[Stageflow]:
    """Give an app with a worker."""
    with idle_app.worker():
        yield idle_app


def run(app: Stageflow, controller: type[BaseController[Any]], parameters: Contract) -> JobResult:
    """Submit a job of its own and wait for its end."""
    return app.wait(app.submit(controller, parameters, new_run=True).job.job_id, timeout=PATIENCE)


class Number(Contract):
    """A number: what most tasks here get and return."""

    value: int


class Numbers(Contract):
    """Parameters of a job, one task of its first stage each."""

    values: list[int]


class Nothing(Contract):
    """Parameters of a job that has none."""


@task("pass_on", retry=NEVER)
def pass_on(parameters: Number, context: TaskExecutionContext) -> Number:
    """Return what comes in; negative numbers are refused."""
    if parameters.value < 0:
        msg = f"task {context.task_index} cannot use {parameters.value}"
        raise ValueError(msg)
    return parameters


# Fan-out that depends on results.


class Found(Contract):
    """What a task of the first stage found."""

    children: list[int]


@task("find")
def find(parameters: Number, context: TaskExecutionContext) -> Found:
    """Find as many children as the number says."""
    context.check()
    return Found(children=[parameters.value * 10 + child for child in range(parameters.value)])


@workflow("fan_out", registry=WORKFLOWS)
class FanOut(BaseController[Numbers]):
    """Three stages: each makes its tasks of what the one before returned."""

    finds = stage(1, "find", task=find)
    doubles = stage(2, "double", task=pass_on, after=finds)
    totals = stage(3, "total", task=pass_on, after=(finds, doubles))

    @finds.plan
    def plan_finds(self, job: JobExecutionContext[Numbers]) -> Iterator[Number]:
        """Plan one task a number."""
        for value in job.parameters.values:
            yield Number(value=value)

    @doubles.plan
    def plan_doubles(self, job: JobExecutionContext[Numbers], finds: StageResults[Found]) -> Iterator[Number]:
        """Plan one task a child."""
        assert job.get_stage_result(1).task_count == len(finds)
        for found in finds:
            for child in found.children:
                yield Number(value=child)

    @doubles.aggregate
    def count(self, job: JobExecutionContext[Numbers], results: StageResults[Number]) -> Number:
        """Say how many there were."""
        assert "2" not in job.stage_results
        return Number(value=len(results))

    @totals.plan
    def plan_totals(
        self,
        job: JobExecutionContext[Numbers],
        finds: StageResults[Found],
        doubles: StageResults[Number],
    ) -> Iterator[Number]:
        """Plan one sum over both stages."""
        assert job.stage_results["2"].metadata == {"value": len(doubles)}
        yield Number(value=len(finds) * 1000 + sum(each.value for each in doubles))

    def aggregate_job_results(self, job: JobExecutionContext[Numbers], stage_results: dict[int, StageResults[Any]]) -> Number:
        """Answer with the sum."""
        assert sorted(stage_results) == [1, 2, 3] == [int(key) for key in job.stage_results]
        return self.totals.of(stage_results)[0]


def test_each_stage_makes_its_tasks_of_the_results_before(app: Stageflow) -> None:
    """A dynamic fan-out over three stages, with metadata, counts, results and the answer in their places."""
    job_id = app.submit(FanOut, Numbers(values=[1, 2, 3]), new_run=True).job.job_id
    result = app.wait(job_id, timeout=PATIENCE)
    assert result.status is JobStatus.COMPLETED
    assert [result.stage_results[key].task_count for key in ("1", "2", "3")] == [3, 6, 1]
    assert [each.result_data for each in result.stage_results["2"].task_results] == [
        {"value": value} for value in (10, 20, 21, 30, 31, 32)
    ]
    assert [each.task_index for each in result.stage_results["2"].task_results] == list(range(6))
    assert result.stage_results["2"].metadata == {"value": 6}
    assert (result.total_tasks, result.successful_tasks, result.failed_tasks) == (10, 10, 0)
    assert app.result(job_id) == Number(value=3144)
    assert result.result_data == {"value": 3144}


def test_a_wide_stage_is_paged_and_whole(app: Stageflow) -> None:
    """Beyond a thousand tasks results are read in pages, by the next planner too; none is missing."""
    result = run(app, FanOut, Numbers(values=[1] * 1200))
    assert result.status is JobStatus.COMPLETED
    assert result.stage_results["2"].results_paged
    assert result.stage_results["2"].task_results == []
    assert result.stage_results["2"].successful_tasks == 1200
    assert result.result_data == {"value": 1200 * 1000 + 1200 * 10}


# Orchestration.


class Steer(Contract):
    """Parameters of a job: what its first stage is to decide."""

    decision: OrchestrationDataContract


@workflow("steered", registry=WORKFLOWS)
class Steered(BaseController[Steer]):
    """Four stages; the first decides what follows."""

    decides = stage(1, "decide", task=pass_on)
    works = stage(2, "work", task=pass_on)
    other = stage(3, "other work", task=pass_on, after=decides)
    ends = stage(4, "end", task=pass_on, after=(works, other), may_skip=True)

    @decides.plan
    def plan_decides(self, job: JobExecutionContext[Steer]) -> Iterator[Number]:
        """Plan one task."""
        assert job.total_stages == 4
        yield Number(value=1)

    @decides.orchestrate
    def decide(self, job: JobExecutionContext[Steer], results: StageResults[Number]) -> OrchestrationDataContract:
        """Decide what the job was submitted with."""
        assert len(results) == 1
        return job.parameters.decision

    @works.plan
    def plan_works(self, job: JobExecutionContext[Steer]) -> Iterator[Number]:
        """Plan two tasks."""
        assert job.stage_results["1"].orchestration == job.parameters.decision
        yield Number(value=20)
        yield Number(value=21)

    @other.plan
    def plan_other(self, job: JobExecutionContext[Steer], decides: StageResults[Number]) -> Iterator[Number]:
        """Plan one task."""
        assert job.run == 1
        yield Number(value=decides[0].value + 29)

    @ends.plan
    def plan_ends(
        self,
        job: JobExecutionContext[Steer],
        works: StageResults[Number] | None,
        other: StageResults[Number] | None,
    ) -> Iterator[Number]:
        """Plan the sum of what was not skipped."""
        assert job.run == 1
        yield Number(value=sum(each.value for results in (works, other) if results is not None for each in results))


def steer(app: Stageflow, action: OrchestrationAction, **fields: Any) -> JobResult:
    """Run a job whose first stage decides so."""
    return run(app, Steered, Steer(decision=OrchestrationDataContract(action=action, **fields)))


def statuses(result: JobResult) -> list[str]:
    """Return the status of each stage that has a result, in order."""
    return [str(each.status) for _, each in sorted(result.stage_results.items())]


def test_create_tasks_makes_a_task_of_each_item(app: Stageflow) -> None:
    """CREATE_TASKS replaces the planner of the next stage."""
    result = steer(app, OrchestrationAction.CREATE_TASKS, items=[{"value": 7}, {"value": 8}, {"value": 9}])
    assert result.status is JobStatus.COMPLETED
    assert [each.result_data for each in result.stage_results["2"].task_results] == [{"value": 7}, {"value": 8}, {"value": 9}]
    assert result.stage_results["4"].task_results[0].result_data == {"value": 54}
    decision = result.stage_results["1"].orchestration
    assert decision is not None
    assert (decision.action, decision.item_count) == (OrchestrationAction.CREATE_TASKS, 3)


def test_create_tasks_with_parameters_for_all(app: Stageflow) -> None:
    """next_stage_parameters go to every task."""
    result = steer(app, OrchestrationAction.CREATE_TASKS, items=[{}, {}], next_stage_parameters={"value": 5})
    assert [each.result_data for each in result.stage_results["2"].task_results] == [{"value": 5}, {"value": 5}]


def test_create_tasks_of_no_items_is_an_empty_stage(app: Stageflow) -> None:
    """An empty container does not hang a job."""
    result = steer(app, OrchestrationAction.CREATE_TASKS)
    assert result.status is JobStatus.COMPLETED
    assert result.stage_results["2"].task_count == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"items": [{"value": 1}, {"value": "x"}]}, "item 1 for stage 2 is no Number: value"),
        ({"items": [{"value": 1}], "next_stage_parameters": {"value": 2}}, "both hold ['value']"),
    ],
)
def test_create_tasks_of_something_else_fails_the_job(app: Stageflow, fields: dict[str, Any], reason: str) -> None:
    """An item that is not the next stage's parameter model stops the job, by name."""
    result = steer(app, OrchestrationAction.CREATE_TASKS, **fields)
    assert result.status is JobStatus.FAILED
    assert reason in (result.error_details or "")


def test_skip_stage_skips_the_next(app: Stageflow) -> None:
    """A skipped stage has a result without tasks, and a planner with may_skip gets None for it."""
    result = steer(app, OrchestrationAction.SKIP_STAGE)
    assert result.status is JobStatus.COMPLETED
    assert statuses(result) == ["completed", "skipped", "completed", "completed"]
    assert result.stage_results["2"].task_count == 0
    assert result.stage_results["4"].task_results[0].result_data == {"value": 30}


def test_parallel_stages_run_together_and_meet(app: Stageflow) -> None:
    """Stages of a group are planned at once; the next begins when all are closed."""
    result = steer(app, OrchestrationAction.PARALLEL_STAGES, stages=[2, 3])
    assert result.status is JobStatus.COMPLETED
    assert statuses(result) == ["completed"] * 4
    assert result.stage_results["4"].task_results[0].result_data == {"value": 71}


def test_complete_job_ends_it_at_once(app: Stageflow) -> None:
    """COMPLETE_JOB skips what would follow."""
    result = steer(app, OrchestrationAction.COMPLETE_JOB, reason="nothing to do")
    assert result.status is JobStatus.COMPLETED
    assert statuses(result) == ["completed", "skipped", "skipped", "skipped"]
    assert result.total_tasks == 1


def test_fail_job_ends_it_with_the_reason(app: Stageflow) -> None:
    """FAIL_JOB fails the job, and keeps the result of the stage that said so."""
    result = steer(app, OrchestrationAction.FAIL_JOB, reason="the input is stale")
    assert result.status is JobStatus.FAILED
    assert "stage 1 ended the job: the input is stale" in (result.error_details or "")
    assert result.stage_results["1"].successful_tasks == 1


@pytest.mark.parametrize("stages", [[3, 4], [2, 3, 4], [2, 3, 4, 5]])
def test_parallel_stages_that_cannot_be_fail_the_job(app: Stageflow, stages: list[int]) -> None:
    """A group that leaves a gap, or whose stages need each other, is refused with a sentence."""
    result = steer(app, OrchestrationAction.PARALLEL_STAGES, stages=stages)
    assert result.status is JobStatus.FAILED
    assert "stage" in (result.error_details or "")


@workflow("group_at_the_end", registry=WORKFLOWS)
class GroupAtTheEnd(BaseController[Numbers]):
    """A parallel group that ends the job; its second stage gets the job's numbers."""

    starts = stage(1, "start", task=pass_on)
    left = stage(2, "left", task=pass_on, after=starts)
    right = stage(3, "right", task=pass_on, after=starts)

    @starts.plan
    def plan_starts(self, job: JobExecutionContext[Numbers]) -> Iterator[Number]:
        """Plan one task."""
        yield Number(value=len(job.parameters.values))

    @starts.orchestrate
    def fork(self, job: JobExecutionContext[Numbers], results: StageResults[Number]) -> OrchestrationDataContract:
        """Run the other two together."""
        assert job.total_stages == len(results) + 2
        return OrchestrationDataContract(action=OrchestrationAction.PARALLEL_STAGES, stages=[2, 3])

    @left.plan
    def plan_left(self, job: JobExecutionContext[Numbers], starts: StageResults[Number]) -> Iterator[Number]:
        """Plan one task."""
        assert job.run == 1
        yield starts[0]

    @right.plan
    def plan_right(self, job: JobExecutionContext[Numbers], starts: StageResults[Number]) -> Iterator[Number]:
        """Plan the numbers."""
        assert starts.task_count == 1
        for value in job.parameters.values:
            yield Number(value=value)

    def aggregate_job_results(self, job: JobExecutionContext[Numbers], stage_results: dict[int, StageResults[Any]]) -> Number:
        """Answer with the sum of both."""
        assert sorted(job.stage_results) == ["1", "2", "3"]
        both = (self.left.of(stage_results), self.right.of(stage_results))
        return Number(value=sum(each.value for results in both for each in results))


def test_a_group_can_end_the_job(app: Stageflow) -> None:
    """The answer is made of all stages of the last group."""
    result = run(app, GroupAtTheEnd, Numbers(values=[4, 5]))
    assert result.status is JobStatus.COMPLETED
    assert result.result_data == {"value": 11}


def test_a_failed_stage_of_a_group_fails_the_job(app: Stageflow) -> None:
    """The group is closed whole, then the job fails; what had not started beside the failed stage is skipped."""
    result = run(app, GroupAtTheEnd, Numbers(values=[4, -5]))
    assert result.status is JobStatus.FAILED
    assert "parallel group 2 to 3" in (result.error_details or "")
    beside = result.stage_results["2"]
    assert statuses(result) in (["completed", "completed", "failed"], ["completed", "failed", "failed"])
    assert (beside.successful_tasks, beside.skipped_tasks) in {(1, 0), (0, 1)}
    assert (beside.status is StageStatus.FAILED) == (beside.successful_tasks == 0)


# Failure policies.


class PolicyController(BaseController[Numbers]):
    """Two stages; what the policy of the first lets pass reaches the second. Subclasses set the policy."""

    tries = stage(1, "try", task=pass_on)
    counts = stage(2, "count", task=pass_on, after=tries)

    @tries.plan
    def plan_tries(self, job: JobExecutionContext[Numbers]) -> Iterator[Number]:
        """Plan the numbers; negative ones fail."""
        for value in job.parameters.values:
            yield Number(value=value)

    @counts.plan
    def plan_counts(self, job: JobExecutionContext[Numbers], tries: StageResults[Number]) -> Iterator[Number]:
        """Plan one task that says how many completed, and how many did not."""
        assert [index for index, _ in tries.items()] == [n for n, value in enumerate(job.parameters.values) if value >= 0]
        yield Number(value=len(tries) * 100 + len(list(tries.failures())))


def with_policy(name: str, policy: FailurePolicy) -> type[BaseController[Numbers]]:
    """Register the workflow with a policy."""
    first = stage(1, "try", task=pass_on, policy=policy)
    second = stage(2, "count", task=pass_on, after=first)
    planned = cast("Any", PolicyController)
    first.plan(planned.plan_tries)
    second.plan(planned.plan_counts)
    controller = type(f"Policy_{name}", (PolicyController,), {"tries": first, "counts": second})
    return workflow(f"policy_{name}", registry=WORKFLOWS)(controller)


ALL = with_policy("all", FailurePolicy.all_must_succeed())
FAIL_FAST = with_policy("fail_fast", FailurePolicy.all_must_succeed(fail_fast=True))
ANY = with_policy("any", FailurePolicy.any_may_fail())
HALF = with_policy("half", FailurePolicy.at_least(50.0))


@pytest.mark.parametrize(
    ("controller", "values", "status", "first_stage"),
    [
        (ALL, [1, 2, 3], JobStatus.COMPLETED, StageStatus.COMPLETED),
        (ALL, [1, -2, 3], JobStatus.FAILED, StageStatus.FAILED),
        (FAIL_FAST, [1, 2, 3], JobStatus.COMPLETED, StageStatus.COMPLETED),
        (ANY, [-1, -2, 3], JobStatus.COMPLETED_WITH_ERRORS, StageStatus.COMPLETED_WITH_ERRORS),
        (ANY, [-1, -2, -3], JobStatus.FAILED, StageStatus.FAILED),
        (HALF, [1, 2, -3, -4], JobStatus.COMPLETED_WITH_ERRORS, StageStatus.COMPLETED_WITH_ERRORS),
        (HALF, [1, -2, -3, -4], JobStatus.FAILED, StageStatus.FAILED),
    ],
    ids=["all-good", "all-one-bad", "fail-fast-good", "any-one-good", "any-none-good", "half-half-good", "half-less-good"],
)
@pytest.mark.faults
def test_f05_a_policy_decides_what_failed_tasks_mean(
    app: Stageflow,
    controller: type[BaseController[Any]],
    values: list[int],
    status: JobStatus,
    first_stage: StageStatus,
) -> None:
    """The job goes on, with errors, or fails, exactly as its policy says."""
    result = run(app, controller, Numbers(values=values))
    first = result.stage_results["1"]
    failed = sum(value < 0 for value in values)
    assert (result.status, first.status) == (status, first_stage)
    assert first.successful_tasks + first.failed_tasks + first.skipped_tasks == len(values)
    if status is JobStatus.FAILED:
        assert "cannot use" in (result.error_details or "")
        assert "2" not in result.stage_results
    else:
        assert first.failed_tasks == failed
        assert result.stage_results["2"].task_results[0].result_data == {"value": (len(values) - failed) * 100 + failed}


def test_all_failures_are_collected(app: Stageflow) -> None:
    """Without fail_fast every task runs, and each failure has its traceback."""
    result = run(app, ALL, Numbers(values=[-1, 2, -3]))
    tasks = result.stage_results["1"].task_results
    assert [each.status for each in tasks] == [TaskStatus.FAILED, TaskStatus.COMPLETED, TaskStatus.FAILED]
    assert "Traceback" in (tasks[2].error_details or "")
    assert "task 2 cannot use -3" in (tasks[2].error_details or "")


@pytest.mark.parametrize(("controller", "bad"), [(FAIL_FAST, 1), (HALF, 21)], ids=["fail-fast", "out-of-reach"])
def test_a_stage_that_cannot_succeed_halts(idle_app: Stageflow, controller: type[BaseController[Any]], bad: int) -> None:
    """With fail_fast, and when the rate is out of reach, waiting tasks are skipped instead of run."""
    values = [*[-1] * bad, *range(40 - bad)]
    job_id = idle_app.submit(controller, Numbers(values=values), new_run=True).job.job_id
    drain_work(idle_app)
    result = idle_app.wait(job_id, timeout=0)
    first = result.stage_results["1"]
    assert result.status is JobStatus.FAILED
    assert first.failed_tasks == bad
    assert first.skipped_tasks > 0
    assert first.failed_tasks + first.skipped_tasks + first.successful_tasks == 40


# Kinds of handlers.


@task("sleepless")
async def sleepless(parameters: Number, context: TaskExecutionContext) -> Number:
    """Give the loop a turn."""
    import asyncio  # noqa: PLC0415  only here

    await asyncio.sleep(0)
    context.check()
    return Number(value=parameters.value + 1)


@task("leaving", retry=RetryPolicy(max_attempts=1))
async def leaving(parameters: Number, context: TaskExecutionContext) -> Number:  # noqa: ARG001  the shape of a handler
    """Leave in ways that would end an event loop, or look like its own doing."""
    import asyncio  # noqa: PLC0415  only here

    ways = {0: SystemExit(1), 1: KeyboardInterrupt(), 2: asyncio.CancelledError(), 3: TimeoutError()}
    if parameters.value in ways:
        raise ways[parameters.value]
    return parameters


@workflow("leaving", registry=WORKFLOWS)
class Leaving(BaseController[Numbers]):
    """Async handlers that leave."""

    leaves = stage(1, "leave", task=leaving, policy=FailurePolicy.any_may_fail())

    @leaves.plan
    def plan_leaves(self, job: JobExecutionContext[Numbers]) -> list[Number]:
        """One task for each number."""
        return [Number(value=value) for value in job.parameters.values]


def test_an_async_handler_that_leaves_fails_its_task_only(idle_app: Stageflow) -> None:
    """sys.exit, Ctrl-C, a cancellation and a timeout of its own end one task; the loop goes on for all others."""
    job_id = idle_app.submit(Leaving, Numbers(values=[0, 1, 2, 3, 4, 5]), new_run=True).job.job_id
    with idle_app.worker(WorkerOptions(slots=1)):
        result = idle_app.wait(job_id, timeout=60).stage_results["1"]
    assert (result.failed_tasks, result.successful_tasks) == (4, 2)
    errors = [str(each.error_details) for each in result.task_results[:4]]
    for error, name in zip(errors, ("SystemExit", "KeyboardInterrupt", "CancelledError", "TimeoutError"), strict=True):
        assert name in error
        assert "in leaving" in error


@task("silent")
def silent(parameters: Number, context: TaskExecutionContext) -> None:
    """Return nothing."""
    assert parameters.value >= context.task_index


@workflow("kinds", registry=WORKFLOWS)
class Kinds(BaseController[Numbers]):
    """An async handler, one that returns nothing, and a stage without tasks."""

    asyncs = stage(1, "async", task=sleepless)
    nones = stage(2, "none", task=silent, after=asyncs)
    empty = stage(3, "empty", task=pass_on, after=nones)
    last = stage(4, "last", task=pass_on, after=empty)

    @asyncs.plan
    def plan_asyncs(self, job: JobExecutionContext[Numbers]) -> list[Number]:
        """Plan the numbers."""
        return [Number(value=value) for value in job.parameters.values]

    @nones.plan
    def plan_nones(self, job: JobExecutionContext[Numbers], asyncs: StageResults[Number]) -> Iterator[Number]:
        """Plan what the async tasks returned."""
        assert len(asyncs) == len(job.parameters.values)
        yield from asyncs

    @empty.plan
    def plan_empty(self, job: JobExecutionContext[Numbers], nones: StageResults[None]) -> Iterator[Number]:
        """Plan nothing."""
        assert job.run == 1
        for nothing in nones:
            assert nothing is None
        yield from ()

    @last.plan
    def plan_last(self, job: JobExecutionContext[Numbers], empty: StageResults[Number]) -> Iterator[Number]:
        """Plan one task, after nothing."""
        assert job.get_stage_result(3).success_rate == 100.0
        yield Number(value=len(empty))


def test_async_handlers_none_results_and_empty_stages(app: Stageflow) -> None:
    """A coroutine is awaited, None is a result, and a stage without tasks closes at once."""
    result = run(app, Kinds, Numbers(values=[3, 4, 5]))
    assert result.status is JobStatus.COMPLETED
    assert [each.result_data for each in result.stage_results["1"].task_results] == [{"value": n} for n in (4, 5, 6)]
    assert [each.result_data for each in result.stage_results["2"].task_results] == [None] * 3
    assert result.stage_results["3"].task_count == 0
    assert result.stage_results["3"].status is StageStatus.COMPLETED
    assert result.stage_results["4"].task_results[0].result_data == {"value": 0}


def test_a_job_of_empty_stages_completes(app: Stageflow) -> None:
    """Nothing to do is done."""
    result = run(app, HookController, Numbers(values=[]))
    assert result.status is JobStatus.COMPLETED
    assert result.total_tasks == 0


@workflow("all_empty", registry=WORKFLOWS)
class HookController(BaseController[Numbers]):
    """One stage, planned by the hook underneath; without numbers it is empty."""

    only = stage(1, "only", task=pass_on)

    def create_stage_tasks(
        self,
        stage_number: int,
        job_id: str,
        job_parameters: Numbers,
        previous_stage_results: dict[int, StageResults[Any]],
    ) -> Iterator[TaskDefinition[Any]]:
        """Plan the numbers, each with a key."""
        assert previous_stage_results == {}
        for value in job_parameters.values:
            yield TaskDefinition(
                job_id=job_id,
                job_type="all_empty",
                task_type="pass_on",
                stage_number=stage_number,
                key=f"number/{value}",
                parameters=Number(value=value),
            )


def test_a_single_stage_planned_by_the_hook_underneath(app: Stageflow) -> None:
    """One stage is a workflow, and create_stage_tasks can be overridden; keys are stored."""
    job_id = app.submit(HookController, Numbers(values=[5, 6]), new_run=True).job.job_id
    assert app.wait(job_id, timeout=PATIENCE).status is JobStatus.COMPLETED
    assert [each.key for each in app.repositories.tasks.list_tasks_for_job(job_id, 1)] == ["number/5", "number/6"]
    assert app.result(job_id) is None


def test_cpu_bound_handlers_run_in_other_processes(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler declared cpu_bound runs in a child process; its result and its errors come back."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    work = importlib.import_module("cpu_bound_work")
    registry = JobRegistry()

    @workflow("cpu_bound", registry=registry)
    class Powers(BaseController[Numbers]):
        """One stage."""

        powers = stage(1, "power", task=work.power, policy=FailurePolicy.any_may_fail(), retry=NEVER)

        @powers.plan
        def plan_powers(self, job: JobExecutionContext[Numbers]) -> Iterator[Any]:
            """Plan powers of two."""
            for exponent in job.parameters.values:
                yield work.Power(base=2, exponent=exponent)

    with Stageflow(store_url, registry=registry, options=OPTIONS) as app:
        app.migrate()
        with app.worker():
            result = run(app, Powers, Numbers(values=[10, 100, -1]))
    first, second, third = result.stage_results["1"].task_results
    assert first.result_data is not None
    assert second.result_data is not None
    assert (first.result_data["value"], second.result_data["value"]) == (1024, 2**100)
    assert os.getpid() not in {first.result_data["process"], second.result_data["process"]}
    assert "task 2 has a negative exponent" in (third.error_details or "")
    assert result.status is JobStatus.COMPLETED_WITH_ERRORS


# Retries and violations.


class Flaky(Contract):
    """What a task is to do."""

    succeeds_at: int = 1
    error: str = "OSError"


@task("flaky", retry=AT_ONCE)
def flaky(parameters: Flaky, context: TaskExecutionContext) -> Number:
    """Fail until the given attempt, or return something else."""
    if parameters.error == "WrongType":
        return cast("Number", Flaky())
    if context.attempt < parameters.succeeds_at:
        errors = {"OSError": OSError, "PermanentTaskError": PermanentTaskError, "SystemExit": SystemExit}
        msg = f"attempt {context.attempt}, password={SECRET}"
        raise errors[parameters.error](msg)
    return Number(value=context.attempt)


@workflow("flaky", registry=WORKFLOWS)
class FlakyController(BaseController[Flaky]):
    """One stage with one flaky task."""

    only = stage(1, "flaky", task=flaky)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Flaky]) -> Iterator[Flaky]:
        """Plan it."""
        yield job.parameters


def test_a_task_that_fails_twice_succeeds_at_its_third_attempt(app: Stageflow) -> None:
    """Errors are retried by the policy, and what succeeded at last is a success."""
    result = run(app, FlakyController, Flaky(succeeds_at=3))
    assert result.status is JobStatus.COMPLETED
    only = result.stage_results["1"].task_results[0]
    assert (only.attempt, only.result_data, only.error_details) == (3, {"value": 3}, None)


@pytest.mark.parametrize(
    ("parameters", "attempts", "reason"),
    [
        (Flaky(succeeds_at=9), 3, "OSError: attempt 3"),
        (Flaky(succeeds_at=2, error="PermanentTaskError"), 1, "PermanentTaskError: attempt 1"),
        (Flaky(succeeds_at=2, error="SystemExit"), 1, "SystemExit: attempt 1"),
        (Flaky(error="WrongType"), 1, "must return Number, it returned Flaky"),
    ],
    ids=["exhausted", "permanent", "exit", "wrong-type"],
)
def test_what_no_retry_cures_fails_the_task(app: Stageflow, parameters: Flaky, attempts: int, reason: str) -> None:
    """Attempts end at the policy's number; permanent errors and contract violations are not retried. Secrets are hidden."""
    result = run(app, FlakyController, parameters)
    assert result.status is JobStatus.FAILED
    only = result.stage_results["1"].task_results[0]
    assert (only.status, only.attempt) == (TaskStatus.FAILED, attempts)
    assert reason in (only.error_details or "")
    assert SECRET not in (only.error_details or "") + (result.error_details or "")


# Hooks that raise.


class Broken(Contract):
    """Which hook raises."""

    hook: str


@workflow("broken", registry=WORKFLOWS)
class BrokenController(BaseController[Broken]):
    """Every hook can be made to raise."""

    first = stage(1, "first", task=pass_on)
    second = stage(2, "second", task=pass_on, after=first)

    def validate_job_parameters(self, parameters: Broken) -> Broken:
        """Refuse the job."""
        self.perhaps(parameters, "validate_job_parameters")
        return parameters

    @first.plan
    def plan_first(self, job: JobExecutionContext[Broken]) -> list[Number]:
        """Raise at the call."""
        self.perhaps(job.parameters, "plan_first")
        return [Number(value=1)]

    @first.aggregate
    def sum_up(self, job: JobExecutionContext[Broken], results: StageResults[Number]) -> Number:
        """Raise, or return something else."""
        self.perhaps(job.parameters, "sum_up")
        if job.parameters.hook == "returns_text":
            return cast("Number", "text")
        return Number(value=len(results))

    @first.orchestrate
    def decide(self, job: JobExecutionContext[Broken], results: StageResults[Number]) -> OrchestrationDataContract | None:
        """Raise, or decide for tasks that the hook below cannot make."""
        self.perhaps(job.parameters, "decide")
        if job.parameters.hook == "create_tasks_from_orchestration":
            return OrchestrationDataContract(action=OrchestrationAction.CREATE_TASKS, items=[{"value": len(results)}])
        return None

    @first.should_advance
    def judge(self, job: JobExecutionContext[Broken], stage: StageExecutionContext) -> bool:
        """Raise, or refuse."""
        self.perhaps(job.parameters, "judge")
        return job.parameters.hook != "returns_false" and stage.stage_number == 1

    @second.plan
    def plan_second(self, job: JobExecutionContext[Broken], first: StageResults[Number]) -> Iterator[Number]:
        """Raise after the first task."""
        yield first[0]
        self.perhaps(job.parameters, "plan_second")

    def create_tasks_from_orchestration(
        self,
        stage_number: int,
        job_id: str,
        job_parameters: Broken,
        orchestration: OrchestrationDataContract,
    ) -> Iterator[TaskDefinition[Any]]:
        """Raise."""
        self.perhaps(job_parameters, "create_tasks_from_orchestration")
        return super().create_tasks_from_orchestration(stage_number, job_id, job_parameters, orchestration)

    def aggregate_job_results(self, job: JobExecutionContext[Broken], stage_results: dict[int, StageResults[Any]]) -> Number:
        """Raise."""
        self.perhaps(job.parameters, "aggregate_job_results")
        return Number(value=len(stage_results))

    def perhaps(self, parameters: Broken, hook: str) -> None:
        """Raise an error that holds a secret, if this hook is to."""
        if parameters.hook == hook:
            msg = f"{hook} met postgresql://user:{SECRET}@host/db"
            raise RuntimeError(msg)


@pytest.mark.parametrize(
    "hook",
    ["plan_first", "sum_up", "decide", "judge", "plan_second", "create_tasks_from_orchestration", "aggregate_job_results"],
)
@pytest.mark.faults
def test_f01_a_hook_that_raises_fails_the_job_loudly(app: Stageflow, hook: str) -> None:
    """The job fails with the hook's traceback, without its secrets, and nothing hangs."""
    job_id = app.submit(BrokenController, Broken(hook=hook), new_run=True).job.job_id
    result = app.wait(job_id, timeout=PATIENCE)
    assert result.status is JobStatus.FAILED
    error = result.error_details or ""
    assert "Traceback (most recent call last)" in error
    assert f"RuntimeError: {hook} met postgresql://user:***@host/db" in error
    assert "in perhaps" in error
    assert SECRET not in error
    with pytest.raises(JobFailedError, match=hook):
        app.result(job_id)


def test_a_hook_that_raises_at_submission_refuses_the_job(app: Stageflow) -> None:
    """What validate_job_parameters raises reaches the caller, and there is no job."""
    before = len(app.repositories.jobs.list_jobs())
    with pytest.raises(RuntimeError, match="validate_job_parameters met"):
        app.submit(BrokenController, Broken(hook="validate_job_parameters"))
    assert len(app.repositories.jobs.list_jobs()) == before


@pytest.mark.parametrize(
    ("hook", "reason"),
    [("returns_text", "return value must be Contract, got str"), ("returns_false", "should_advance_stage answered False")],
)
@pytest.mark.faults
def test_f22_a_hook_that_returns_something_else_fails_the_job(app: Stageflow, hook: str, reason: str) -> None:
    """A hook's answer is checked like everything that crosses a boundary; False means failed, never wait."""
    result = run(app, BrokenController, Broken(hook=hook))
    assert result.status is JobStatus.FAILED
    assert reason in (result.error_details or "")


def test_parameters_of_another_model_are_refused(app: Stageflow) -> None:
    """A wrong model is a contract violation at the door."""
    with pytest.raises(ContractViolationError, match="must be Broken, got Number"):
        app.submit(BrokenController, Number(value=1))  # type: ignore[misc]  # what the test is about


PLANNING_CALLS: dict[str, int] = {}


@workflow("planning_retry", registry=WORKFLOWS)
class PlanningRetry(BaseController[Broken]):
    """A planner that needs a second attempt."""

    only = stage(1, "only", task=pass_on, planning_retry=AT_ONCE)
    later = stage(2, "later", task=pass_on, after=only, planning_retry=AFTER_HOURS)

    @later.plan
    def plan_later(self, job: JobExecutionContext[Broken], only: StageResults[Number]) -> Iterator[Number]:
        """Fail twice, the second time in the middle."""
        calls = PLANNING_CALLS[job.job_id] = PLANNING_CALLS[job.job_id] + 1
        if job.parameters.hook == "later" and calls == 3:
            msg = "before the first"
            raise RetryableTaskError(msg)
        yield only[0]
        if job.parameters.hook == "later" and calls == 4:
            msg = "after the first"
            raise RetryableTaskError(msg)
        yield Number(value=calls)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Broken]) -> Iterator[Number]:
        """Fail once for each job, or always."""
        PLANNING_CALLS[job.job_id] = calls = PLANNING_CALLS.setdefault(job.job_id, 0) + 1
        if calls == 1 or job.parameters.hook == "always":
            msg = f"call {calls}"
            raise RetryableTaskError(msg)
        yield Number(value=calls)


@pytest.mark.parametrize(("hook", "status", "calls"), [("once", JobStatus.COMPLETED, 3), ("always", JobStatus.FAILED, 3)])
def test_a_planner_may_be_tried_again(app: Stageflow, hook: str, status: JobStatus, calls: int) -> None:
    """RetryableTaskError in a planner is retried as its stage declares, and no longer."""
    result = run(app, PlanningRetry, Broken(hook=hook))
    assert result.status is status
    assert PLANNING_CALLS[result.job_id] == calls


def test_a_planner_is_tried_again_after_its_delay(idle_app: Stageflow) -> None:
    """A delayed planning retry waits for its time, and what the planner had yielded before is there once."""
    before = idle_app.repositories.store.now()
    job_id = idle_app.submit(PlanningRetry, Broken(hook="later"), new_run=True).job.job_id
    drain_work(idle_app)
    job = idle_app.job(job_id)
    assert job.status is JobStatus.COMPLETED
    assert job.updated_at - before >= timedelta(hours=3)
    assert [each.result_data for each in job.stage_results["2"].task_results] == [{"value": 2}, {"value": 5}]


def test_a_job_for_later_starts_no_earlier(idle_app: Stageflow) -> None:
    """not_before holds the first stage back."""
    due = idle_app.repositories.store.now() + timedelta(hours=5)
    job_id = idle_app.submit(FlatController, Numbers(values=[1]), new_run=True, not_before=due).job.job_id
    drain_work(idle_app)
    job = idle_app.job(job_id)
    assert job.status is JobStatus.COMPLETED
    assert job.stage_results["1"].completed_at >= due


# Stored data that is damaged.


def overwrite_stage_result(app: Stageflow, url: str, job_id: str, text: str) -> None:
    """Overwrite the stored result of stage 1, past the store."""
    store = app.repositories.store
    if isinstance(store, SqliteStore):
        sql = "update stageflow_stages set stored_result = ? where job_id = ? and stage_number = 1"
        with store._database.transaction() as transaction:  # noqa: SLF001  nothing else reaches the memory
            assert transaction.run(sql, (text, job_id)) == 1
        return

    query = "update stageflow.stages set stored_result = %s where job_id = %s and stage_number = 1"
    with closing(psycopg.connect(url)) as connection, connection:
        assert connection.execute(query, (text, job_id)).rowcount == 1


@pytest.mark.parametrize("text", ["{}", '"1"', json.dumps({"stage_number": "1"}), "null"])
def test_a_damaged_stage_result_fails_the_job(idle_app: Stageflow, store_url: str, text: str) -> None:
    """The next stage is not planned from damaged results: the job fails and says which stage and which field."""
    job_id = idle_app.submit(TwoStages, Numbers(values=[1]), new_run=True).job.job_id

    def hold(event: Event) -> None:
        if event.name == "stage_advanced" and event.job_id == job_id:
            idle_app.pause(job_id)

    with idle_app.telemetry.listening(hold):
        drain_work(idle_app)
    overwrite_stage_result(idle_app, store_url, job_id, text)
    idle_app.resume(job_id)
    drain_work(idle_app)
    status, error = job_status_and_error(idle_app, store_url, job_id)
    assert status == "failed"
    assert "Cannot process stage 2 - previous stage results invalid: " in error
    assert "the stored result of stage 1 is invalid at" in error
    with pytest.raises(StageResultsInvalidError, match="stage 1"):
        idle_app.job(job_id)


def job_status_and_error(app: Stageflow, url: str, job_id: str) -> tuple[str, str]:
    """Read a job past the store, for its stage results no longer validate."""
    store = app.repositories.store
    if isinstance(store, SqliteStore):
        with store._database.transaction() as transaction:  # noqa: SLF001  nothing else reaches the memory
            row = transaction.row("select status, error_details from stageflow_jobs where job_id = ?", (job_id,))
            assert row is not None
            return str(row[0]), str(row[1])
    with closing(psycopg.connect(url)) as connection:
        found = connection.execute("select status, error_details from stageflow.jobs where job_id = %s", (job_id,)).fetchone()
    assert found is not None
    return str(found[0]), str(found[1])


@workflow("two_stages", registry=WORKFLOWS)
class TwoStages(PolicyController):
    """The two stages as they are."""


# Requests.


def test_the_same_request_is_the_same_job(app: Stageflow) -> None:
    """A request that was made before finds its job, running or ended; new_run makes another."""
    request = Numbers(values=[int(uuid4()) % 10**9])
    first = app.submit(FlatController, request)
    assert first.outcome is SubmitOutcome.CREATED
    app.wait(first.job.job_id, timeout=PATIENCE)
    second = app.submit("flat", request)
    assert (second.job.job_id, second.outcome) == (first.job.job_id, SubmitOutcome.ENDED)
    third = app.submit(FlatController, request, new_run=True)
    assert third.outcome is SubmitOutcome.CREATED
    assert third.job.job_id != first.job.job_id


def test_a_key_means_one_request(app: Stageflow) -> None:
    """The same key with other parameters is a conflict; with the same, the same job; another key, another job."""
    key = uuid4().hex
    first = app.submit(FlatController, Numbers(values=[1]), idempotency_key=key)
    assert app.submit(FlatController, Numbers(values=[1]), idempotency_key=key).job.job_id == first.job.job_id
    assert app.submit(FlatController, Numbers(values=[1]), idempotency_key=key + "b").outcome is SubmitOutcome.CREATED
    with pytest.raises(IdempotencyConflictError):
        app.submit(FlatController, Numbers(values=[2]), idempotency_key=key)


@workflow("flat", registry=WORKFLOWS)
class FlatController(BaseController[Numbers]):
    """One stage."""

    only = stage(1, "only", task=pass_on)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Numbers]) -> Iterator[Number]:
        """Plan the numbers."""
        for value in job.parameters.values:
            yield Number(value=value)


# Cancelling.

STARTED = threading.Event()
STOPPED = threading.Event()


@task("endless", retry=NEVER)
def endless(parameters: Nothing, context: TaskExecutionContext) -> Nothing:
    """Run until told to stop."""
    STARTED.set()
    turn = threading.Event()
    while not context.cancelled:
        turn.wait(0.01)
    STOPPED.set()
    context.check()
    return parameters


@workflow("endless", registry=WORKFLOWS)
class EndlessController(BaseController[Nothing]):
    """One task without end."""

    only = stage(1, "only", task=endless)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Nothing]) -> Iterator[Nothing]:
        """Plan it."""
        yield job.parameters


def test_a_cancelled_job_stops_its_handlers(app: Stageflow) -> None:
    """Cancelling takes effect at once, and a running handler hears of it."""
    STARTED.clear()
    STOPPED.clear()
    job_id = app.submit(EndlessController, Nothing(), new_run=True).job.job_id
    assert STARTED.wait(PATIENCE)
    assert app.cancel(job_id, reason="no longer needed").status is JobStatus.CANCELLED
    assert STOPPED.wait(PATIENCE)
    assert app.wait(job_id, timeout=PATIENCE).error_details == "no longer needed"
    with pytest.raises(JobCancelledError, match="no longer needed"):
        app.result(job_id)


def test_a_job_cancelled_before_it_starts_runs_nothing(idle_app: Stageflow) -> None:
    """Nothing of a cancelled job starts."""
    job_id = idle_app.submit(FlatController, Numbers(values=[1, 2]), new_run=True).job.job_id
    idle_app.cancel(job_id)
    ran = drain_work(idle_app)
    job = idle_app.job(job_id)
    assert job.status is JobStatus.CANCELLED
    assert ran == 0
    assert idle_app.repositories.tasks.list_tasks_for_job(job_id, 1) == []


def test_a_job_that_has_ended_cannot_be_cancelled(app: Stageflow) -> None:
    """What ended stays as it ended."""
    result = run(app, FlatController, Numbers(values=[1]))
    with pytest.raises(InvalidTransitionError):
        app.cancel(result.job_id)
    assert app.job(result.job_id).status is JobStatus.COMPLETED


def test_a_worker_that_stopped_is_no_longer_live(idle_app: Stageflow) -> None:
    """Who explains a job after the last worker signed off reads that none is there, and not a minute later."""
    worker = idle_app.worker()
    worker.start()
    assert [seen.worker_id for seen in idle_app.repositories.leases.list_workers(60)] == [worker.worker_id]
    assert worker.stop()
    job_id = idle_app.submit(FlatController, Numbers(values=[1]), new_run=True).job.job_id
    assert "no live worker" in idle_app.explain(job_id).text
    idle_app.cancel(job_id)


def test_a_worker_starts_once() -> None:
    """A second start would run a second set of threads under one id."""
    with Stageflow("sqlite::memory:", registry=WORKFLOWS, options=OPTIONS) as app, app.worker() as worker:
        with pytest.raises(InvalidTransitionError, match="was started before, and a worker starts once; make another"):
            worker.start()
        worker.stop()
        with pytest.raises(InvalidTransitionError, match="was started before"):
            worker.start()


def test_a_worker_stops_where_its_store_is_gone() -> None:
    """A sign-off that cannot be written is told, and stops nothing."""
    app = Stageflow("sqlite::memory:", registry=WORKFLOWS, options=OPTIONS)
    worker = app.worker()
    worker.start()
    app.close()
    assert worker.stop()
    assert app.telemetry.counts["sign_off_failed"] == 1
    assert app.telemetry.counts["worker_stopped"] == 1
