"""What a long task tells, keeps and asks for, on each store."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    PermanentTaskError,
    PredecessorMissingError,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WorkerOptions,
    WorkflowDefinitionError,
    stage,
    task,
    workflow,
)
from stageflow.errors import HostMissingError, InvalidValueError
from stageflow.telemetry import Event
from stageflow.testing import task_context
from stageflow.testing.postgres_server import PostgresDatabases

OPTIONS = WorkerOptions(slots=2, poll_seconds=0.2, beat_seconds=0.1, lease_seconds=30.0, recover_seconds=0.2, processes=1)
WORKFLOWS = JobRegistry()
heard = threading.Event()


class Item(Contract):
    """Parameters of job and tasks."""

    number: int
    fails: bool = False


class Found(Contract):
    """What the first stage finds."""

    number: int


class Told(Contract):
    """What the second stage makes of it."""

    before: int


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name a store that nobody else uses."""
    if request.param == "sqlite":
        yield "sqlite::memory:"
        return
    server: PostgresDatabases = request.getfixturevalue("postgres_server")
    dsn = server.create_database()
    yield dsn
    server.drop_database(dsn)


@pytest.fixture
def app(store_url: str) -> Iterator[Stageflow]:
    """Give an app with a worker."""
    with Stageflow(store_url, registry=WORKFLOWS, options=OPTIONS) as made:
        made.migrate()
        with made.worker():
            yield made


# The result of the stage before.


@task("find")
def find(parameters: Item, context: TaskExecutionContext) -> Found:
    """Find ten times the number, or fail."""
    if parameters.fails:
        raise PermanentTaskError
    return Found(number=10 * parameters.number + context.task_index)


@task("tell", predecessor=Found)
def tell(parameters: Item, context: TaskExecutionContext) -> Told:  # noqa: ARG001  the shape of a handler
    """Tell what was found."""
    return Told(before=context.predecessor(Found).number)


@task("tell_later", predecessor=Told, timeout_seconds=60)
async def tell_later(parameters: Item, context: TaskExecutionContext) -> Told:  # noqa: ARG001  the shape of a handler
    """Tell it again, from the event loop and under a timeout."""
    return Told(before=context.predecessor().before)


@workflow("following", registry=WORKFLOWS)
class Following(BaseController[Item]):
    """Three stages, index by index; the second one plans a task more than the first."""

    first = stage(1, "find", task=find, policy=FailurePolicy.any_may_fail())
    second = stage(2, "tell", task=tell, after=first, policy=FailurePolicy.any_may_fail())
    third = stage(3, "tell again", task=tell_later, after=second, policy=FailurePolicy.any_may_fail())

    @first.plan
    def plan_first(self, job: JobExecutionContext[Item]) -> Iterator[Item]:
        """Plan three tasks, of which the second may fail."""
        for number in range(3):
            yield Item(number=number, fails=number == 1 and job.parameters.fails)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Item], results: StageResults[Found]) -> Iterator[Item]:
        """Plan as many, and those that the parameters say on top."""
        for number in range(results.task_count + job.parameters.number):
            yield Item(number=number)

    @third.plan
    def plan_third(self, job: JobExecutionContext[Item], results: StageResults[Told]) -> Iterator[Item]:  # noqa: ARG002
        """Plan as many as the first."""
        for number in range(3):
            yield Item(number=number)


def told(app: Stageflow, stage_number: int, parameters: Item) -> list[Any]:
    """Run the job, and return what each task of a stage told, or its error."""
    job_id = app.submit(Following, parameters, new_run=True).job.job_id
    result = app.wait(job_id, timeout=30)
    rows = result.stage_results[str(stage_number)].task_results
    return [row.error_details if row.result_data is None else row.result_data["before"] for row in rows]


def test_a_handler_is_given_the_result_of_the_same_index_of_the_stage_before(app: Stageflow) -> None:
    """In a thread and on the event loop, as the model that the task declares."""
    assert told(app, 2, Item(number=0)) == [0, 11, 22]
    assert told(app, 3, Item(number=0)) == [0, 11, 22]


