"""Stages whose results are combined while their tasks finish, run by a worker on each store."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    JobResult,
    JobStatus,
    RetryableTaskError,
    RetryPolicy,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    TaskStatus,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.contracts.partial import Partial
from stageflow.contracts.results import ResultRow
from stageflow.contracts.task import TaskResult
from stageflow.repositories import StageRepository

OPTIONS = WorkerOptions(slots=4, poll_seconds=0.2, beat_seconds=0.1, lease_seconds=30.0, recover_seconds=0.2)
PATIENCE = 60
SECRET = "hunter2"
WIDE = 20_000
MODULUS = 1_000_003
registry = JobRegistry()


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each kind of store, that no worker works on yet."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=registry, options=OPTIONS) as made:
        made.migrate()
        yield made


def run(app: Stageflow, controller: type[BaseController[Any]], parameters: Contract) -> JobResult:
    """Submit a job of its own, work for it, and wait for its end."""
    with app.worker():
        return app.wait(app.submit(controller, parameters, new_run=True).job.job_id, timeout=PATIENCE)


class Width(Contract):
    """Job parameters: how many tasks there are."""

    tasks: int


class Number(Contract):
    """Task parameters, and a result."""

    value: int


class Affine(Contract):
    """The map ``x -> factor * x + shift``; maps after one another are a map, and their order matters."""

    factor: int
    shift: int


def after(left: Affine, right: Affine) -> Affine:
    """Return ``left``, then ``right``."""
    return Affine(
        factor=left.factor * right.factor % MODULUS,
        shift=(left.shift * right.factor + right.shift) % MODULUS,
    )


def affine(index: int) -> Affine:
    """Return the map of a task."""
    return Affine(factor=2 + index % 7, shift=index)


@task("square")
def square(parameters: Number, context: TaskExecutionContext) -> Number:  # noqa: ARG001
    """Square a number."""
    return Number(value=parameters.value**2)


@workflow("sum_of_squares", registry=registry)
class SumOfSquares(BaseController[Width]):
    """Sums its results while they come; everybody who looks at them asks for the sum."""

    squares = stage(1, "squares", task=square)
    again = stage(2, "again", task=square, after=squares)

    @squares.plan
    def plan_squares(self, job: JobExecutionContext[Width]) -> Iterator[Number]:
        """Plan a number each."""
        return (Number(value=value) for value in range(job.parameters.tasks))

    @squares.combine
    def add(self, left: Number, right: Number) -> Number:
        """Add two sums."""
        return Number(value=left.value + right.value)

    @squares.aggregate
    def summarise(self, job: JobExecutionContext[Width], results: StageResults[Number]) -> Number:  # noqa: ARG002
        """Give the sum, and read nothing."""
        return results.combined() or Number(value=0)

    @again.plan
    def plan_again(self, job: JobExecutionContext[Width], squares: StageResults[Number]) -> Iterator[Number]:  # noqa: ARG002
        """Go on with the sum."""
        total = squares.combined()
        assert total is not None
        yield total

    def aggregate_job_results(self, job: JobExecutionContext[Width], stage_results: dict[int, StageResults[Any]]) -> Number:  # noqa: ARG002
        """Answer with the sum."""
        total = self.squares.of(stage_results).combined()
        assert total is not None
        return total


class CountedStages(StageRepository):
    """The stage repository, that counts the rows it reads for others."""

    def __init__(self, app: Stageflow) -> None:
        super().__init__(app.repositories.store)
        self.rows: Counter[str] = Counter()

    def list_result_rows(self, stage_id: int, first_index: int, limit: int, failed_only: bool) -> list[ResultRow]:  # noqa: FBT001
        """Read and count."""
        rows = super().list_result_rows(stage_id, first_index, limit, failed_only)
        self.rows["results"] += len(rows)
        return rows

    def list_task_results(self, stage_id: int, first_index: int, limit: int) -> list[TaskResult]:
        """Read and count."""
        results = super().list_task_results(stage_id, first_index, limit)
        self.rows["results"] += len(results)
        return results

    def list_partials(self, stage_id: int, first_index: int, limit: int) -> list[Partial]:
        """Read and count."""
        partials = super().list_partials(stage_id, first_index, limit)
        self.rows["partials"] += len(partials)
        return partials


@pytest.mark.timeout(120)
def test_a_wide_stage_is_summed_without_reading_its_results(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aggregate, planner and answer all have the sum of 20,000 results, and none of them reads a result row."""
    counted = CountedStages(app)
    monkeypatch.setattr(app, "repositories", replace(app.repositories, stages=counted))
    result = run(app, SumOfSquares, Width(tasks=WIDE))
    total = sum(value**2 for value in range(WIDE))
    assert result.stage_results["1"].metadata == {"value": total}
    assert result.result_data == {"value": total}
    assert counted.rows["results"] == 0
    assert 0 < counted.rows["partials"] < WIDE


