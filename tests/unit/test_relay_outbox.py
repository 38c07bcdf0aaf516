"""Ready work becomes messages: which, in what order, and what is noted and told of it."""

from collections.abc import Iterator
from itertools import permutations

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobQueueMessage,
    JobRegistry,
    Stageflow,
    TaskExecutionContext,
    TaskQueueMessage,
    stage,
    task,
    workflow,
)
from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.outbox import Announcement
from stageflow.engine import outbox
from stageflow.engine.outbox import bundle, relay_announcements
from stageflow.errors import MessagesUnsentError
from stageflow.telemetry import Event
from stageflow.testing.conformance.builders import job_id_of, new_job, start
from stageflow.testing.drain import move_clock
from tests.memory_queue import MemoryQueue

registry = JobRegistry()


class Count(Contract):
    """Job and task parameters."""

    count: int


@task("step")
def step(parameters: Count, context: TaskExecutionContext) -> None:
    """Do nothing."""


@workflow("steps", registry=registry)
class Steps(BaseController[Count]):
    """One stage."""

    only = stage(1, "only", task=step)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Count]) -> Iterator[Count]:
        """Plan one task."""
        yield job.parameters


@pytest.fixture
def queue() -> MemoryQueue:
    """Give an empty queue."""
    return MemoryQueue()


@pytest.fixture
def app(queue: MemoryQueue) -> Iterator[Stageflow]:
    """Give an app in memory, whose ready work goes to the queue."""
    with Stageflow("sqlite::memory:", registry=registry, queue=queue) as app:
        yield app


@pytest.fixture
def events(app: Stageflow) -> Iterator[list[Event]]:
    """Note what is told of announcements."""
    heard: list[Event] = []
    with app.telemetry.listening(lambda event: heard.append(event) if event.name == "work_announced" else None):
        yield heard


def submit(app: Stageflow, *counts: int) -> list[str]:
    """Submit jobs, and return their ids in order."""
    return sorted(app.submit(Steps, Count(count=count)).job.job_id for count in counts)


def make_ranges(app: Stageflow, tasks: int, ranges: int) -> str:
    """Make tasks of a job ready, and return its id."""
    store = app.repositories.store
    assert isinstance(store, SqliteStore)
    start(store, new_job(), tasks, range_count=ranges)
    return job_id_of("job")


def received(queue: MemoryQueue) -> list[JobQueueMessage | TaskQueueMessage]:
    """Receive and acknowledge all messages."""
    messages: list[JobQueueMessage | TaskQueueMessage] = []
    for each in queue.receive(max_messages=100, visibility_seconds=60):
        kind = JobQueueMessage if each.queue == "memory-jobs" else TaskQueueMessage
        messages.append(kind.from_wire(each.body))
        queue.delete(each)
    return messages


def unannounced(app: Stageflow) -> list[str]:
    """Return the jobs whose work waits to be announced."""
    waiting = app.repositories.store.list_unannounced(older_than_seconds=None, limit=100)
    return sorted(each.message.job_id for each in waiting)


def planning(job_id: str) -> JobQueueMessage:
    """Return the message that has a job's first stage planned."""
    return JobQueueMessage(job_id=job_id, job_type="steps", stage_number=1)


def tasks(first: int, last: int) -> TaskQueueMessage:
    """Return the message that names tasks of the job that ``make_ranges`` makes."""
    return TaskQueueMessage(job_id=job_id_of("job"), job_type="demo", task_type="work", stage_number=1, first=first, last=last)


def relay(app: Stageflow, queue: MemoryQueue) -> int:
    """Relay as a worker does that relays all."""
    return relay_announcements(app.repositories, queue, app.telemetry)


def test_ready_work_is_announced_once(app: Stageflow, queue: MemoryQueue, events: list[Event]) -> None:
    """All of it, each in a message of its own; where nothing waits, nothing is sent and nothing told."""
    job_ids = submit(app, 1, 2, 3)
    assert relay(app, queue) == 3
    assert sorted(each.job_id for each in received(queue)) == job_ids
    assert events == [Event(name="work_announced", details={"messages": 3, "ranges": 3})]
    assert unannounced(app) == []
    assert relay(app, queue) == 0
    assert (len(events), queue.probe()) == (1, 0)


