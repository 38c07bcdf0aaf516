"""Messages that could not be used: looked at, sent again, or put away."""

from stageflow.contracts.dead_letter import DeadLetter, DeadLetterState, require_letter_change
from stageflow.errors import DeadLetterNotFoundError, InvalidValueError
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry

_page_limit = 1000
_highest_id = 2**63 - 1


def list_letters(repositories: Repositories, *, state: DeadLetterState | None, limit: int, after: int) -> list[DeadLetter]:
    """Return parked messages, oldest first, from after a letter id on.

    Raises:
        InvalidValueError: The limit is not 1 to 1,000.
    """
    if not 1 <= limit <= _page_limit:
        msg = f"limit must be 1 to {_page_limit}, got {limit}; ask for the next page with after="
        raise InvalidValueError(msg)
    return repositories.store.list_dead_letters(limit=limit, after=after, state=state)


def require_letter(letter_id: int, repositories: Repositories) -> DeadLetter:
    """Return a parked message.

    Raises:
        DeadLetterNotFoundError: There is none with this id.
    """
    if not 1 <= letter_id <= _highest_id:
        raise _unknown(letter_id)
    found = repositories.store.list_dead_letters(limit=1, after=letter_id - 1)
    if not found or found[0].letter_id != letter_id:
        raise _unknown(letter_id)
    return found[0]


def requeue_letter(letter_id: int, queue: Queue | None, repositories: Repositories, telemetry: Telemetry) -> DeadLetter:
    """Send the kept bytes to their queue again, then mark the letter.

    A crash between the two leaves it open and sends twice, which changes nothing: a message is a hint only.

    Raises:
        DeadLetterNotFoundError: There is no such letter.
        InvalidTransitionError: It is not open.
        InvalidValueError: There is no external queue, or another than it came from; nothing changed.
    """
    letter = require_letter(letter_id, repositories)
    require_letter_change(letter_id, letter.state, DeadLetterState.REQUEUED)
    if queue is None:
        msg = (
            f"dead letter {letter_id} came from the queue {letter.queue!r}, and there is none here to send it to; name it with "
            "--queue, or with Stageflow(queue=...)"
        )
        raise InvalidValueError(msg)
    queue.resend(letter.queue, letter.body)
    return _change(letter_id, DeadLetterState.REQUEUED, repositories, telemetry)


def discard_letter(letter_id: int, repositories: Repositories, telemetry: Telemetry) -> DeadLetter:
    """Put a letter away: its bytes are kept, and it is never sent again.

    Raises:
        DeadLetterNotFoundError: There is no such letter.
        InvalidTransitionError: It is not open; nothing changed.
    """
    require_letter(letter_id, repositories)
    return _change(letter_id, DeadLetterState.DISCARDED, repositories, telemetry)


def _change(letter_id: int, state: DeadLetterState, repositories: Repositories, telemetry: Telemetry) -> DeadLetter:
    changed = repositories.store.change_dead_letter(letter_id, state)
    if changed is None:
        raise _unknown(letter_id)
    telemetry.emit(f"letter_{state}", letter_id=letter_id, queue=changed.queue)
    return changed


def _unknown(letter_id: int) -> DeadLetterNotFoundError:
    return DeadLetterNotFoundError(f"there is no dead letter {letter_id}; list them with `stageflow letters list`")
