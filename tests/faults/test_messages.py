"""Faults of queues and blob stores, on each store: disorder, rubbish, messages over the limit, an outage."""

import base64
import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.queue import QueueServiceClient

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    PayloadOptions,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WaitTimeoutError,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.backends.azure import AzureStorageQueue
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage
from stageflow.errors import MessageTooLargeError
from stageflow.testing import move_clock
from stageflow.testing.azurite_server import AzuriteServer

pytestmark = [pytest.mark.faults, pytest.mark.azurite]
registry = JobRegistry()
OPTIONS = WorkerOptions(slots=2, lease_seconds=6.0, beat_seconds=0.3, poll_seconds=0.2, recover_seconds=0.2)
PATIENCE: Final = 60
WIDTH: Final = 12
KIB: Final = 1024
MIB: Final = 1024 * KIB
MOST_ON_THE_QUEUE: Final = 64 * KIB
Message = JobQueueMessage | TaskQueueMessage


class Order(Contract):
    """Job parameters: how many tasks, how much text each is given and returns, and a text of the job's own."""

    count: int = WIDTH
    length: int = 1
    text: str = ""


class Text(Contract):
    """Task parameters and result."""

    index: int
    text: str


class Total(Contract):
    """Job result."""

    indexes: list[int]
    length: int


class Ledger:
    """Which handlers were called, by stage and index."""

    calls: ClassVar[Counter[tuple[int, int]]] = Counter()


@task("carry")
def carry(parameters: Text, context: TaskExecutionContext) -> Text:
    """Note the call, and pass the text on."""
    Ledger.calls[context.stage_number, context.task_index] += 1
    return parameters


@workflow("carried", registry=registry)
class Carried(BaseController[Order]):
    """Three stages."""

    first = stage(1, "first", task=carry)
    second = stage(2, "second", task=carry, after=first)
    third = stage(3, "third", task=carry, after=second)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Order]) -> Iterator[Text]:
        """Plan texts of the length that the job wants."""
        for index in range(job.parameters.count):
            yield Text(index=index, text="x" * job.parameters.length)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Order], first: StageResults[Text]) -> Iterator[Text]:  # noqa: ARG002
        """One task per result."""
        yield from first

    @third.plan
    def plan_third(self, job: JobExecutionContext[Order], second: StageResults[Text]) -> Iterator[Text]:  # noqa: ARG002
        """One task per result."""
        yield from second

    def aggregate_job_results(self, job: JobExecutionContext[Order], stage_results: dict[int, StageResults[Any]]) -> Total:  # noqa: ARG002
        """Tell which tasks there were, and how much text."""
        texts = list(self.third.of(stage_results))
        return Total(indexes=[each.index for each in texts], length=sum(len(each.text) for each in texts))


class Disorder(AzureStorageQueue):
    """The queue itself, to which messages are sent in another order, twice, and half of them later than what follows."""

    seed: int
    late: list[Message]
    largest: int
    sending: threading.Lock

    @classmethod
    def made(cls, connection_string: str, seed: int) -> "Disorder":
        """Return queues of a new name."""
        queue = cls.from_connection_string(connection_string, prefix=f"t-{uuid.uuid4().hex[:12]}")
        queue.seed, queue.late, queue.largest, queue.sending = seed, [], 0, threading.Lock()
        return queue

    def send(self, messages: Sequence[Message]) -> None:
        """Shuffle what there is to be sent with what is late, and keep the half of it back."""
        with self.sending:
            self.seed += 1
            pile = [*self.late, *messages]
            random.Random(self.seed).shuffle(pile)  # noqa: S311  an order, not a secret
            half = len(pile) // 2
            self.late = pile[:half]
        super().send([each for message in pile[half:] for each in (message, message)])

    def send_late(self) -> None:
        """Send at last what is late."""
        with self.sending:
            late, self.late = self.late, []
        super().send(late)

    def receive(self, *, max_messages: int, visibility_seconds: float) -> list[ReceivedMessage]:
        """Receive, and hand out the last first."""
        received = super().receive(max_messages=max_messages, visibility_seconds=visibility_seconds)
        self.largest = max([self.largest, *(len(message.body) for message in received)])
        return received[::-1]


def let_run(app: Stageflow, queue: Disorder, job_id: str) -> Total:
    """Return the answer of a job; where all stands still, what the queue keeps back comes at last."""
    for _ in range(PATIENCE):
        try:
            answer = app.result(job_id, Total, timeout=1.0)
        except WaitTimeoutError:
            queue.send_late()
            continue
        return answer
    pytest.fail(f"the job did not end: {app.explain(job_id).text}")


@pytest.mark.parametrize(("seed", "jobs"), [(0, 1), (1, 2), (2, 3)])
def test_f13_reordered_doubled_and_late_messages_change_nothing(store_url: str, azurite: Any, seed: int, jobs: int) -> None:
    """Each message comes twice, half of them after those that were sent later: every task runs once, every stage ends once."""
    Ledger.calls.clear()
    queue = Disorder.made(azurite.connection_string, 1000 * seed)
    with Stageflow(store_url, registry=registry, queue=queue, options=OPTIONS) as app:
        app.migrate()
        with app.worker():
            job_ids = [app.submit(Carried, Order(), new_run=True).job.job_id for _ in range(jobs)]
            answers = [let_run(app, queue, job_id) for job_id in job_ids]
            assert answers == [Total(indexes=list(range(WIDTH)), length=WIDTH)] * jobs
            ended = [app.job(job_id) for job_id in job_ids]
            # Those that are still kept back come when all is over.
            queue.send_late()
            while app.queue is not None and app.queue.probe() > 0:
                assert app.telemetry.counts["message_parked"] == 0
        assert [app.job(job_id) for job_id in job_ids] == ended
    assert app.telemetry.counts["stage_advanced"] == jobs * 3
    assert app.telemetry.counts["job_completed"] == jobs
    assert set(Ledger.calls.values()) == {jobs}, "each task of each job was called once"
    assert len(Ledger.calls) == 3 * WIDTH


