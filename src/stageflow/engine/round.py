"""One round of upkeep: each part has its turn, whatever became of those before it, and no trouble is lost."""

from collections.abc import Callable


class Round:
    """Runs the parts of a round, and raises what stopped one of them when all have had their turn."""

    def __init__(self) -> None:
        self._troubles: list[Exception] = []

    def run(self, part: Callable[[], int]) -> int:
        """Return what a part counts; 0 where it was stopped, which :meth:`end` raises."""
        try:
            return part()
        except Exception as error:  # noqa: BLE001  raised at the end of the round
            self._troubles.append(error)
            return 0

    def end(self) -> None:
        """Raise what stopped the first part that was stopped, with a note about each of the others."""
        if not self._troubles:
            return
        first, *others = self._troubles
        for other in others:
            first.add_note(f"Another part of the same round was stopped by {type(other).__name__}: {other}")
        raise first