def test_a_predecessor_that_has_no_result_is_a_clear_error(app: Stageflow) -> None:
    """A failed task and a missing one have none; no further attempt is made."""
    first, second, third, fourth = told(app, 2, Item(number=1, fails=True))
    assert (first, third) == (0, 22)
    assert "PredecessorMissingError: task 1 of stage 2 has no predecessor: task 1 of stage 1 is failed" in second
    assert "PredecessorMissingError: task 3 of stage 2 has no predecessor: stage 1 has 3 tasks" in fourth


def test_a_predecessor_that_no_stage_gives_is_refused_at_registration() -> None:
    """Another model than the stage before gives, no stage before, or no model at all."""

    class Alone(BaseController[Item]):
        """A first stage with a predecessor."""

        only = stage(1, "only", task=tell)

        @only.plan
        def plan_only(self, job: JobExecutionContext[Item]) -> Iterator[Item]:
            """Plan one task."""
            yield job.parameters

    class Wrong(BaseController[Item]):
        """A second stage with another predecessor."""

        first = stage(1, "find", task=find)
        second = stage(2, "tell", task=tell_later, after=first)

        @first.plan
        def plan_first(self, job: JobExecutionContext[Item]) -> Iterator[Item]:
            """Plan one task."""
            yield job.parameters

        @second.plan
        def plan_second(self, job: JobExecutionContext[Item], results: StageResults[Found]) -> Iterator[Item]:  # noqa: ARG002
            """Plan one task."""
            yield job.parameters

    with pytest.raises(WorkflowDefinitionError, match="declares predecessor=Found, but it follows no stage"):
        JobRegistry().register(Alone, "alone")
    with pytest.raises(WorkflowDefinitionError, match=r"declares predecessor=Told, but .* gives Found"):
        JobRegistry().register(Wrong, "wrong")
    with pytest.raises(WorkflowDefinitionError, match="predecessor of task 'x' must be a Contract, but is int"):
        task("x", predecessor=int)  # type: ignore[arg-type]


def test_the_predecessor_of_a_unit_test_is_the_one_it_gives() -> None:
    """A handler can be tested without a store; what it may not ask for is refused there too."""
    context = task_context(predecessor=Found(number=7))
    assert tell(Item(number=0), context) == Told(before=7)
    with pytest.raises(InvalidValueError, match="the stage before gives Found"):
        context.predecessor(Told)
    with pytest.raises(PredecessorMissingError, match=r"pass one to task_context"):
        task_context().predecessor()
    bare = TaskExecutionContext.from_json(context.to_json())
    with pytest.raises(HostMissingError, match="needs a worker"):
        bare.predecessor()


# Progress.


@task("advance_slowly")
def advance_slowly(parameters: Item, context: TaskExecutionContext) -> Found:
    """Tell how far it is, until somebody has heard it."""
    context.progress(1, 4)
    context.progress(parameters.number, 4)
    assert heard.wait(30)
    return Found(number=context.task_index)


@workflow("progressing", registry=WORKFLOWS)
class Progressing(BaseController[Item]):
    """One stage."""

    only = stage(1, "only", task=advance_slowly)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Item]) -> Iterator[Item]:
        """Plan one task."""
        yield job.parameters


def test_progress_is_told_with_the_heartbeat(app: Stageflow) -> None:
    """The newest word of a running handler is an event."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        if event.name == "task_progress":
            events.append(event)
            if event.details["done"] == 2:
                heard.set()

    heard.clear()
    with app.telemetry.listening(listen):
        job_id = app.submit(Progressing, Item(number=2), new_run=True).job.job_id
        assert app.wait(job_id, timeout=30).status is JobStatus.COMPLETED
    assert events[-1].job_id == job_id
    assert events[-1].details == {"stage": 1, "task_index": 0, "done": 2, "total": 4}


@pytest.mark.parametrize(("done", "total"), [(-1, 4), (5, 4), (0, 0), (float("nan"), 4), (1, float("inf")), (1, float("nan"))])
def test_progress_that_says_nothing_is_refused(done: float, total: float) -> None:
    """Progress is a part of a whole."""
    with pytest.raises(InvalidValueError, match="says nothing"):
        task_context().progress(done, total)
