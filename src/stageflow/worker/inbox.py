"""Work that arrives as messages of an external queue."""

import queue as queues
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stageflow.contracts.dead_letter import NewDeadLetter
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.processing import ProcessingOutcome, ProcessingResult
from stageflow.contracts.queue import ReceivedMessage
from stageflow.engine.hooks import error_text
from stageflow.engine.messages import decode_message
from stageflow.errors import ForeignMessageError, PoisonMessageError, StageflowError
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.messages import MessageProcessor
from stageflow.worker.options import WorkerOptions

MOST_DELIVERIES = 20
"""A message that was delivered more often than this without an answer is parked."""


class Inbox:
    """Receives ahead for the slots, renews visibility while they work, and acknowledges what they answer."""

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
        self._waiting: queues.Queue[ReceivedMessage] = queues.Queue(maxsize=options.slots)
        self._lock = threading.Lock()
        self._kept: dict[str, ReceivedMessage] = {}

    def receive(self, stopping: threading.Event) -> None:
        """Receive messages until told to stop; blocks."""
        while not stopping.is_set():
            try:
                received = self._queue.receive(max_messages=self._options.slots, visibility_seconds=self._options.lease_seconds)
            except StageflowError as error:
                self._telemetry.emit("receive_failed", error=error_text(error))
                received = []
            for message in received:
                self._offer(message, stopping)
            if not received:
                stopping.wait(self._options.poll_seconds / 5)

    def renew(self, stopping: threading.Event) -> None:
        """Hide messages in work for longer, until told to stop; blocks."""
        while not stopping.wait(self._options.beat_seconds):
            with self._lock:
                kept = dict(self._kept)
            for message_id, message in kept.items():
                try:
                    self._renew_one(message_id, message)
                except StageflowError as error:
                    self._telemetry.emit("renewal_failed", error=error_text(error))

    def work_once(self) -> bool:
        """Carry out one message, if one comes within the poll time."""
        try:
            message = self._waiting.get(timeout=self._options.poll_seconds)
        except queues.Empty:
            return False
        self.handle(message)
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
        else:
            self._acknowledge(message, result)

    def release(self) -> None:
        """Show messages that were received ahead to other workers at once, at a stop."""
        while True:
            try:
                message = self._waiting.get_nowait()
            except queues.Empty:
                return
            self._queue.extend(message, 0.0)

    def _process(self, hint: JobQueueMessage | TaskQueueMessage) -> ProcessingResult:
        match hint:
            case JobQueueMessage():
                return self._processor.process_job_queue_message(hint)
            case TaskQueueMessage():
                return self._processor.process_task_queue_message(hint)

    def _acknowledge(self, message: ReceivedMessage, result: ProcessingResult) -> None:
        with self._lock:
            newest = self._kept.pop(message.message_id)
        if result.outcome is not ProcessingOutcome.LEASED:
            self._queue.delete(newest)

    def _park(self, message: ReceivedMessage, reason: str) -> None:
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

    def _renew_one(self, message_id: str, message: ReceivedMessage) -> None:
        renewed = self._queue.extend(message, self._options.lease_seconds)
        with self._lock:
            if renewed is not None and message_id in self._kept:
                self._kept[message_id] = renewed

    def _offer(self, message: ReceivedMessage, stopping: threading.Event) -> None:
        deadline = time.monotonic() + self._options.lease_seconds
        while not stopping.is_set() and time.monotonic() < deadline:
            try:
                self._waiting.put(message, timeout=0.2)
            except queues.Full:
                continue
            return
