"""Results combined while tasks finish, so that whoever closes the stage need not read them all (tree reduce)."""

from stageflow.contracts.base import INLINE_BYTES, Contract
from stageflow.contracts.partial import Combine, Partial
from stageflow.engine.hooks import let_interrupt_pass


class ResultFold:
    """Folds the results of a report as they come: one partial for each run of tasks none of which is retried.

    It sees tasks in index order, each once, from ``first`` on.

    A task that failed for good does not end a run, it is left out of it. A retried one does: its result comes in a later report
    and belongs in between, since ``combine`` is associative but need not commute.

    A partial only spares work. A run for which ``combine`` raises, or gives what cannot be stored (no instance of the result
    model, more than 1 MiB), has none; its results are stored all the same. Whoever closes the stage finds that the partials do
    not hold every result and folds those results in their place: what ``combine`` raises there fails the job. So an error in
    ``combine`` never fails a task, and never goes unseen.
    """

    def __init__(self, combine: Combine, first: int) -> None:
        self._combine = combine
        self._first = self._next = first
        self._successful = 0
        self._value: Contract | None = None
        self._spoilt = False
        self._partials: list[Partial] = []

    def add(self, result: Contract) -> None:
        """Fold in the result of the next task, which completed."""
        self._next += 1
        if self._spoilt:
            return
        try:
            self._value = result if self._value is None else self._combine(self._value, result)
        except BaseException as error:  # noqa: BLE001  raised again where the stage is closed, see above
            let_interrupt_pass(error)
            self._spoilt, self._value = True, None
        self._successful += 1

    def pass_over(self) -> None:
        """Leave out the next task, which failed."""
        self._next += 1

    def interrupt(self) -> None:
        """End the run before the next task, which is tried again."""
        self._end_run()
        self._next += 1
        self._first, self._successful, self._value, self._spoilt = self._next, 0, None, False

    def partials(self) -> list[Partial]:
        """Return the partials of all runs, in index order; the report is complete."""
        self._end_run()
        return self._partials

    def _end_run(self) -> None:
        text = self._value_text()
        if text is not None:
            self._partials.append(
                Partial(first=self._first, last=self._next, successful_tasks=self._successful, value=text),
            )

    def _value_text(self) -> str | None:
        if self._spoilt or self._value is None:
            return None
        try:
            text = self._value.to_json()
            return text if len(text.encode()) <= INLINE_BYTES else None
        except BaseException as error:  # noqa: BLE001  as in add: a partial only spares work
            let_interrupt_pass(error)
            return None