def test_a_lost_message_is_sent_again_by_who_looks_for_old_ones(app: Stageflow, queue: MemoryQueue) -> None:
    """A look at what is new does not see it, and neither does one before its time."""
    (job_id,) = submit(app, 1)
    assert relay(app, queue) == 1
    assert received(queue) == [planning(job_id)]
    move_clock(app, 59)
    assert relay_announcements(app.repositories, queue, app.telemetry, older_than_seconds=60) == 0
    move_clock(app, 2)
    assert relay(app, queue) == 0
    assert relay_announcements(app.repositories, queue, app.telemetry, older_than_seconds=60) == 1
    assert received(queue) == [planning(job_id)]


def test_upkeep_announces_whatever_waits(
    app: Stageflow, queue: MemoryQueue, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch by batch, and what was lost as well."""
    monkeypatch.setattr(outbox, "RELAY_BATCH", 2)
    job_ids = submit(app, 1, 2, 3)
    assert app.maintain().announced == 3
    assert [event.details for event in events] == [{"messages": 2, "ranges": 2}, {"messages": 1, "ranges": 1}]
    assert sorted(each.job_id for each in received(queue)) == job_ids
    move_clock(app, 59)
    assert app.maintain().announced == 0
    move_clock(app, 2)
    assert app.maintain().announced == 3


def test_what_is_left_to_others_stays(app: Stageflow, queue: MemoryQueue, events: list[Event]) -> None:
    """A relay sends what it chooses; choosing nothing sends nothing, and nobody is asked where nothing waits."""
    mine, theirs = submit(app, 1, 2)
    asked: list[list[str]] = []

    def choose(waiting: list[Announcement]) -> list[Announcement]:
        asked.append(sorted(each.message.job_id for each in waiting))
        return [each for each in waiting if each.message.job_id == mine]

    assert relay_announcements(app.repositories, queue, app.telemetry, choose=choose) == 1
    assert received(queue) == [planning(mine)]
    assert unannounced(app) == [theirs]
    assert relay_announcements(app.repositories, queue, app.telemetry, choose=choose) == 0
    assert (queue.probe(), len(events)) == (0, 1)
    assert relay(app, queue) == 1
    assert relay_announcements(app.repositories, queue, app.telemetry, choose=choose) == 0
    assert asked == [[mine, theirs], [theirs]]


def test_neighbours_travel_together_where_their_tasks_are_short(
    app: Stageflow, queue: MemoryQueue, events: list[Event]
) -> None:
    """One message for their ranges, all of which are noted; without a size, each travels alone."""
    make_ranges(app, 96, 6)
    assert relay_announcements(app.repositories, queue, app.telemetry, most_tasks=lambda _: 32) == 3
    assert received(queue) == [tasks(0, 32), tasks(32, 64), tasks(64, 96)]
    assert events == [Event(name="work_announced", details={"messages": 3, "ranges": 6})]
    assert relay(app, queue) == 0
    move_clock(app, 61)
    assert relay_announcements(app.repositories, queue, app.telemetry, older_than_seconds=60) == 6
    assert received(queue) == [tasks(first, first + 16) for first in range(0, 96, 16)]


def test_who_waits_for_messages_hears_of_them_before_they_are_noted(app: Stageflow, queue: MemoryQueue) -> None:
    """They are there to be received by then; a relay without work stays silent."""
    job_ids = submit(app, 1, 2)
    heard: list[tuple[int, list[str]]] = []

    def on_sent() -> None:
        heard.append((queue.probe(), unannounced(app)))

    assert relay_announcements(app.repositories, queue, app.telemetry, on_sent=on_sent) == 2
    assert relay_announcements(app.repositories, queue, app.telemetry, on_sent=on_sent) == 0
    assert heard == [(2, job_ids)]


def test_what_could_not_be_sent_stays_in_the_outbox(app: Stageflow, queue: MemoryQueue, events: list[Event]) -> None:
    """What was sent is noted, and only that; nobody is told that all is there; the rest goes with the next relay."""
    first, second, third = submit(app, 1, 2, 3)
    heard: list[str] = []
    queue.room = 2
    with pytest.raises(MessagesUnsentError) as caught:
        relay_announcements(app.repositories, queue, app.telemetry, on_sent=lambda: heard.append("sent"))
    assert caught.value.unsent == (2,)
    assert unannounced(app) == [third]
    assert events == [Event(name="work_announced", details={"messages": 2, "ranges": 2})]
    queue.room = 2
    with pytest.raises(MessagesUnsentError):
        relay(app, queue)
    assert (unannounced(app), len(events), heard) == ([third], 1, [])
    assert received(queue) == [planning(first), planning(second)]
    assert relay(app, queue) == 1
    assert received(queue) == [planning(third)]


def test_messages_are_sent_by_job_run_stage_and_place() -> None:
    """Those of jobs before those of tasks, in whatever order they come."""

    def of_job(range_id: int, job: str, run: int, stage_number: int) -> Announcement:
        message = JobQueueMessage(job_id=job_id_of(job), job_type="demo", run=run, stage_number=stage_number)
        return Announcement(range_id=range_id, message=message)

    def of_tasks(range_id: int, run: int, stage_number: int, generation: int, first: int) -> Announcement:
        message = TaskQueueMessage(
            job_id=job_id_of("one"),
            job_type="demo",
            task_type="work",
            run=run,
            stage_number=stage_number,
            generation=generation,
            first=first,
            last=first + 1,
        )
        return Announcement(range_id=range_id, message=message)

    low, high = sorted(["one", "two"], key=job_id_of)
    jobs = [of_job(9, low, 2, 2), of_job(8, high, 1, 2), of_job(7, high, 2, 1), of_job(5, high, 2, 2), of_job(6, high, 2, 2)]
    of_stages = [of_tasks(4, 1, 2, 2, 5), of_tasks(3, 2, 1, 2, 5), of_tasks(2, 2, 2, 1, 5), of_tasks(1, 2, 2, 2, 4)]
    for few in (*permutations(jobs), *permutations(of_stages), *permutations([jobs[0], jobs[-1], of_stages[0]])):
        wanted = [each for each in (*jobs, *of_stages) if each in few]
        assert [whole.announced for whole in bundle(few, lambda _: 0)] == [[each] for each in wanted]


@pytest.mark.parametrize(
    "other",
    [
        {"job_id": job_id_of("another")},
        {"job_type": "other"},
        {"task_type": "other"},
        {"run": 2},
        {"stage_number": 2},
        {"generation": 2},
        {"first": 11},
    ],
)
def test_what_is_no_neighbour_travels_apart(other: dict[str, object]) -> None:
    """Another job, type, run, stage or generation, or a task in between."""
    one = Announcement(range_id=1, message=tasks(0, 10))
    two = Announcement(range_id=2, message=tasks(10, 20).model_copy(update=other))
    assert sorted(len(each.announced) for each in bundle([one, two], lambda _: 100)) == [1, 1]
    (both,) = bundle([one, Announcement(range_id=2, message=tasks(10, 20))], lambda _: 20)
    assert (both.message, [each.range_id for each in both.announced]) == (tasks(0, 20), [1, 2])


def test_a_message_is_asked_how_many_tasks_it_may_name() -> None:
    """The one that would be sent, whose type tells how long its tasks take."""
    asked: list[TaskQueueMessage] = []

    def most_tasks(message: TaskQueueMessage) -> int:
        asked.append(message)
        return 25

    ranges = [Announcement(range_id=first, message=tasks(first, first + 10)) for first in (5, 15, 25)]
    assert [each.message for each in bundle(ranges, most_tasks)] == [tasks(5, 25), tasks(25, 35)]
    assert asked == [tasks(5, 25), tasks(5, 35)]
