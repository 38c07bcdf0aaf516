"""What a long task tells, keeps and asks for, on each store."""

import importlib
import threading
from collections.abc import Iterator
from pathlib import Path
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
    RetryableTaskError,
    RetryPolicy,
    Stageflow,
    StageResults,
    TaskCancelledError,
    TaskExecutionContext,
    TaskStatus,
    WorkerOptions,
    WorkflowDefinitionError,
    stage,
    task,
    workflow,
)
from stageflow.errors import HostMissingError, InvalidValueError
from stageflow.telemetry import Event
from stageflow.testing import drain_work, task_context
from stageflow.testing.postgres_server import PostgresDatabases

OPTIONS = WorkerOptions(slots=2, poll_seconds=0.2, beat_seconds=0.1, lease_seconds=30.0, recover_seconds=0.2, processes=1)
WORKFLOWS = JobRegistry()
heard = threading.Event()
never = threading.Event()


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


# Checkpoints.


class Place(Contract):
    """Where a handler is."""

    steps: list[int]


class Larger(Contract):
    """A checkpoint with a field that older ones do not have."""

    steps: list[int]
    more: str


@task("step", timeout_seconds=1, retry=RetryPolicy(max_attempts=4, initial_seconds=0, cap_seconds=0))
def step(parameters: Item, context: TaskExecutionContext) -> Place:  # noqa: ARG001  the shape of a handler
    """Do a step an attempt, from where the last one was; the first attempt fails, the second one hangs."""
    place = context.last_checkpoint(Place) or Place(steps=[])
    if len(place.steps) < 3:
        place = Place(steps=[*place.steps, context.attempt])
        context.checkpoint(Place(steps=[]))
        context.checkpoint(place)
        assert context.last_checkpoint(Place) == place
    if context.attempt == 1:
        raise RetryableTaskError
    if context.attempt == 2:
        while not never.wait(0.01):
            context.check()
    return place


@task("keep_badly")
def keep_badly(parameters: Item, context: TaskExecutionContext) -> Found:  # noqa: ARG001  the shape of a handler
    """Store what cannot be stored, or read it as something else."""
    match context.task_index:
        case 0:
            context.checkpoint(Larger(steps=[], more="x" * 1_048_576))
        case 1:
            context.checkpoint(Larger(steps=[], more="a\0b"))
        case 2:
            context.checkpoint({"steps": []})  # type: ignore[arg-type]
        case _:
            context.checkpoint(Place(steps=[1]))
            context.last_checkpoint(Larger)
    return Found(number=0)


@workflow("stepping", registry=WORKFLOWS)
class Stepping(BaseController[Item]):
    """One stage of tasks that go on, one of tasks that keep what they may not."""

    first = stage(1, "step", task=step)
    second = stage(2, "keep badly", task=keep_badly, after=first, policy=FailurePolicy.any_may_fail())

    @first.plan
    def plan_first(self, job: JobExecutionContext[Item]) -> Iterator[Item]:
        """Plan two tasks."""
        yield job.parameters
        yield job.parameters

    @second.plan
    def plan_second(self, job: JobExecutionContext[Item], results: StageResults[Place]) -> Iterator[Item]:  # noqa: ARG002
        """Plan a task for each mistake."""
        for number in range(4):
            yield Item(number=number)


def test_the_next_attempt_goes_on_from_the_last_checkpoint(app: Stageflow) -> None:
    """After an error and after a timeout; what is wrong with a checkpoint is said, and never tried again."""
    job_id = app.submit(Stepping, Item(number=0), new_run=True).job.job_id
    result = app.wait(job_id, timeout=30)
    assert [row.result_data for row in result.stage_results["1"].task_results] == [{"steps": [1, 2, 3]}] * 2
    mistakes = result.stage_results["2"].task_results
    assert [row.attempt for row in mistakes] == [1] * 4
    large, nul, bare, other = (row.error_details or "" for row in mistakes)
    assert "PayloadTooLargeError: the checkpoint of task 0 of stage 2: 1048" in large
    assert "InvalidValueError: the payload holds text with a NUL character" in nul
    assert "ContractViolationError" in bare
    assert "InvalidValueError: the checkpoint of task 3 of stage 2 is no Larger" in other


def test_no_checkpoint_is_left_when_a_job_has_ended(app: Stageflow) -> None:
    """What the tasks kept is gone, also that of the failed ones."""
    job_id = app.submit(Stepping, Item(number=0), new_run=True).job.job_id
    app.wait(job_id, timeout=30)
    for record in app.repositories.stages.list_stages(job_id, 1):
        for index in range(record.task_count):
            assert app.repositories.store.get_checkpoint(record.stage_id, index, 1) is None


def test_a_handler_that_lost_its_lease_cannot_store_a_checkpoint() -> None:
    """It is told to stop, and the next holder's checkpoint stays."""
    with Stageflow("sqlite::memory:", registry=WORKFLOWS) as app:
        app.submit(Losing, Item(number=0))
        meddler.append(app)
        drain_work(app)
        assert lost == ["TaskCancelledError: task 0 of stage 1 lost its lease; its checkpoint was not stored, stop"]


