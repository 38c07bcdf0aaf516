"""Decode what a queue delivered."""

from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage
from stageflow.errors import PoisonMessageError


def decode_message(message: ReceivedMessage) -> JobQueueMessage | TaskQueueMessage:
    """Return the hint that a received message carries.

    Raises:
        PoisonMessageError: It is no message of this library, or of another wire version.
    """
    if message.decode_error is not None:
        msg = f"the transport encoding could not be undone: {message.decode_error}"
        raise PoisonMessageError(msg)
    if b'"kind":"task"' in message.body:
        return TaskQueueMessage.from_wire(message.body)
    return JobQueueMessage.from_wire(message.body)
