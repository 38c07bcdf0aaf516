"""What an app does with dead letters."""

from stageflow.app.connected import Connected
from stageflow.contracts.dead_letter import DeadLetter, DeadLetterState
from stageflow.contracts.enforce import enforce_contract
from stageflow.engine.letters import discard_letter, list_letters, requeue_letter, require_letter


class DeadLetters(Connected):
    """Shows the messages that could not be used, and deals with them."""

    @enforce_contract
    def dead_letters(
        self, *, state: DeadLetterState | None = DeadLetterState.OPEN, limit: int = 100, after: int = 0
    ) -> list[DeadLetter]:
        """Return messages that could not be used, each with its bytes and the reason, oldest first.

        Args:
            state: Only those in this state; ``None`` for all.
            limit: At most so many, 1 to 1,000.
            after: The id of the last letter of the page before.
        """
        return list_letters(self.repositories, state=state, limit=limit, after=after)

    @enforce_contract
    def dead_letter(self, letter_id: int) -> DeadLetter:
        """Return one dead letter.

        Raises:
            DeadLetterNotFoundError: There is none with this id.
        """
        return require_letter(letter_id, self.repositories)

    @enforce_contract
    def requeue(self, letter_id: int) -> DeadLetter:
        """Send an open dead letter's bytes to its queue again, at least once.

        Raises:
            DeadLetterNotFoundError: There is none with this id.
            InvalidTransitionError: It was requeued or discarded before.
            InvalidValueError: The app has no external queue, or another than the letter came from; nothing changed.
        """
        return requeue_letter(letter_id, self.queue, self.repositories, self.telemetry)

    @enforce_contract
    def discard(self, letter_id: int) -> DeadLetter:
        """Put an open dead letter away: its bytes are kept, and it is never sent again.

        Raises:
            DeadLetterNotFoundError: There is none with this id.
            InvalidTransitionError: It was requeued or discarded before; nothing changed.
        """
        return discard_letter(letter_id, self.repositories, self.telemetry)
