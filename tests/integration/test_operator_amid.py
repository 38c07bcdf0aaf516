"""An operator ends or requeues tasks under the very lease that runs them: the worker goes on, and nothing is lost."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    Stageflow,
    TaskExecutionContext,
    TaskStatus,
    stage,
    task,
    workflow,
)
from stageflow.contracts.ids import make_task_id
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.testing.drain import drain_work

registry = JobRegistry()
meddling: list[Callable[[str, int], object]] = []

_TASKS = 60
_TAKEN = {17: 19, 41: 41}
"""While the first runs the second is taken from the same lease: one that has not started, and the very one that runs."""


class Many(Contract):
    """Job parameters."""

    status: TaskStatus


class Item(Contract):
    """Task parameters and result."""

    index: int


@task("meddled_item")
def item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Have a task taken, once."""
    if parameters.index in _TAKEN and context.attempt == 1:
        meddling[-1](context.job_id, _TAKEN[parameters.index])
    return parameters


@workflow("meddled_with", registry=registry)
class MeddledController(BaseController[Many]):
    """One stage."""

    only = stage(1, "only", task=item, policy=FailurePolicy.any_may_fail())

    @only.plan
    def plan_only(self, job: JobExecutionContext[Many]) -> Iterator[Item]:  # noqa: ARG002  the shape of a planner
        """Plan items."""
        for index in range(_TASKS):
            yield Item(index=index)


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each kind of store, that no worker works on."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        yield made


@pytest.mark.parametrize("status", [TaskStatus.QUEUED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED])
def test_a_worker_goes_on_around_the_tasks_that_are_taken_from_it(app: Stageflow, status: TaskStatus) -> None:
    """Each task ends once: those that were taken as the operator said, all others completed, and the job with them."""
    tasks = app.repositories.tasks
    taken: list[int] = []

    def take(job_id: str, index: int) -> None:
        if index not in taken:
            taken.append(index)
            tasks.update_task_status_with_validation(make_task_id(job_id, 1, index), status)

    meddling.append(take)
    job_id = app.submit(MeddledController, Many(status=status)).job.job_id
    controller = app.registry.find("meddled_with").controller
    controller.process_job_queue_message(JobQueueMessage(job_id=job_id, job_type="meddled_with", stage_number=1))
    controller.process_task_queue_message(
        TaskQueueMessage(job_id=job_id, job_type="meddled_with", task_type="meddled_item", stage_number=1, first=0, last=_TASKS)
    )
    drain_work(app)
    meddling.pop()
    assert sorted(taken) == [19, 41]
    found = tasks.list_tasks_for_job(job_id, 1, 0, 100)
    counted = Counter(each.status for each in found)
    if status is TaskStatus.QUEUED:
        assert counted == {TaskStatus.COMPLETED: _TASKS}
        assert {each.task_index for each in found if each.attempt == 2} == set(taken)
        assert app.job(job_id).status is JobStatus.COMPLETED
    else:
        assert counted == {TaskStatus.COMPLETED: _TASKS - 2, status: 2}
        assert {each.task_index for each in found if each.status is status} == set(taken)
        assert app.job(job_id).is_terminal
