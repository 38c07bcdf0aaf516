"""What waits to be announced on an external queue, and what came back unusable."""

from collections.abc import Sequence

from stageflow.backends.sqlite.clock import span_micros, stored_time
from stageflow.backends.sqlite.connection import Row
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Work, json_list
from stageflow.contracts.damage import ROW_FAULTS, malformed
from stageflow.contracts.dead_letter import DeadLetter, DeadLetterState, NewDeadLetter, require_letter_change
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.outbox import Announcement
from stageflow.contracts.status import status_from_text

_NEVER = (
    "select w.* from (select range_id from stageflow_ranges where state = 'ready' and announced_at is null"
    " order by range_id limit ?) due cross join stageflow_work w on w.range_id = due.range_id order by w.range_id"
)
_LONG_AGO = (
    "select w.* from (select range_id from stageflow_ranges where state = 'ready' and announced_at < ?"
    " order by announced_at, range_id limit ?) due cross join stageflow_work w on w.range_id = due.range_id"
)
_LETTER = "select queue, message_id, body, reason, delivery_count, letter_id, state, created_at from stageflow_dead_letters "


class SqliteOutbox(StorePart):
    """Announcements and dead letters."""

    def list_unannounced(self, *, older_than_seconds: float | None, limit: int) -> list[Announcement]:
        """Return ready ranges that were never announced, or were longer ago than given; the former first."""
        with self._database.reading() as tx:
            rows = tx.rows(_NEVER, (limit,))
            if older_than_seconds is not None:
                rows += tx.rows(_LONG_AGO, (tx.now - span_micros(older_than_seconds), limit - len(rows)))
        return [_announce(Work._make(row)) for row in rows]

    def mark_announced(self, range_ids: Sequence[int]) -> None:
        """Note that messages for these ranges were sent."""
        with self._database.transaction() as tx:
            tx.run(
                "update stageflow_ranges set announced_at = ? where state = 'ready'"
                " and range_id in (select value from json_each(?))",
                (tx.now, json_list(list(range_ids))),
            )

    def add_dead_letter(self, letter: NewDeadLetter) -> DeadLetter:
        """Park a message; the same queue and message id again returns the letter that is there."""
        with self._database.transaction() as tx:
            tx.run(
                "insert into stageflow_dead_letters (queue, message_id, body, reason, delivery_count, created_at)"
                " values (?, ?, ?, ?, ?, ?) on conflict (queue, message_id) do nothing",
                (letter.queue, letter.message_id, letter.body, letter.reason, letter.delivery_count, tx.now),
            )
            rows = tx.rows(_LETTER + "where queue = ? and message_id = ?", (letter.queue, letter.message_id))
        return to_letter(rows[0])

    def list_dead_letters(self, *, limit: int, after: int, state: DeadLetterState | None = None) -> list[DeadLetter]:
        """Return parked messages, of one state or of all, oldest first, from after a letter id on."""
        with self._database.reading() as tx:
            rows = tx.rows(
                _LETTER + "where letter_id > ?1 and (?2 is null or state = ?2) order by letter_id limit ?3",
                (after, None if state is None else state.value, limit),
            )
        return [to_letter(row) for row in rows]

    def change_dead_letter(self, letter_id: int, new_state: DeadLetterState) -> DeadLetter | None:
        """Note what an operator did with an open letter; ``None`` where there is none with this id.

        Raises:
            InvalidTransitionError: It is not open; nothing changed.
        """
        with self._database.transaction() as tx:
            row = tx.row(_LETTER + "where letter_id = ?", (letter_id,))
            if row is None:
                return None
            letter = to_letter(row)
            require_letter_change(letter_id, letter.state, new_state)
            tx.run("update stageflow_dead_letters set state = ? where letter_id = ?", (new_state.value, letter_id))
        return letter.model_copy(update={"state": new_state})


def _announce(work: Work) -> Announcement:
    if not work.is_task:
        return Announcement(
            range_id=work.range_id,
            message=JobQueueMessage(job_id=work.job_id, job_type=work.job_type, run=work.run, stage_number=work.stage_number),
        )
    return Announcement(
        range_id=work.range_id,
        message=TaskQueueMessage(
            job_id=work.job_id,
            job_type=work.job_type,
            run=work.run,
            stage_number=work.stage_number,
            task_type=work.task_type,
            generation=work.generation,
            first=work.first,
            last=work.last,
        ),
    )


def to_letter(row: Row) -> DeadLetter:
    """Return a row of dead letters as its contract.

    Raises:
        MalformedRowError: It is not what the contract says.
    """
    try:
        return DeadLetter(
            queue=row[0],
            message_id=row[1],
            body=row[2],
            reason=row[3],
            delivery_count=row[4],
            letter_id=row[5],
            state=status_from_text(DeadLetterState, row[6]),
            created_at=stored_time(row[7]),
        )
    except ROW_FAULTS as error:
        what = f"dead letter {row[5]}"
        raise malformed(what, error) from error
