"""Decode what a queue delivered."""

from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage, poison_of, require_readable_message
from stageflow.contracts.queue import ReceivedMessage
from stageflow.errors import PoisonMessageError

_hint: Final[TypeAdapter[JobQueueMessage | TaskQueueMessage]] = TypeAdapter(
    Annotated[JobQueueMessage | TaskQueueMessage, Field(discriminator="kind")],
)


def decode_message(message: ReceivedMessage) -> JobQueueMessage | TaskQueueMessage:
    """Return the hint that a received message carries.

    Raises:
        PoisonMessageError: It is no message of this library, too large to be one, or of another wire version.
    """
    if message.decode_error is not None:
        msg = f"the transport encoding could not be undone: {message.decode_error}"
        raise PoisonMessageError(msg)
    require_readable_message(message.body)
    try:
        return _hint.validate_json(message.body)
    except ValidationError as error:
        raise poison_of(error) from error
