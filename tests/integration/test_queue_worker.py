"""Workers on a real queue: bad messages are kept and never stop them."""

import sqlite3
import threading
import uuid
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from azure.storage.queue import QueueServiceClient

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobQueueMessage,
    JobRegistry,
    JobStatus,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.backends.azure import AzureStorageQueue
from stageflow.contracts.queue import ReceivedMessage
from stageflow.errors import StoreError
from stageflow.ports import Queue
from stageflow.testing import move_clock

registry = JobRegistry()
OPTIONS = WorkerOptions(slots=2, lease_seconds=6.0, beat_seconds=1.0, poll_seconds=0.5, recover_seconds=0.5)


class Count(Contract):
    """Job parameters."""

    count: int


class Item(Contract):
    """Task parameters and result."""

    index: int


class Total(Contract):
    """Job result."""

    total: int


@task("item")
def item(parameters: Item, context: TaskExecutionContext) -> Item:  # noqa: ARG001  the shape of a handler
    """Pass it on."""
    return parameters


@workflow("queued", registry=registry)
class QueuedController(BaseController[Count]):
    """Two stages."""

    first = stage(1, "first", task=item)
    second = stage(2, "second", task=item, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Count]) -> Iterator[Item]:
        """One task per index."""
        for index in range(job.parameters.count):
            yield Item(index=index)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Count], first: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """One task per result."""
        yield from first

    def aggregate_job_results(self, job: JobExecutionContext[Count], stage_results: dict[int, StageResults[Any]]) -> Total:  # noqa: ARG002
        """Add up."""
        return Total(total=sum(each.index for each in self.second.of(stage_results)))


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest, azurite: Any, tmp_path: Any) -> Iterator[Stageflow]:
    """Give an app on each kind of store, with queues of a new name."""
    store = f"sqlite:{tmp_path / 'jobs.db'}" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    queue = f"azure:{azurite.connection_string}?prefix=t-{uuid.uuid4().hex[:12]}"
    with Stageflow(store, registry=registry, queue=queue, options=OPTIONS) as made:
        made.migrate()
        yield made


def test_a_job_runs_over_the_queue(app: Stageflow) -> None:
    """Every task is recorded once, and the queue is empty of work afterwards."""
    with app.worker():
        job_id = app.submit(QueuedController, Count(count=30)).job.job_id
        assert app.result(job_id, timeout=60) == Total(total=sum(range(30)))


@pytest.mark.faults
def test_f14_a_bad_message_is_kept_and_stops_nobody(app: Stageflow, azurite: Any) -> None:
    """Not JSON, not base64, another version, a foreign job: each is a dead letter with its bytes, and the job completes."""
    assert app.queue is not None
    prefix = app.queue.url.rsplit("prefix=", maxsplit=1)[-1] if "prefix=" in app.queue.url else app.queue.url.rsplit("/", 1)[-1]
    foreign = JobQueueMessage(job_id="0" * 64, job_type="queued", stage_number=1).to_wire().encode()
    bodies = [b"not json", b'{"wire_version":9,"kind":"job"}', foreign]
    bad = ["plain, not base64 !", *(b64encode(body).decode() for body in bodies)]
    with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
        jobs = service.get_queue_client(f"{prefix}-jobs")
        for text in bad:
            jobs.send_message(text)
        with app.worker():
            job_id = app.submit(QueuedController, Count(count=5)).job.job_id
            assert app.result(job_id, timeout=60) == Total(total=10)
            assert app.telemetry.wait_for("message_parked", count=4, timeout_seconds=30)
        parked = [message.content for message in service.get_queue_client(f"{prefix}-jobs-poison").receive_messages()]
    letters = app.repositories.store.list_dead_letters(limit=10, after=0)
    assert len(letters) == len(parked) == 4
    assert {letter.body for letter in letters} >= set(bodies)
    assert all(letter.reason for letter in letters)


@pytest.mark.faults
def test_f17_a_message_for_workers_of_another_release_is_left_to_them(app: Stageflow, azurite: Any) -> None:
    """A worker that does not know the workflow neither parks its message nor backs off; who knows it carries it out."""
    job = app.submit(QueuedController, Count(count=3)).job
    app.maintain()
    prefix = str(app.queue.url).rsplit("/", 1)[-1] if app.queue is not None else ""
    with Stageflow(
        app.repositories.store.url,
        registry=JobRegistry(),
        queue=f"azure:{azurite.connection_string}?prefix={prefix}",
        options=OPTIONS,
    ) as older:
        with older.worker():
            assert older.telemetry.wait_for("message_left", count=1, timeout_seconds=30)
        assert older.telemetry.counts["slot_failed"] == 0
    with app.worker():
        assert app.result(job.job_id, timeout=60) == Total(total=3)
    assert app.repositories.store.list_dead_letters(limit=10, after=0) == []


def test_upkeep_announces_what_no_worker_relayed(app: Stageflow) -> None:
    """A host with a timer only: maintain sends the messages, once each."""
    app.submit(QueuedController, Count(count=2), new_run=True)
    assert app.maintain().announced == 1
    assert app.maintain().announced == 0


