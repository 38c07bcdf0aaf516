"""Decode what a queue delivered."""

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from stageflow.contracts.message import WIRE_VERSION, JobQueueMessage, TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage
from stageflow.errors import PoisonMessageError

_hint: TypeAdapter[JobQueueMessage | TaskQueueMessage] = TypeAdapter(
    Annotated[JobQueueMessage | TaskQueueMessage, Field(discriminator="kind")],
)


def decode_message(message: ReceivedMessage) -> JobQueueMessage | TaskQueueMessage:
    """Return the hint that a received message carries.

    Raises:
        PoisonMessageError: It is no message of this library, or of another wire version.
    """
    if message.decode_error is not None:
        msg = f"the transport encoding could not be undone: {message.decode_error}"
        raise PoisonMessageError(msg)
    try:
        return _hint.validate_json(message.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        msg = f"not a message of stageflow's wire version {WIRE_VERSION}: {place + ': ' if place else ''}{first['msg']}"
        raise PoisonMessageError(msg) from error
