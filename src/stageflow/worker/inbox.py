"""Work that arrives as messages of an external queue."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from stageflow.contracts.dead_letter import NewDeadLetter
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.preview import redact
from stageflow.contracts.processing import ProcessingOutcome, ProcessingResult
from stageflow.contracts.queue import ReceivedMessage
from stageflow.engine.hooks import error_text
from stageflow.engine.messages import decode_message
from stageflow.errors import ForeignMessageError, PoisonMessageError, StageflowError, UnknownWorkflowError
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.heartbeat import SLOW_SECONDS
from stageflow.worker.messages import MessageProcessor
from stageflow.worker.options import WorkerOptions
from stageflow.worker.pace import Pace
from stageflow.worker.shelf import Shelf

MOST_DELIVERIES: Final = 20
"""A message that was delivered more often than this without an answer is parked."""
ANSWERS_IN_FLIGHT: Final = 4
"""Messages that are acknowledged or given back at the same time, beside the slots."""
PAGE: Final = 32
"""Messages of one request, the most that Azure Storage Queue hands out."""
LATE_SECONDS: Final = 0.5
"""A message that found no slot for so long is given back: what runs takes longer than was expected."""


class Inbox:
    """Receives ahead for the slots, renews visibility while they work, and acknowledges what they answer.

    A message is acknowledged after its work is committed, by threads of their own: a slot does not wait for it. An
    acknowledgement that is lost brings the message back, and the claim finds nothing left to do.
    """

    def __init__(
        self,
        queue: Queue,
        processor: MessageProcessor,
        repositories: Repositories,
        telemetry: Telemetry,
        options: WorkerOptions,
    ) -> None:
        self._queue = queue
        self._processor = processor
        self._repositories = repositories
        self._telemetry = telemetry
        self._options = options
        self.pace: Final = Pace(options.poll_seconds)
        self._shelf = Shelf(options.slots)
        self._answers = ThreadPoolExecutor(ANSWERS_IN_FLIGHT, thread_name_prefix="stageflow-answer")
        self._lock = threading.Lock()
        self._kept: dict[str, ReceivedMessage] = {}
        self._crowded = threading.Event()

    def receive(self, stopping: threading.Event) -> None:
        """Receive messages until told to stop, then give back what came too late; blocks.

        A queue that was just empty is asked again soon, then ever more seldom, until the worker is woken or messages come.
        """
        while not stopping.is_set():
            if self.pace.wait(self._options.poll_seconds):
                wanted = self._shelf.reserve(PAGE, self._options.poll_seconds)
                if wanted > 0:
                    self.pace.found(self._receive(wanted))
        self.release()

    def receive_more(self, stopping: threading.Event) -> None:
        """Receive beside :meth:`receive` while all that is asked for comes, so that more than one request is in flight."""
        while not stopping.is_set():
            if self._crowded.wait(self._options.poll_seconds):
                wanted = self._shelf.reserve(PAGE, self._options.poll_seconds)
                if wanted > 0:
                    self._receive(wanted)
        self.release()

    def renew(self, stopping: threading.Event) -> None:
        """Hide messages in work for longer, and give back what waits behind slow work, until told to stop; blocks."""
        ticks = max(1, round(self._options.beat_seconds / SLOW_SECONDS))
        tick = 0
        while not stopping.wait(self._options.beat_seconds / ticks):
            for message in self._shelf.take_late(LATE_SECONDS):
                self._answers.submit(self._give_back, message)
            tick = (tick + 1) % ticks
            if tick == 0:
                self._renew_all()

    def work_once(self) -> bool:
        """Carry out one message, if one comes within the poll time."""
        message = self._shelf.take(self._options.poll_seconds)
        if message is None:
            return False
        try:
            self.handle(message)
        finally:
            self._shelf.done()
        return True

    def handle(self, message: ReceivedMessage) -> None:
        """Decode and carry out a message; park what cannot be used."""
        try:
            hint = decode_message(message)
        except PoisonMessageError as error:
            self._park(message, str(error))
            return
        if message.delivery_count > MOST_DELIVERIES:
            self._park(message, f"delivered {message.delivery_count} times without an answer")
            return
        try:
            with self._keeping(message):
                result = self._process(hint)
        except ForeignMessageError as error:
            self._park(message, str(error))
        except UnknownWorkflowError as error:
            # For workers of another release: it shows up again when its visibility timeout ends.
            self._telemetry.emit("message_left", queue=message.queue, message_id=message.message_id, reason=str(error))
        else:
            self._settle(message, result)

    def interrupt(self) -> None:
        """Wake the slots and the receivers, at a stop."""
        self._shelf.close()
        self._crowded.set()
        self.pace.arrived()

    def release(self) -> None:
        """Show messages that were received ahead to other workers at once, at a stop."""
        list(self._answers.map(self._give_back, self._shelf.take_all()))

    def close(self) -> None:
        """Wait for the answers that are on their way."""
        self._answers.shutdown()

    def _receive(self, wanted: int) -> int:
        """Make one request for reserved messages, and return how many came."""
        received: list[ReceivedMessage] = []
        try:
            received = self._queue.receive(max_messages=wanted, visibility_seconds=self._options.lease_seconds)
        except StageflowError as error:
            self._telemetry.emit("receive_failed", error=error_text(error))
        finally:
            self._shelf.put(received, wanted)
        if len(received) == PAGE:
            self._crowded.set()
        elif not self._shelf.closed:
            self._crowded.clear()
        return len(received)

    def _process(self, hint: JobQueueMessage | TaskQueueMessage) -> ProcessingResult:
        match hint:
            case JobQueueMessage():
                return self._processor.process_job_queue_message(hint)
            case TaskQueueMessage():
                return self._processor.process_task_queue_message(hint)

    def _settle(self, message: ReceivedMessage, result: ProcessingResult) -> None:
        with self._lock:
            newest = self._kept.pop(message.message_id)
        if result.outcome is not ProcessingOutcome.LEASED:
            self._answers.submit(self._acknowledge, newest)

    def _acknowledge(self, message: ReceivedMessage) -> None:
        try:
            self._queue.delete(message)
        except StageflowError as error:
            self._telemetry.emit("acknowledgement_failed", error=error_text(error))

    def _give_back(self, message: ReceivedMessage) -> None:
        try:
            self._queue.extend(message, 0.0)
        except StageflowError as error:
            # The queue is away: the message shows up again by itself when its visibility timeout ends.
            self._telemetry.emit("release_failed", error=error_text(error))

    def _park(self, message: ReceivedMessage, why: str) -> None:
        reason = redact(why)
        self._repositories.store.add_dead_letter(
            NewDeadLetter(
                queue=message.queue,
                message_id=message.message_id,
                body=message.body,
                reason=reason,
                delivery_count=message.delivery_count,
            )
        )
        self._queue.park(message)
        self._telemetry.emit("message_parked", queue=message.queue, message_id=message.message_id, reason=reason)

    @contextmanager
    def _keeping(self, message: ReceivedMessage) -> Iterator[None]:
        with self._lock:
            self._kept[message.message_id] = message
        try:
            yield
        except BaseException:
            with self._lock:
                del self._kept[message.message_id]
            raise

    def _renew_all(self) -> None:
        with self._lock:
            kept = dict(self._kept)
        for message_id, message in kept.items():
            try:
                self._renew_one(message_id, message)
            except StageflowError as error:
                self._telemetry.emit("renewal_failed", error=error_text(error))

    def _renew_one(self, message_id: str, message: ReceivedMessage) -> None:
        renewed = self._queue.extend(message, self._options.lease_seconds)
        with self._lock:
            if renewed is not None and message_id in self._kept:
                self._kept[message_id] = renewed