lost: list[str] = []
meddler: list[Stageflow] = []


@task("lose")
def lose(parameters: Item, context: TaskExecutionContext) -> Found:  # noqa: ARG001  the shape of a handler
    """Store a checkpoint after an operator took the task away."""
    if context.attempt == 1:
        store = meddler[0].repositories.store
        assert store.close_task(context.job_id, 1, 0, TaskStatus.QUEUED, "by hand")
        try:
            context.checkpoint(Place(steps=[]))
        except TaskCancelledError as error:
            lost.append(f"{type(error).__name__}: {error}")
            raise
    return Found(number=context.attempt)


@workflow("losing", registry=WORKFLOWS)
class Losing(BaseController[Item]):
    """One stage."""

    only = stage(1, "lose", task=lose)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Item]) -> Iterator[Item]:
        """Plan one task."""
        yield job.parameters


def test_a_unit_test_gives_and_keeps_checkpoints() -> None:
    """A handler can be tested without a store: it gets what the test gives, and what it stored itself."""
    context = task_context(last_checkpoint=Place(steps=[1, 2]), attempt=3)
    assert step.function(Item(number=0), context) == Place(steps=[1, 2, 3])
    assert context.last_checkpoint(Place) == Place(steps=[1, 2, 3])
    assert task_context().last_checkpoint(Place) is None
    with pytest.raises(InvalidValueError, match="1048"):
        context.checkpoint(Larger(steps=[], more="x" * 1_048_576))


# Child processes.


def test_a_child_process_asks_its_worker_for_all_that_a_context_gives(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predecessor, checkpoint, progress and their errors pass over the line between the two."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    work = importlib.import_module("line_work")
    registry = JobRegistry()

    @workflow("asking", registry=registry)
    class Asking(BaseController[Item]):
        """A stage that asks, and one that asks for what cannot be had."""

        first = stage(1, "give", task=work.first_number)
        second = stage(2, "ask", task=work.ask_from_child, after=first)
        third = stage(3, "err", task=work.err_in_child, after=second, policy=FailurePolicy.any_may_fail())

        @first.plan
        def plan_first(self, job: JobExecutionContext[Item]) -> Iterator[Any]:  # noqa: ARG002
            """Plan two numbers."""
            yield from (work.Number(number=10), work.Number(number=20))

        @second.plan
        def plan_second(self, job: JobExecutionContext[Item], results: Any) -> Iterator[Any]:  # noqa: ARG002
            """Plan two more."""
            yield from (work.Number(number=1), work.Number(number=2))

        @third.plan
        def plan_third(self, job: JobExecutionContext[Item], results: Any) -> Iterator[Any]:
            """Plan two mistakes, a long one if the parameters say so, and one that is none."""
            del results
            yield from (work.Number(number=number) for number in [0, 1, *([2] if job.parameters.fails else []), 3])

    with Stageflow(store_url, registry=registry, options=OPTIONS) as app:
        app.migrate()
        with app.worker():
            result = app.wait(app.submit(Asking, Item(number=0)).job.job_id, timeout=60)
            assert [row.result_data for row in result.stage_results["2"].task_results] == [{"number": 211}, {"number": 222}]
            bare, none, fine = result.stage_results["3"].task_results
            assert "ContractViolationError" in (bare.error_details or "")
            assert "InvalidValueError: task 'err_in_child' declares no predecessor" in (none.error_details or "")
            assert fine.error_details is None

            def cancel(event: Event) -> None:
                if event.name == "task_progress" and event.details["stage"] == 3:
                    app.cancel(event.job_id)

            with app.telemetry.listening(cancel):
                job_id = app.submit(Asking, Item(number=0, fails=True)).job.job_id
                assert app.wait(job_id, timeout=60).status is JobStatus.CANCELLED
        assert app.telemetry.counts["slot_failed"] == 0


def test_a_child_process_that_dies_takes_no_other_task_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task that killed it is tried again; the one that ran in another child beside it goes on in its first attempt."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    work = importlib.import_module("line_work")
    registry = JobRegistry()

    @workflow("dying", registry=registry)
    class Dying(BaseController[Item]):
        """One stage."""

        only = stage(1, "die", task=work.die_in_child)

        @only.plan
        def plan_only(self, job: JobExecutionContext[Item]) -> Iterator[Any]:  # noqa: ARG002
            """Plan one task that dies, and one that waits for its next attempt."""
            yield from (work.Meeting(file=str(tmp_path / "begun"), dies=dies) for dies in (True, False))

    options = WorkerOptions(slots=2, poll_seconds=0.2, beat_seconds=0.1, processes=2)
    with Stageflow("sqlite::memory:", registry=registry, options=options) as app, app.worker():
        result = app.wait(app.submit(Dying, Item(number=0)).job.job_id, timeout=60)
    assert [row.result_data for row in result.stage_results["1"].task_results] == [{"number": 2}, {"number": 1}]
