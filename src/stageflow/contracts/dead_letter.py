"""Messages that could not be used, kept with their bytes and the reason."""

from enum import StrEnum

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime


class DeadLetterState(StrEnum):
    """What an operator did with it."""

    OPEN = "open"
    REQUEUED = "requeued"
    DISCARDED = "discarded"


class NewDeadLetter(LateContract):
    """A message to be parked.

    Attributes:
        message_id: The queue's own id of the message; parking the same one twice keeps one letter.
        body: The bytes as received.
    """

    queue: str = Field(min_length=1)
    message_id: str = Field(min_length=1)
    body: bytes
    reason: str = Field(min_length=1)
    delivery_count: int = Field(ge=1)


class DeadLetter(NewDeadLetter):
    """A parked message."""

    letter_id: int
    state: DeadLetterState
    created_at: UtcDatetime