def test_upkeep_announces_what_is_ready_whatever_stops_the_schedules(app: Stageflow, request: pytest.FixtureRequest) -> None:
    """Work that is there goes out; what stopped the other part of the round is raised in the end, not swallowed."""
    app.submit(QueuedController, Count(count=2), new_run=True)
    url = app.repositories.store.url
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:"))) as file:
            file.execute("alter table stageflow_schedules rename column last_job_id to gone")
    else:
        with psycopg.connect(request.getfixturevalue("migrated_dsn")) as connection:
            connection.execute("alter table stageflow.schedules rename column last_job_id to gone")
    with pytest.raises(StoreError, match="last_job_id"):
        app.maintain()
    assert app.queue is not None
    assert len(receive_all(app.queue)) == 1


def receive_all(queue: Queue) -> list[ReceivedMessage]:
    """Return what is in the queues, hidden from others for a minute."""
    return queue.receive(max_messages=100, visibility_seconds=60.0)


@pytest.mark.faults
def test_f13_lost_messages_are_announced_again(app: Stageflow) -> None:
    """What a queue forgot is said again after a while, and the job completes; the database is the truth."""
    assert app.queue is not None
    job_id = app.submit(QueuedController, Count(count=3)).job.job_id
    assert app.maintain().announced == 1
    lost = receive_all(app.queue)
    assert [app.queue.delete(message) for message in lost] == [True]
    assert app.maintain().announced == 0
    move_clock(app, 61)
    assert app.maintain().announced == 1
    with app.worker():
        assert app.result(job_id, timeout=60) == Total(total=3)


@pytest.mark.faults
def test_f13_doubled_messages_double_no_work(app: Stageflow) -> None:
    """Every message is there twice, and every task runs once."""
    assert app.queue is not None
    job_id = app.submit(QueuedController, Count(count=3)).job.job_id
    for _ in range(2):
        assert app.maintain().announced == 1
        move_clock(app, 61)
    with app.worker():
        assert app.result(job_id, timeout=60) == Total(total=3)
    results = app.job(job_id).stage_results
    assert [results[key].task_count for key in ("1", "2")] == [3, 3]
    assert app.telemetry.counts["stage_planned"] == 2


def test_a_message_that_nobody_answers_for_is_parked(app: Stageflow) -> None:
    """After twenty deliveries without an answer a message is a dead letter, and its work is announced anew."""
    assert app.queue is not None
    job_id = app.submit(QueuedController, Count(count=3)).job.job_id
    app.maintain()
    for delivery in range(1, 21):
        (message,) = receive_all(app.queue)
        assert message.delivery_count == delivery
        app.queue.extend(message, 0.0)
    with app.worker():
        assert app.telemetry.wait_for("message_parked", timeout_seconds=30)
        (letter,) = app.repositories.store.list_dead_letters(limit=10, after=0)
        assert (letter.delivery_count, letter.reason) == (21, "delivered 21 times without an answer")
        move_clock(app, 61)
        app.maintain()
        assert app.result(job_id, timeout=60) == Total(total=3)


class Witness(AzureStorageQueue):
    """The queue itself, that tells how often messages were delivered and hidden for longer."""

    deliveries: int
    extended: threading.Semaphore

    def receive(self, *, max_messages: int, visibility_seconds: float) -> list[ReceivedMessage]:
        """Count the most deliveries of one message."""
        received = super().receive(max_messages=max_messages, visibility_seconds=visibility_seconds)
        self.deliveries = max([self.deliveries, *(message.delivery_count for message in received)])
        return received

    def extend(self, message: ReceivedMessage, visibility_seconds: float) -> ReceivedMessage | None:
        """Say so when it is done."""
        renewed = super().extend(message, visibility_seconds)
        self.extended.release()
        return renewed


witnesses: list[Witness] = []
slow_registry = JobRegistry()


@task("slow")
def slow(parameters: Item, context: TaskExecutionContext) -> Item:
    """Return when the message has been hidden for longer than it was at first."""
    for _ in range(5):
        assert witnesses[-1].extended.acquire(timeout=30)
        context.check()
    return parameters


@workflow("slow", registry=slow_registry)
class SlowController(BaseController[Item]):
    """One slow task."""

    only = stage(1, "only", task=slow)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Item]) -> Iterator[Item]:
        """Plan it."""
        yield job.parameters


def test_a_message_stays_hidden_while_its_task_runs(azurite: Any) -> None:
    """The visibility of a message is renewed for as long as its handler needs, so that nobody else receives it."""
    witness = Witness.from_connection_string(azurite.connection_string, prefix=f"t-{uuid.uuid4().hex[:12]}")
    witness.deliveries, witness.extended = 0, threading.Semaphore(0)
    witnesses.append(witness)
    options = WorkerOptions(slots=1, lease_seconds=2.0, beat_seconds=0.5, poll_seconds=0.5)
    with Stageflow("sqlite::memory:", registry=slow_registry, queue=witness, options=options) as app:
        app.migrate()
        with app.worker():
            job_id = app.submit(SlowController, Item(index=1)).job.job_id
            assert app.wait(job_id, timeout=60).status is JobStatus.COMPLETED
    assert witness.deliveries == 1
