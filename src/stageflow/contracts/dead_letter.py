"""Messages that could not be used, kept with their bytes and the reason."""

from enum import StrEnum
from typing import Final

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.errors import InvalidTransitionError


class DeadLetterState(StrEnum):
    """What an operator did with it."""

    OPEN = "open"
    REQUEUED = "requeued"
    DISCARDED = "discarded"


LETTER_TRANSITIONS: Final[dict[DeadLetterState, frozenset[DeadLetterState]]] = {
    DeadLetterState.OPEN: frozenset({DeadLetterState.REQUEUED, DeadLetterState.DISCARDED}),
    DeadLetterState.REQUEUED: frozenset(),
    DeadLetterState.DISCARDED: frozenset(),
}


def require_letter_change(letter_id: int, current: DeadLetterState, new_state: DeadLetterState) -> None:
    """Do nothing if a dead letter in this state can get another.

    Raises:
        InvalidTransitionError: It cannot; the message names its state.
    """
    if new_state not in LETTER_TRANSITIONS[current]:
        allowed = ", ".join(sorted(LETTER_TRANSITIONS[current])) or "nothing, only an open letter is requeued or discarded"
        msg = f"dead letter {letter_id} is {current} and cannot become {new_state}; allowed: {allowed}"
        raise InvalidTransitionError(msg)


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
