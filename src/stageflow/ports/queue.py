"""An external queue."""

from collections.abc import Sequence
from typing import Protocol

from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage


class Queue(Protocol):
    """An external queue that carries hints; one for jobs and one for tasks."""

    @property
    def url(self) -> str:
        """The queue's address, without secrets."""
        ...

    def send(self, messages: Sequence[JobQueueMessage | TaskQueueMessage]) -> None:
        """Send messages, each to its queue, at least once.

        Raises:
            MessageTooLargeError: A message is over the limit; none was sent.
            MessagesUnsentError: Some were not sent; the error says which.
        """
        ...

    def resend(self, queue: str, body: bytes) -> None:
        """Send the body of a message as it was received, whatever it holds, to one of the two queues by its name.

        Raises:
            InvalidValueError: Neither has this name.
            MessageTooLargeError: It is over the limit; nothing was sent.
            QueueUnreachableError: It may not have been sent.
        """
        ...

    def receive(self, *, max_messages: int, visibility_seconds: float) -> list[ReceivedMessage]:
        """Return messages, hidden from others for the given time, job messages first; at once, also if there are none."""
        ...

    def extend(self, message: ReceivedMessage, visibility_seconds: float) -> ReceivedMessage | None:
        """Hide a message for so long from now, 0 to give it back at once; ``None`` where it was lost.

        The answer replaces the message.
        """
        ...

    def delete(self, message: ReceivedMessage) -> bool:
        """Acknowledge a message; ``False`` where it was lost."""
        ...

    def park(self, message: ReceivedMessage) -> None:
        """Move a message to the poison queue."""
        ...

    def probe(self) -> int:
        """Reach every queue, the poison queues too, and return about how many messages wait or are hidden.

        Receives nothing: no message is hidden by it, and no delivery is counted.

        Raises:
            QueueUnreachableError: The queues cannot be reached, or one of them is missing.
        """
        ...

    def create(self) -> None:
        """Create the queues where they are missing."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
