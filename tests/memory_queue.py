"""An external queue in the memory of one process, for tests of what sends and receives: it keeps, hides and delivers."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Final

from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage
from stageflow.errors import InvalidValueError, MessagesUnsentError

JOBS: Final = "memory-jobs"
TASKS: Final = "memory-tasks"


@dataclass
class _Kept:
    """A message in a queue."""

    queue: str
    message_id: str
    body: bytes
    inserted_at: datetime
    deliveries: int = 0
    receipt: str = ""
    hidden_until: float = 0.0


class MemoryQueue:
    """The port's two queues, as long as this object lives; with ``room``, messages beyond so many are not sent."""

    def __init__(self, *, room: int | None = None) -> None:
        self.room = room
        self.poison: Final[list[bytes]] = []
        self._kept: list[_Kept] = []
        self._numbers = count(1)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address of the queues."""
        return "memory:"

    def send(self, messages: Sequence[JobQueueMessage | TaskQueueMessage]) -> None:
        """Keep what there is room for."""
        unsent = []
        for place, message in enumerate(messages):
            if self.room is not None and self.probe() >= self.room:
                unsent.append(place)
            else:
                self.put(JOBS if isinstance(message, JobQueueMessage) else TASKS, message.to_wire().encode())
        if unsent:
            msg = f"there is room for {self.room} messages; receive some and send again"
            raise MessagesUnsentError(msg, unsent)

    def resend(self, queue: str, body: bytes) -> None:
        """Keep the bytes."""
        if queue not in {JOBS, TASKS}:
            msg = f"there is no queue {queue!r} at {self.url}, which has {JOBS}, {TASKS}; connect to the queues it came from"
            raise InvalidValueError(msg)
        self.put(queue, body)

    def put(self, queue: str, body: bytes) -> None:
        """Keep any bytes, as somebody else would send them."""
        with self._lock:
            self._kept.append(_Kept(queue, str(next(self._numbers)), body, datetime.now(UTC)))

    def receive(self, *, max_messages: int, visibility_seconds: float) -> list[ReceivedMessage]:
        """Hide and return what is visible, job messages first."""
        now = time.monotonic()
        with self._lock:
            visible = [kept for kept in self._kept if kept.hidden_until <= now]
            chosen = sorted(visible, key=lambda kept: kept.queue)[:max_messages]
            return [self._deliver(kept, now + visibility_seconds) for kept in chosen]

    def extend(self, message: ReceivedMessage, visibility_seconds: float) -> ReceivedMessage | None:
        """Hide a message for longer, under another receipt."""
        with self._lock:
            kept = self._held(message)
            if kept is None:
                return None
            kept.receipt, kept.hidden_until = str(next(self._numbers)), time.monotonic() + visibility_seconds
            return message.model_copy(update={"receipt": kept.receipt})

    def delete(self, message: ReceivedMessage) -> bool:
        """Forget a message."""
        with self._lock:
            kept = self._held(message)
            if kept is not None:
                self._kept.remove(kept)
            return kept is not None

    def park(self, message: ReceivedMessage) -> None:
        """Move a message to the poison."""
        self.poison.append(message.body)
        self.delete(message)

    def probe(self) -> int:
        """Return how many messages there are."""
        with self._lock:
            return len(self._kept)

    def create(self) -> None:
        """Do nothing: the queues are there."""

    def close(self) -> None:
        """Do nothing: nothing is connected."""

    def _deliver(self, kept: _Kept, hidden_until: float) -> ReceivedMessage:
        kept.deliveries += 1
        kept.receipt, kept.hidden_until = str(next(self._numbers)), hidden_until
        return ReceivedMessage(
            queue=kept.queue,
            message_id=kept.message_id,
            body=kept.body,
            receipt=kept.receipt,
            delivery_count=kept.deliveries,
            inserted_at=kept.inserted_at,
        )

    def _held(self, message: ReceivedMessage) -> _Kept | None:
        return next(
            (kept for kept in self._kept if (kept.message_id, kept.receipt) == (message.message_id, message.receipt)), None
        )
