"""The run of one lease: in index order, and no further than it is wanted."""

from collections.abc import Iterator
from typing import Any, ClassVar, cast

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    PermanentTaskError,
    RetryableTaskError,
    RetryPolicy,
    TaskExecutionContext,
    TaskStatus,
    stage,
    task,
)
from stageflow.contracts.lease import Lease, RangeCompletion, WorkKind
from stageflow.engine.execute import execute_range
from stageflow.worker.board import LeaseBoard
from stageflow.worker.handlers import HandlerRunner

STARTED: list[int] = []
board = LeaseBoard()


class Number(Contract):
    """Parameters of job and task."""

    value: int


@task("quiet")
def quiet(parameters: Number, context: TaskExecutionContext) -> None:
    """Note the task; at the value 1 the work is no longer wanted, at 7 something is returned that should not be."""
    STARTED.append(context.task_index)
    if parameters.value == 1:
        for running in board.running():
            running.stop()
    if parameters.value == 7:
        return cast("None", parameters)
    return None


class Quiet(BaseController[Number]):
    """One stage whose handler returns nothing."""

    only = stage(1, "only", task=quiet)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Number]) -> Iterator[Number]:
        """Plan one task."""
        yield job.parameters


@task("echo", retry=RetryPolicy(max_attempts=2))
def echo(parameters: Number, context: TaskExecutionContext) -> Number:
    """Return what comes in; 1 is to be tried again, 2 never works."""
    context.check()
    if parameters.value == 1:
        raise RetryableTaskError
    if parameters.value == 2:
        raise PermanentTaskError
    return parameters


class Echo(BaseController[Number]):
    """One stage whose results are combined."""

    only = stage(1, "only", task=echo)
    added: ClassVar[list[tuple[int, int]]] = []

    @only.plan
    def plan_only(self, job: JobExecutionContext[Number]) -> Iterator[Number]:
        """Plan one task."""
        yield job.parameters

    @only.combine
    def add(self, left: Number, right: Number) -> Number:
        """Add, and note what."""
        self.added.append((left.value, right.value))
        return Number(value=left.value + right.value)


def run(*values: int, suspect: bool = False, controller: type[BaseController[Number]] = Quiet) -> list[RangeCompletion]:
    """Run a lease of tasks with these values, and return its reports."""
    STARTED.clear()
    Echo.added.clear()
    workflow = JobRegistry().register(controller, "quiet")
    lease = Lease(
        range_id=1,
        token=1,
        kind=WorkKind.TASK,
        job_id="0" * 64,
        job_type="quiet",
        workflow_version=1,
        run=1,
        stage_id=1,
        stage_number=1,
        generation=1,
        task_type="quiet",
        first=4,
        last=4 + len(values),
        attempt=1,
        deaths=0,
        suspect=suspect,
        tasks=[Number(value=value).to_json() for value in values],
    )
    handlers = HandlerRunner(1)
    with board.holding(lease) as running:
        return list(execute_range(lease, workflow, running, cast("Any", handlers.run), worker_id="w"))


def test_a_lease_ends_where_its_work_is_no_longer_wanted() -> None:
    """The task at work ends and is reported; those after it are not started, and stay for the store to decide."""
    reports = run(0, 1, 2, 3, suspect=True)
    assert STARTED == [4, 5]
    assert [(report.first, report.statuses) for report in reports] == [(4, [TaskStatus.COMPLETED]), (5, [TaskStatus.COMPLETED])]


def test_the_tasks_of_a_suspect_lease_are_reported_one_by_one() -> None:
    """What a killer's neighbours did is safe before the next of them starts."""
    assert [report.first for report in run(0, 0, 0, suspect=True)] == [4, 5, 6]


def test_a_handler_without_a_result_returns_none_and_nothing_else() -> None:
    """A result that no model describes is a contract violation, and is not retried."""
    (report,) = run(7, suspect=True)
    assert report.statuses == [TaskStatus.FAILED]
    assert "must return None, it returned Number" in str(report.errors[0])


def test_a_report_holds_its_results_combined() -> None:
    """One value for the tasks up to a retried one, and one for those after it; a failed task is left out."""
    (report,) = run(10, 2, 20, 1, 30, 40, controller=Echo)
    combined = [(each.first, each.last, each.successful_tasks, each.value) for each in report.partials]
    assert combined == [(4, 7, 2, '{"value":30}'), (8, 10, 2, '{"value":70}')]
    assert Echo.added == [(10, 20), (30, 40)]


def test_a_suspect_lease_combines_nothing() -> None:
    """A combine that kills workers is met by none of the tasks that are run again one by one, so these can complete."""
    reports = run(10, 20, 30, suspect=True, controller=Echo)
    assert [report.partials[0].value for report in reports] == ['{"value":10}', '{"value":20}', '{"value":30}']
    assert Echo.added == []
