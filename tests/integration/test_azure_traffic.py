"""Many messages at once on a real queue: none is lost, none is sent for nothing, and a stop gives back what was received."""

import threading
import uuid
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import psycopg
import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    Stageflow,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.backends.azure import AzureStorageQueue
from stageflow.contracts.message import TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage
from stageflow.contracts.worker import WorkerRecord
from stageflow.errors import MessagesUnsentError
from stageflow.testing import move_clock
from stageflow.testing.conformance.queue import receive, task_message
from stageflow.worker.dispatch import Dispatcher
from stageflow.worker.handlers import HandlerRunner
from stageflow.worker.inbox import Inbox
from stageflow.worker.messages import MessageProcessor
from stageflow.worker.relay import REANNOUNCE_SECONDS, Relay
from stageflow.worker.signal import WorkSignal

registry = JobRegistry()
BURST = 500
CLAIMED = """
select 1 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and query like '%claim_named%'
"""


class Number(Contract):
    """Job and task parameters."""

    number: int


@task("pass")
def pass_on(parameters: Number, context: TaskExecutionContext) -> Number:  # noqa: ARG001  the shape of a handler
    """Hand it on."""
    return parameters


@workflow("traffic", registry=registry)
class TrafficController(BaseController[Number]):
    """One task."""

    only = stage(1, "only", task=pass_on)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Number]) -> Iterator[Number]:
        """Plan it."""
        yield job.parameters


class Witness(AzureStorageQueue):
    """The queue itself, that tells when messages were received."""

    received: threading.Event

    def receive(self, *, max_messages: int, visibility_seconds: float) -> list[ReceivedMessage]:
        """Say so when some were."""
        messages = super().receive(max_messages=max_messages, visibility_seconds=visibility_seconds)
        if messages:
            self.received.set()
        return messages


@pytest.fixture
def queue(azurite: Any) -> Iterator[Witness]:
    """Give created, empty queues."""
    queue = Witness.from_connection_string(azurite.connection_string, prefix=f"t-{uuid.uuid4().hex[:12]}")
    queue.received = threading.Event()
    queue.create()
    yield queue
    queue.close()


def test_a_burst_arrives_whole_and_once_each(queue: Witness) -> None:
    """Several sends in flight lose and double nothing, and the queue is empty when all were acknowledged."""
    queue.send([task_message(number) for number in range(BURST)])
    received = receive(queue, BURST + 1)
    assert sorted(TaskQueueMessage.from_wire(message.body).job_id for message in received) == [
        task_message(number).job_id for number in range(BURST)
    ]
    assert len({message.message_id for message in received}) == BURST
    assert all(queue.delete(message) for message in received)
    assert queue.probe() == 0


def make_inbox(app: Stageflow, queue: Witness, options: WorkerOptions) -> Inbox:
    """Return the inbox of a worker that has no slots yet."""
    dispatcher = Dispatcher(
        app.registry,
        app.repositories,
        app.telemetry,
        HandlerRunner(1),
        worker_id="receiver",
        lease_seconds=options.lease_seconds,
        death_budget=options.death_budget,
    )
    processor = MessageProcessor(app.registry, app.repositories, dispatcher, worker_id="receiver", lease_seconds=60.0)
    return Inbox(queue, processor, app.repositories, app.telemetry, options)


def test_a_stop_in_the_middle_of_a_batch_gives_the_rest_back_at_once(queue: Witness) -> None:
    """What was received ahead and not begun is there for others, although its visibility timeout is far away."""
    options = WorkerOptions(slots=8, lease_seconds=600.0, beat_seconds=60.0)
    queue.send([task_message(number) for number in range(20)])
    with Stageflow("sqlite::memory:", registry=registry) as app:
        inbox = make_inbox(app, queue, options)
        stopping = threading.Event()
        receivers = [threading.Thread(target=target, args=(stopping,)) for target in (inbox.receive, inbox.receive_more)]
        for receiver in receivers:
            receiver.start()
        assert queue.received.wait(30)
        stopping.set()
        inbox.interrupt()
        for receiver in receivers:
            receiver.join(30)
        inbox.release()
        inbox.close()
    deliveries = [message.delivery_count for message in receive(queue)]
    assert sorted(deliveries) == [1] * 12 + [2] * 8


