"""What waits to be announced on an external queue, and what came back unusable."""

from collections.abc import Sequence
from typing import Protocol

from stageflow.contracts.dead_letter import DeadLetter, DeadLetterState, NewDeadLetter
from stageflow.contracts.outbox import Announcement


class OutboxStore(Protocol):
    """What waits to be announced on an external queue, and what came back unusable."""

    def list_unannounced(self, *, older_than_seconds: float | None, limit: int) -> list[Announcement]:
        """Return ready ranges that were never announced, or were longer ago than given."""
        ...

    def mark_announced(self, range_ids: Sequence[int]) -> None:
        """Note that messages for these ranges were sent."""
        ...

    def add_dead_letter(self, letter: NewDeadLetter) -> DeadLetter:
        """Park a message; the same queue and message id again returns the letter that is there."""
        ...

    def list_dead_letters(self, *, limit: int, after: int, state: DeadLetterState | None = None) -> list[DeadLetter]:
        """Return parked messages, of one state or of all, oldest first, from after a letter id on."""
        ...

    def change_dead_letter(self, letter_id: int, new_state: DeadLetterState) -> DeadLetter | None:
        """Note what an operator did with an open letter; ``None`` where there is none with this id.

        Raises:
            InvalidTransitionError: It is not open; nothing changed.
        """
        ...
