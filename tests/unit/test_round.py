"""A round of upkeep: no part of it keeps another from its turn."""

import pytest

from stageflow.engine.round import Round
from stageflow.errors import MalformedRowError, StoreStateError


def _stopped_by(error: Exception) -> int:
    raise error


def test_every_part_has_its_turn_and_the_first_trouble_is_raised() -> None:
    """Nothing is lost: the first trouble comes as it was, and the others are noted on it."""
    parts = Round()
    first, second = MalformedRowError("a row is odd"), StoreStateError("a state cannot be")
    assert parts.run(lambda: _stopped_by(first)) == 0
    assert parts.run(lambda: 3) == 3
    assert parts.run(lambda: _stopped_by(second)) == 0
    with pytest.raises(MalformedRowError) as caught:
        parts.end()
    assert caught.value is first
    assert first.__notes__ == ["Another part of the same round was stopped by StoreStateError: a state cannot be"]


def test_a_round_that_nothing_stopped_ends_in_peace() -> None:
    """Each part's count is passed on."""
    parts = Round()
    assert parts.run(lambda: 2) == 2
    parts.end()