class Picky(BaseHTTPRequestHandler):
    """Stands before the emulator, and refuses messages that hold a text."""

    emulator: ClassVar[str]
    refused: ClassVar[str]

    def do_any(self) -> None:
        """Refuse a message, or hand the request on."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        _, _, rest = body.partition(b"<MessageText>")
        text = rest.partition(b"</MessageText>")[0]
        if self.refused and self.refused.encode() in b64decode(text):
            self._answer(400, b"", {"x-ms-error-code": "InvalidInput"})
            return
        connection = HTTPConnection(self.emulator, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        kept = {name: value for name, value in answer.getheaders() if name.lower().startswith(("x-ms", "content-type"))}
        self._answer(answer.status, answer.read(), kept)
        connection.close()

    do_GET = do_POST = do_PUT = do_DELETE = do_any  # noqa: N815 - the names are the base's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base's
        """Keep quiet."""

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def before(connection_string: str) -> Iterator[str]:
    """Give a connection string that leads through :class:`Picky`."""
    fields = dict(part.split("=", 1) for part in connection_string.strip(";").split(";"))
    endpoint = urlsplit(fields["QueueEndpoint"])
    Picky.emulator, Picky.refused = endpoint.netloc, ""
    with ThreadingHTTPServer(("127.0.0.1", 0), Picky) as server:
        fields["QueueEndpoint"] = f"http://127.0.0.1:{server.server_port}{endpoint.path}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield ";".join(f"{name}={value}" for name, value in fields.items())
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.faults
def test_f15_one_message_that_cannot_be_sent_stays_in_the_outbox_alone(azurite: Any, tmp_path: Path) -> None:
    """Its neighbours are sent and noted; it is sent when the queue takes it."""
    with before(azurite.connection_string) as connection_string:
        address = f"azure:{connection_string}?prefix=t-{uuid.uuid4().hex[:12]}"
        with Stageflow(f"sqlite:{tmp_path / 'jobs.db'}", registry=registry, queue=address) as app:
            app.migrate()
            jobs = [app.submit(TrafficController, Number(number=number)).job.job_id for number in range(20)]
            Picky.refused = jobs[7]
            with pytest.raises(MessagesUnsentError, match="HTTP 400 InvalidInput") as caught:
                app.maintain()
            assert len(caught.value.unsent) == 1
            outbox = app.repositories.store.list_unannounced(older_than_seconds=None, limit=100)
            assert [each.message.job_id for each in outbox] == [jobs[7]]
            assert app.queue is not None
            assert len(receive(app.queue)) == 19
            Picky.refused = ""
            assert app.maintain().announced == 1
            assert len(receive(app.queue)) == 1


def test_only_the_worker_that_made_work_ready_announces_it_at_once(queue: Witness) -> None:
    """Two workers hear of a commit, and one message is sent for it."""
    with Stageflow("sqlite::memory:", registry=registry, queue=queue) as app:
        relays = [make_relay(app, queue, worker_id) for worker_id in ("first", "second")]
        job_id = app.submit(TrafficController, Number(number=1)).job.job_id
        relays[1].hurry(job_id)
        assert [relay.relay_once() for relay in reversed(relays)] == [1, 0]
        assert len(receive(queue)) == 1


def test_a_new_job_falls_to_one_worker(queue: Witness) -> None:
    """Which one hangs on the job's id, so that several workers announce several jobs once each."""
    with Stageflow("sqlite::memory:", registry=registry, queue=queue) as app:
        relays = [make_relay(app, queue, worker_id) for worker_id in ("first", "second")]
        job_id = app.submit(TrafficController, Number(number=1)).job.job_id
        owner = int(job_id[:8], 16) % 2
        assert relays[1 - owner].relay_once() == 0
        assert relays[owner].relay_once() == 1


def test_a_worker_that_has_just_begun_announces_again_what_was_lost(queue: Witness) -> None:
    """Where no worker lives for a minute, a lost message must not wait for one that does."""
    with Stageflow("sqlite::memory:", registry=registry, queue=queue) as app:
        app.submit(TrafficController, Number(number=1))
        assert make_relay(app, queue, "first").relay_once() == 1
        lost = receive(queue)
        assert make_relay(app, queue, "first").relay_once() == 0, "it may still be on its way"
        move_clock(app, REANNOUNCE_SECONDS + 1)
        assert make_relay(app, queue, "first").relay_once() == 1
        assert [message.body for message in receive(queue)] == [message.body for message in lost]


def make_relay(app: Stageflow, queue: Witness, worker_id: str) -> Relay:
    """Return the relay of a worker that is registered."""
    now = app.repositories.store.now()
    app.repositories.leases.register_worker(
        WorkerRecord(worker_id=worker_id, host="here", pid=1, slots=1, work_types=[], started_at=now, seen_at=now)
    )
    return Relay(
        app.repositories,
        queue,
        app.telemetry,
        WorkerOptions(),
        WorkSignal(),
        worker_id=worker_id,
        most_tasks=lambda message: message.last,
    )


def test_a_message_whose_row_a_rival_holds_for_a_moment_is_carried_out(queue: Witness, postgres_dsn: str) -> None:
    """The relay notes an announcement while its message is on the way already; the message must not wait for a lease."""
    with Stageflow(postgres_dsn, registry=registry, queue=queue) as app, ThreadPoolExecutor(1) as pool:
        app.migrate()
        app.submit(TrafficController, Number(number=1))
        assert app.maintain().announced == 1
        (received,) = receive(queue)
        with psycopg.connect(postgres_dsn) as rival:
            rival.execute("select * from stageflow.ranges for update")
            handled = pool.submit(make_inbox(app, queue, WorkerOptions()).handle, received)
            with psycopg.connect(postgres_dsn, autocommit=True) as watcher:
                while not watcher.execute(CLAIMED).fetchone():
                    pass
            rival.rollback()
        handled.result(30)
        assert app.telemetry.counts["stage_planned"] == 1
