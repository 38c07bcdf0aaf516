"""Workers on a real queue: bad messages are kept and never stop them."""

import uuid
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from azure.storage.queue import QueueServiceClient

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobQueueMessage,
    JobRegistry,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)

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
    store = f"sqlite:{tmp_path / 'jobs.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_dsn")
    queue = f"azure:{azurite.connection_string}?prefix=t-{uuid.uuid4().hex[:12]}"
    with Stageflow(store, registry=registry, queue=queue, options=OPTIONS) as made:
        made.migrate()
        yield made


def test_a_job_runs_over_the_queue(app: Stageflow) -> None:
    """Every task is recorded once, and the queue is empty of work afterwards."""
    with app.worker():
        job_id = app.submit(QueuedController, Count(count=30)).job.job_id
        assert app.result(job_id, timeout=60) == Total(total=sum(range(30)))


def test_a_bad_message_is_kept_and_stops_nobody(app: Stageflow, azurite: Any) -> None:
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


def test_upkeep_announces_what_no_worker_relayed(app: Stageflow) -> None:
    """A host with a timer only: maintain sends the messages, once each."""
    app.submit(QueuedController, Count(count=2), new_run=True)
    assert app.maintain().announced == 1
    assert app.maintain().announced == 0