def test_f14_a_message_of_a_known_job_that_names_no_work_of_it_is_kept(store_url: str, azurite: Any) -> None:
    """Unknown kinds, types, stages, runs and jobs, and what is no message at all: each is kept, and the job completes."""
    prefix = f"t-{uuid.uuid4().hex[:12]}"
    queue = f"azure:{azurite.connection_string}?prefix={prefix}"
    with Stageflow(store_url, registry=registry, queue=queue, options=OPTIONS) as app:
        app.migrate()
        job_id = app.submit(Carried, Order()).job.job_id
        whole = TaskQueueMessage(
            job_id=job_id, job_type="carried", stage_number=1, task_type="carry", first=0, last=1
        ).model_dump(mode="json")
        bad = [
            {**whole, "kind": "party"},
            {**whole, "task_type": "no such task"},
            {**whole, "last": 0},
            {**whole, "task_type": "other"},
            {**whole, "job_type": "other"},
            {**whole, "stage_number": 9},
            {**whole, "run": 9},
            {**whole, "job_id": "0" * 64},
            {**whole, "job_id": job_id[:12]},
            {**whole, "surprise": 1},
            [],
            "text",
        ]
        with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
            tasks = service.get_queue_client(f"{prefix}-tasks")
            for each in bad:
                tasks.send_message(base64.b64encode(json.dumps(each).encode()).decode())
        with app.worker():
            assert app.result(job_id, Total, timeout=PATIENCE).indexes == list(range(WIDTH))
            assert app.telemetry.wait_for("message_parked", count=len(bad), timeout_seconds=PATIENCE)
        letters = app.dead_letters(limit=100)
    assert sorted(letter.body for letter in letters) == sorted(json.dumps(each).encode() for each in bad)
    assert all(letter.reason for letter in letters)


def test_f15_payloads_beyond_the_limit_of_the_queue_do_not_travel_over_it(store_url: str, azurite: Any, tmp_path: Path) -> None:
    """Parameters and results of 2 MiB go to the blob store, and messages name them in a few hundred bytes."""
    Ledger.calls.clear()
    queue = Disorder.made(azurite.connection_string, 1)
    with Stageflow(store_url, registry=registry, queue=queue, options=OPTIONS, blobs=f"file:{tmp_path / 'blobs'}") as app:
        app.migrate()
        with app.worker():
            job_id = app.submit(Carried, Order(count=3, length=2 * MIB, text="y" * 2 * MIB)).job.job_id
            assert let_run(app, queue, job_id) == Total(indexes=[0, 1, 2], length=3 * 2 * MIB)
    assert 0 < queue.largest < KIB
    assert queue.largest < MOST_ON_THE_QUEUE


def test_f15_a_message_over_the_limit_is_kept_and_stops_nobody(store_url: str, azurite: Any) -> None:
    """The largest that the service takes, as text and as base64: each is a dead letter, whole, and the job completes."""
    prefix = f"t-{uuid.uuid4().hex[:12]}"
    plain = "[" * MOST_ON_THE_QUEUE
    encoded = json.dumps({"kind": "task", "filling": "x" * (48 * KIB - 31)}).encode()
    queue = f"azure:{azurite.connection_string}?prefix={prefix}"
    with Stageflow(store_url, registry=registry, queue=queue, options=OPTIONS) as app:
        app.migrate()
        with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
            tasks = service.get_queue_client(f"{prefix}-tasks")
            tasks.send_message(plain)
            tasks.send_message(base64.b64encode(encoded).decode())
            with pytest.raises(HttpResponseError):
                tasks.send_message(plain + "[")
        with app.worker():
            job_id = app.submit(Carried, Order()).job.job_id
            assert app.result(job_id, Total, timeout=PATIENCE).indexes == list(range(WIDTH))
            assert app.telemetry.wait_for("message_parked", count=2, timeout_seconds=PATIENCE)
        letters = {letter.body: letter for letter in app.dead_letters()}
        assert letters.keys() == {plain.encode(), encoded}
        with pytest.raises(MessageTooLargeError, match="discard it"):
            app.requeue(letters[plain.encode()].letter_id)
        assert app.discard(letters[plain.encode()].letter_id).state == "discarded"


def test_f16_a_blob_store_that_is_down_only_delays(store_url: str) -> None:
    """It is away while a stage is planned whose tasks need it; once it is back, the job completes, and nothing was blamed."""
    Ledger.calls.clear()
    with AzuriteServer() as server:
        blobs = f"azure:{server.connection_string}"
        with Stageflow(
            store_url, registry=registry, options=OPTIONS, blobs=blobs, payloads=PayloadOptions(patience_seconds=0.1)
        ) as app:
            app.migrate()
            server.stop()
            with app.worker():
                job_id = app.submit(Carried, Order(count=2, length=2 * MIB)).job.job_id
                assert app.telemetry.wait_for("payloads_unreachable", timeout_seconds=PATIENCE)
                assert app.job(job_id).status is JobStatus.PROCESSING
                server.start()
                move_clock(app, 16)  # planning is tried again after a quarter of a minute
                assert app.result(job_id, Total, timeout=PATIENCE) == Total(indexes=[0, 1], length=2 * 2 * MIB)
            results = app.job(job_id).stage_results
            assert [each.attempt for key in ("1", "2", "3") for each in results[key].task_results] == [1] * 6
