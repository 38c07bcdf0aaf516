"""What every external queue must do, as tests against one that a subclass gives."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import ClassVar, Literal

import pytest

from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage
from stageflow.errors import InvalidValueError, MessageTooLargeError, PoisonMessageError
from stageflow.ports import Queue

_HIDDEN_SECONDS = 60.0
_PATIENCE_SECONDS = 20.0
_SEVERAL_BATCHES = 70
_RECEIVERS = 4


def job_message(number: int = 1) -> JobQueueMessage:
    """Return a message for the first stage of the job with this number."""
    return JobQueueMessage(job_id=f"{number:064x}", job_type="demo", stage_number=1)


def task_message(number: int = 1) -> TaskQueueMessage:
    """Return a message for ten tasks of the job with this number."""
    return TaskQueueMessage(job_id=f"{number:064x}", job_type="demo", task_type="work", stage_number=1, first=0, last=10)


class WideMessage(TaskQueueMessage):
    """A message that carries more than identities, as none should."""

    padding: str


class QueueConformance:
    """The suite of the ``Queue`` port.

    A subclass gives the queue and, through the two functions below it, what the port has no verb for::

        class TestMyQueue(QueueConformance):
            @pytest.fixture
            def queue(self) -> Iterator[Queue]: ...
            def put_foreign(self, queue: Queue, kind: Literal["job", "task"], text: str) -> None: ...
            def parked(self, queue: Queue) -> list[bytes]: ...

    Attributes:
        max_body_bytes: The longest JSON text that the queue takes, ``None`` where it has no limit.
        secrets: Texts that the queue was opened with and must never show.
    """

    max_body_bytes: ClassVar[int | None] = None
    secrets: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    def queue(self) -> Iterator[Queue]:
        """Give a created, empty queue that nobody else uses, and close it afterwards."""
        msg = f"{type(self).__name__} needs a fixture `queue`; define one that yields a created, empty queue"
        raise NotImplementedError(msg)

    def put_foreign(self, queue: Queue, kind: Literal["job", "task"], text: str) -> None:
        """Send a text as it is, as somebody would who does not know the library."""
        raise NotImplementedError

    def parked(self, queue: Queue) -> list[bytes]:
        """Return the bodies in the poison queues, the transport's encoding undone as it is on receiving."""
        raise NotImplementedError

    def test_a_job_message_comes_back_as_it_was_sent(self, queue: Queue) -> None:
        """Decoding what was received gives the message that was sent."""
        queue.send([job_message()])
        received = receive_one(queue)
        assert JobQueueMessage.from_wire(received.body) == job_message()
        assert (received.delivery_count, received.decode_error) == (1, None)

    def test_a_task_message_comes_back_as_it_was_sent(self, queue: Queue) -> None:
        """Decoding what was received gives the message that was sent."""
        queue.send([task_message()])
        assert TaskQueueMessage.from_wire(receive_one(queue).body) == task_message()

    def test_an_empty_queue_answers_at_once_with_nothing(self, queue: Queue) -> None:
        """Receiving never waits for a message to come, so a worker decides itself how to wait."""
        began = monotonic()
        assert receive(queue) == []
        assert monotonic() - began < _PATIENCE_SECONDS / 4

    def test_sending_nothing_sends_nothing(self, queue: Queue) -> None:
        """An empty batch is a batch."""
        queue.send([])
        assert receive(queue) == []

    def test_job_messages_are_received_before_task_messages(self, queue: Queue) -> None:
        """A stage that waits to be planned or advanced holds up more than a task does."""
        queue.send([task_message(1), task_message(2), job_message(3)])
        (first,) = receive(queue, 1)
        assert JobQueueMessage.from_wire(first.body) == job_message(3)
        rest = receive(queue)
        assert sorted(TaskQueueMessage.from_wire(message.body).job_id for message in rest) == [
            task_message(1).job_id,
            task_message(2).job_id,
        ]

    def test_no_more_messages_are_received_than_asked_for(self, queue: Queue) -> None:
        """A worker takes what it can run; what is left stays for others."""
        queue.send([job_message(1), job_message(2), task_message(3), task_message(4)])
        assert len(receive(queue, 3)) == 3
        assert len(receive(queue, 3)) == 1

    def test_more_messages_than_one_batch_are_sent_and_received_once_each(self, queue: Queue) -> None:
        """Whatever the transport's own batches are, one call takes any number."""
        queue.send([task_message(number) for number in range(_SEVERAL_BATCHES)])
        received = receive(queue, _SEVERAL_BATCHES)
        assert sorted(TaskQueueMessage.from_wire(message.body).job_id for message in received) == [
            task_message(number).job_id for number in range(_SEVERAL_BATCHES)
        ]
        assert len({message.message_id for message in received}) == _SEVERAL_BATCHES

    def test_rival_receivers_share_the_messages_out(self, queue: Queue) -> None:
        """While a message is hidden, it has one holder."""
        queue.send([task_message(number) for number in range(_SEVERAL_BATCHES)])
        with ThreadPoolExecutor(_RECEIVERS) as pool:
            shares = list(pool.map(lambda _: _receive_all(queue), range(_RECEIVERS)))
        received = [message.message_id for share in shares for message in share]
        assert len(received) == len(set(received)) == _SEVERAL_BATCHES

    def test_a_received_message_is_hidden_from_others(self, queue: Queue) -> None:
        """Nobody else receives a message while its time runs."""
        queue.send([job_message()])
        receive_one(queue)
        assert receive(queue) == []

    def test_a_message_whose_holder_died_comes_back_after_its_time(self, queue: Queue) -> None:
        """Nothing needs to be done for a message to be delivered again, and the count tells that it was."""
        queue.send([job_message()])
        (first,) = receive(queue, 1, seconds=1)
        deadline = monotonic() + _PATIENCE_SECONDS
        while not (again := receive(queue)):
            assert monotonic() < deadline, "the message did not come back"
        assert [(message.message_id, message.delivery_count) for message in again] == [(first.message_id, 2)]

    def test_a_message_that_is_given_back_is_received_at_once(self, queue: Queue) -> None:
        """Hiding for 0 seconds more gives a message back."""
        queue.send([job_message()])
        first = receive_one(queue)
        queue.extend(first, 0)
        again = receive_one(queue)
        assert (again.message_id, again.body, again.delivery_count) == (first.message_id, first.body, 2)

    def test_an_extended_message_is_the_same_and_can_be_extended_and_deleted(self, queue: Queue) -> None:
        """The answer replaces the message; only the receipt may differ."""
        queue.send([job_message()])
        first = receive_one(queue)
        second = queue.extend(first, _HIDDEN_SECONDS)
        assert second is not None
        assert second.model_copy(update={"receipt": first.receipt}) == first
        third = queue.extend(second, _HIDDEN_SECONDS)
        assert third is not None
        assert receive(queue) == []
        assert queue.delete(third)

    def test_a_holder_that_lost_its_message_to_a_rival_can_do_nothing(self, queue: Queue) -> None:
        """A lost receipt extends and deletes nothing, says so, and leaves the rival's alone."""
        queue.send([job_message()])
        lost = receive_one(queue)
        queue.extend(lost, 0)
        rival = receive_one(queue)
        assert queue.extend(lost, _HIDDEN_SECONDS) is None
        assert queue.delete(lost) is False
        assert queue.delete(rival) is True

    def test_a_deleted_message_is_gone_and_can_be_deleted_once(self, queue: Queue) -> None:
        """Acknowledging twice is no error, and only the first time counts."""
        queue.send([job_message()])
        message = receive_one(queue)
        assert queue.delete(message) is True
        assert queue.delete(message) is False
        assert queue.extend(message, 0) is None
        assert receive(queue) == []

    def test_a_parked_message_is_in_the_poison_queue_and_nowhere_else(self, queue: Queue) -> None:
        """What cannot be used is kept for people, and no worker meets it again."""
        queue.send([job_message(1), task_message(2)])
        job, task = receive(queue)
        queue.park(job)
        queue.park(task)
        assert sorted(self.parked(queue)) == sorted([job.body, task.body])
        assert queue.delete(job) is False
        assert receive(queue) == []

    def test_parking_a_message_that_was_lost_is_no_error(self, queue: Queue) -> None:
        """Parking happens at least once: a crash in the middle is cured by parking again."""
        queue.send([job_message()])
        message = receive_one(queue)
        queue.park(message)
        queue.park(message)
        assert set(self.parked(queue)) == {message.body}

    @pytest.mark.parametrize("text", ["{not json", "plain words", '{"kind":"job"}', "QUJD", "äöü €", "", "QUJDR"])
    @pytest.mark.parametrize("kind", ["job", "task"])
    def test_a_foreign_message_does_not_cost_its_neighbours(
        self, queue: Queue, kind: Literal["job", "task"], text: str
    ) -> None:
        """One message that cannot be decoded is delivered as such, among good ones that can."""
        queue.send([job_message(1), task_message(2)])
        self.put_foreign(queue, kind, text)
        queue.send([job_message(3), task_message(4)])
        received = receive(queue)
        assert len(received) == 5
        assert sorted(_decoded(message) for message in received) == ["", *(f"{number:064x}" for number in range(1, 5))]

    @pytest.mark.parametrize("text", ["plain words", "äöü €", "QUJDR", "QR=="])
    def test_parking_a_foreign_message_keeps_every_byte(self, queue: Queue, text: str) -> None:
        """People find in the poison queue what was really sent."""
        self.put_foreign(queue, "task", text)
        queue.park(receive_one(queue))
        assert self.parked(queue) == [text.encode()]
        assert receive(queue) == []

    @pytest.mark.parametrize("body", [b"not json", "äöü €".encode(), b"\x00\xff\x80", b"QUJD", b""])
    def test_the_bytes_of_a_message_are_sent_again_as_they_were(self, queue: Queue, body: bytes) -> None:
        """What people requeue comes back byte for byte, in the queue it came from, as a new message."""
        for message in (job_message(), task_message()):
            queue.send([message])
            received = receive_one(queue)
            queue.delete(received)
            queue.resend(received.queue, body)
            again = receive_one(queue)
            assert (again.queue, again.body, again.decode_error, again.delivery_count) == (received.queue, body, None, 1)
            queue.delete(again)

    def test_nothing_is_sent_again_to_a_queue_of_another_name(self, queue: Queue) -> None:
        """A letter from elsewhere is told apart, with the names that there are."""
        with pytest.raises(InvalidValueError, match="there is no queue 'elsewhere'"):
            queue.resend("elsewhere", b"{}")
        assert receive(queue) == []

    def test_a_message_over_the_limit_is_refused_and_none_is_sent(self, queue: Queue) -> None:
        """The limit is checked for all before the first is sent; up to it, a message travels whole."""
        largest = self.max_body_bytes or 1_000_000
        fitting = _message_of(largest)
        if self.max_body_bytes is not None:
            with pytest.raises(MessageTooLargeError, match=job_message(7).job_id):
                queue.send([job_message(1), _message_of(largest + 1), task_message(2)])
            assert receive(queue) == []
        queue.send([fitting])
        assert receive_one(queue).body == fitting.to_wire().encode()

    def test_probing_counts_and_touches_no_message(self, queue: Queue) -> None:
        """A look at the queue hides no message, counts no delivery and takes no holder's message away."""
        assert queue.probe() == 0
        queue.send([job_message(1), task_message(2), task_message(3)])
        (held,) = receive(queue, 1)
        assert [queue.probe() for _ in range(3)] == [3] * 3
        rest = receive(queue)
        assert [message.delivery_count for message in (held, *rest)] == [1] * 3
        assert [queue.delete(message) for message in (held, *rest)] == [True] * 3
        assert queue.probe() == 0

    def test_creating_the_queues_again_keeps_what_is_in_them(self, queue: Queue) -> None:
        """Every process may create the queues when it starts."""
        queue.send([job_message()])
        queue.create()
        assert len(receive(queue)) == 1

    def test_the_address_shows_no_secret(self, queue: Queue) -> None:
        """The address and the picture of a queue go into logs."""
        shown = f"{queue.url} {queue!r} {queue}"
        assert queue.url
        assert [secret for secret in self.secrets if secret in shown] == []


def receive(queue: Queue, max_messages: int = 100, *, seconds: float = _HIDDEN_SECONDS) -> list[ReceivedMessage]:
    """Return what is there, hidden for a minute unless told otherwise."""
    return queue.receive(max_messages=max_messages, visibility_seconds=seconds)


def receive_one(queue: Queue) -> ReceivedMessage:
    """Return the one message that is there."""
    (message,) = receive(queue)
    return message


def _receive_all(queue: Queue) -> list[ReceivedMessage]:
    received: list[ReceivedMessage] = []
    while page := receive(queue, 5):
        received += page
    return received


def _decoded(message: ReceivedMessage) -> str:
    """Return the job id of a message, empty where it is none of ours."""
    if message.decode_error is not None:
        return ""
    for kind in (JobQueueMessage, TaskQueueMessage):
        try:
            return kind.from_wire(message.body).job_id
        except PoisonMessageError:
            continue
    return ""


def _message_of(size: int) -> WideMessage:
    """Return a message of that many bytes of JSON."""
    plain = WideMessage(**task_message(7).model_dump(), padding="")
    return WideMessage(**task_message(7).model_dump(), padding="x" * (size - len(plain.to_wire())))