class Sequence(Contract):
    """Job parameters: tasks that fail at first, and tasks that always do."""

    tasks: int
    late: list[int]
    never: list[int]


class Step(Contract):
    """Task parameters."""

    index: int
    late: bool
    never: bool


@task("map", retry=RetryPolicy(max_attempts=3, initial_seconds=0, cap_seconds=0))
def make_map(parameters: Step, context: TaskExecutionContext) -> Affine:
    """Give the map of a task, at the third attempt where it is late."""
    if parameters.never or (parameters.late and context.attempt < 3):
        msg = f"task {parameters.index} is not ready"
        raise RetryableTaskError(msg)
    return affine(parameters.index)


@workflow("composition", registry=registry)
class Composition(BaseController[Sequence]):
    """Composes maps, whose order matters."""

    maps = stage(1, "maps", task=make_map, policy=FailurePolicy.any_may_fail())

    @maps.plan
    def plan_maps(self, job: JobExecutionContext[Sequence]) -> Iterator[Step]:
        """Plan a map each."""
        for index in range(job.parameters.tasks):
            yield Step(index=index, late=index in job.parameters.late, never=index in job.parameters.never)

    @maps.combine
    def compose(self, left: Affine, right: Affine) -> Affine:
        """Apply one after the other."""
        return after(left, right)

    @maps.aggregate
    def summarise(self, job: JobExecutionContext[Sequence], results: StageResults[Affine]) -> Affine:  # noqa: ARG002
        """Give the composition."""
        composed = results.combined()
        assert composed is not None
        return composed


def test_what_comes_late_is_combined_in_its_place_and_what_failed_is_left_out(app: Stageflow) -> None:
    """Retries fill their holes later, failed tasks leave none: the same as a fold of the results in index order."""
    count = 600
    parameters = Sequence(tasks=count, late=list(range(0, count, 13)), never=[1, 2, 3, 300, count - 1])
    result = run(app, Composition, parameters)
    expected = affine(0)
    for index in range(1, count):
        if index not in parameters.never:
            expected = after(expected, affine(index))
    assert result.stage_results["1"].metadata == expected.model_dump()


@workflow("broken_sum", registry=registry)
class BrokenSum(BaseController[Width]):
    """Cannot combine, and nobody asks."""

    squares = stage(1, "squares", task=square)

    @squares.plan
    def plan_squares(self, job: JobExecutionContext[Width]) -> Iterator[Number]:
        """Plan a number each."""
        return (Number(value=value) for value in range(job.parameters.tasks))

    @squares.combine
    def add(self, left: Number, right: Number) -> Number:
        """Fail, with a secret in the message."""
        msg = f"cannot add {left.value} and {right.value}: postgresql://ada:{SECRET}@db/x is gone"
        raise ValueError(msg)


@workflow("wrong_sum", registry=registry)
class WrongSum(BrokenSum):
    """Combines to something that is no result."""

    def add(self, left: Number, right: Number) -> Number:
        """Return plain text."""
        return cast("Number", f"{left.value + right.value}")


@workflow("right_sum", registry=registry)
class RightSum(BrokenSum):
    """Overrides the method that the base class declares."""

    def add(self, left: Number, right: Number) -> Number:
        """Add."""
        return Number(value=left.value + right.value)

    def aggregate_job_results(
        self,
        job: JobExecutionContext[Width],  # noqa: ARG002
        stage_results: dict[int, StageResults[Any]],
    ) -> Number | None:
        """Answer with the sum."""
        return self.squares.of(stage_results).combined()


@pytest.mark.parametrize(
    ("controller", "complaint"),
    [
        (BrokenSum, "combine raised ValueError: Traceback"),
        (WrongSum, "combine raised ContractViolationError: .*WrongSum.add.*return value must be Number, got str"),
    ],
)
def test_an_error_in_combine_fails_the_job_and_no_task(
    app: Stageflow, controller: type[BaseController[Any]], complaint: str
) -> None:
    """It shows where the stage is closed, traceback and all, secrets redacted; the tasks have completed and stay so."""
    result = run(app, controller, Width(tasks=40))
    assert result.status is JobStatus.FAILED
    assert re.match(rf"(?s)Closing stage 1 failed: {complaint}", result.error_details or "")
    assert ", in add" in str(result.error_details) or "WrongSum.add" in str(result.error_details)
    assert SECRET not in str(result.error_details)
    statuses = Counter(task.status for task in app.repositories.tasks.list_tasks_for_job(result.job_id, 1))
    assert statuses == {TaskStatus.COMPLETED: 40}


@pytest.mark.parametrize(("tasks", "answer"), [(0, None), (1, {"value": 0}), (4, {"value": 14})])
def test_a_subclass_overrides_what_combines(app: Stageflow, tasks: int, answer: dict[str, int] | None) -> None:
    """Workers call the method of the class that was registered. One result is what it is, and of none there is none."""
    assert run(app, RightSum, Width(tasks=tasks)).result_data == answer
