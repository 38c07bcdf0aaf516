"""A message as an external queue delivered it."""

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime


class ReceivedMessage(LateContract):
    """A delivery, not yet decoded: one bad message must not cost its neighbours.

    Attributes:
        queue: Name of the queue it came from.
        body: The text as the sender wrote it, the transport's encoding already undone where that was possible.
        receipt: What extending and deleting need; each extension gives a new one.
        delivery_count: How often it was delivered, this time included.
        decode_error: Why the transport's encoding could not be undone; ``body`` is then as received.
    """

    queue: str = Field(min_length=1)
    message_id: str = Field(min_length=1)
    body: bytes
    receipt: str
    delivery_count: int = Field(ge=1)
    inserted_at: UtcDatetime
    decode_error: str | None = None
