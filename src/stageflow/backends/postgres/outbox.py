"""What waits to be announced on an external queue, and what came back unusable."""

from collections.abc import Sequence

from stageflow.backends.postgres.arrays import dense_array
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.rows import announcement_from_row, dead_letter_from_row
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.dead_letter import DeadLetter, DeadLetterState, NewDeadLetter, require_letter_change
from stageflow.contracts.outbox import Announcement


class Outbox(Part):
    """Satisfies ``stageflow.ports.OutboxStore``."""

    def list_unannounced(self, *, older_than_seconds: float | None, limit: int) -> list[Announcement]:
        """Return ready ranges that were never announced, or were longer ago than given."""
        if older_than_seconds is None:
            rows = self._database.read(query("list_unannounced"), (limit,))
        else:
            rows = self._database.read(query("list_announced_before"), (limit, older_than_seconds))
        return [announcement_from_row(row) for row in rows]

    def mark_announced(self, range_ids: Sequence[int]) -> None:
        """Note that messages for these ranges were sent."""
        self._database.write(query("mark_announced"), (dense_array(range_ids),))

    def add_dead_letter(self, letter: NewDeadLetter) -> DeadLetter:
        """Park a message; the same queue and message id again returns the letter that is there."""
        (row,) = self._database.write(
            query("add_dead_letter"),
            (letter.queue, letter.message_id, letter.body, letter.reason, letter.delivery_count),
        )
        return dead_letter_from_row(row)

    def list_dead_letters(self, *, limit: int, after: int, state: DeadLetterState | None = None) -> list[DeadLetter]:
        """Return parked messages, of one state or of all, oldest first, from after a letter id on."""
        wanted = None if state is None else state.value
        return [dead_letter_from_row(row) for row in self._database.read(query("list_dead_letters"), (limit, after, wanted))]

    def change_dead_letter(self, letter_id: int, new_state: DeadLetterState) -> DeadLetter | None:
        """Note what an operator did with an open letter; ``None`` where there is none with this id.

        Raises:
            InvalidTransitionError: It is not open; nothing changed.
        """
        changed = self._database.write(query("change_dead_letter"), (letter_id, new_state.value))
        if changed:
            return dead_letter_from_row(changed[0])
        found = self.list_dead_letters(limit=1, after=letter_id - 1)
        if not found or found[0].letter_id != letter_id:
            return None
        require_letter_change(letter_id, found[0].state, new_state)
        return found[0]
