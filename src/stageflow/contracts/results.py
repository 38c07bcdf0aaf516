"""The results of a stage as a typed, lazily paged sequence."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, Generic, TypeVar, cast

from pydantic import ValidationError

from stageflow.contracts.base import Contract, LateContract
from stageflow.contracts.damage import MEND_ROW
from stageflow.contracts.partial import Combine, Partial, PartialLoader
from stageflow.contracts.payload import is_reference
from stageflow.contracts.status import TaskStatus
from stageflow.contracts.validated import first_fault
from stageflow.errors import StageResultsInvalidError, TaskFailedError, WorkflowDefinitionError

R = TypeVar("R")

PAGE_SIZE: Final = 5000
FIRST_PAGE_SIZE: Final = 500
"""The first page is small, so that a planner begins early; each later one is twice the one before."""
PARTIALS_PAGE_SIZE: Final = 500


class ResultRow(LateContract):
    """One stored task result, as text.

    Attributes:
        result: The result model as JSON text, or a reference to it in the blob store; ``None`` where there is none.
    """

    task_index: int
    attempt: int
    status: TaskStatus
    result: str | None
    error_details: str | None


PageLoader = Callable[[int, int, bool], list[ResultRow]]
"""``load(first_index, limit, failed_only)``: the next rows in index order, from ``first_index`` on; fewer only at the end."""

PayloadLoader = Callable[[str, str], str]
"""``load(reference, what)``: the text of a payload in the blob store."""


def _no_payloads(reference: str, what: str) -> str:
    msg = f"{what} is {reference}, and nothing was given to load it with"
    raise StageResultsInvalidError(msg)


@dataclass(frozen=True)
class Combination:
    """How the results of a stage are combined, and where to read what workers combined of them already."""

    combine: Combine
    load: PartialLoader


class StageResults(Generic[R]):
    """The results of a stage's tasks in index order, read page by page; nothing wide is ever held in memory.

    Iteration gives the results of the tasks that completed. ``results[i]`` is the result of the task with index ``i``.
    ``len`` is the number of tasks that completed: where all did, this is a sequence.

    Raises (on access):
        StageResultsInvalidError: A stored result is not (or no longer) the stage's result model.
        TaskFailedError: ``results[i]`` of a task that failed, was skipped or was cancelled.
        PayloadUnreadableError: A result that is too large for a row is missing from the blob store, or altered.
        IndexError: ``results[i]`` beyond the stage.
    """

    def __init__(
        self,
        *,
        stage_number: int,
        model: type[Contract] | None,
        task_count: int,
        successful_tasks: int,
        load: PageLoader,
        combination: Combination | None = None,
        load_payload: PayloadLoader = _no_payloads,
    ) -> None:
        self.stage_number: Final = stage_number
        self.task_count: Final = task_count
        self._model = model
        self._successful = successful_tasks
        self._load = load
        self._combination = combination
        self._load_payload = load_payload
        self._combined: tuple[R | None] | None = None

    def __len__(self) -> int:
        """Return how many tasks completed."""
        return self._successful

    def __iter__(self) -> Iterator[R]:
        """Yield the results of the completed tasks in index order."""
        return (result for _, result in self.items())

    def __getitem__(self, task_index: int) -> R:
        """Return the result of the task with this index; negative indexes count from the end."""
        index = task_index + self.task_count if task_index < 0 else task_index
        if not 0 <= index < self.task_count:
            msg = f"stage {self.stage_number} has tasks 0 to {self.task_count - 1}, not {task_index}"
            raise IndexError(msg)
        failed_only = False
        rows = self._load(index, 1, failed_only)
        if not rows or rows[0].task_index != index:
            msg = f"task {index} of stage {self.stage_number} has no stored result; {MEND_ROW}"
            raise StageResultsInvalidError(msg)
        row = rows[0]
        if row.status is not TaskStatus.COMPLETED:
            msg = f"task {index} of stage {self.stage_number} is {row.status}: {row.error_details}; see failures()"
            raise TaskFailedError(msg)
        return self._result(row)

    def items(self) -> Iterator[tuple[int, R]]:
        """Yield task index and result of the completed tasks, in index order."""
        for row in self._rows(failed_only=False):
            if row.status is TaskStatus.COMPLETED:
                yield row.task_index, self._result(row)

    def failures(self) -> Iterator[ResultRow]:
        """Yield the tasks that failed, in index order, with their error."""
        return self._rows(failed_only=True)

    def combined(self) -> R | None:
        """Return the results of the completed tasks combined in index order, ``None`` where none completed.

        What a left fold of ``combine`` over all results gives; ``combine`` being associative, it is enough to fold the partials
        that workers stored with the results, one for each report of theirs. Results that are in no partial (``combine`` raised
        in the worker, or they were stored by hand) are read and folded in their place. A second call reads nothing.

        Raises:
            WorkflowDefinitionError: The stage declares no ``combine``.
            StageResultsInvalidError: A stored result or partial is not (or no longer) the stage's result model, or they do
                not add up to the tasks that completed.
            Exception: What ``combine`` raises.
        """
        combination = self._combination
        if combination is None:
            msg = (
                f"stage {self.stage_number} declares no combine; write @the_stage.combine above a method "
                "`def add(self, left: R, right: R) -> R` of its controller, where R is the result model of its task"
            )
            raise WorkflowDefinitionError(msg)
        if self._combined is None:
            pieces = self._pieces(combination)
            self._combined = (reduce(combination.combine, pieces, next(pieces, None)),)
        return self._combined[0]

    def _pieces(self, combination: Combination) -> Iterator[R]:
        """Yield what is to be folded, in index order: the partials, and between them the results that no partial holds.

        The partials are counted first, so that nothing is read between them where they hold every result: failed and skipped
        tasks leave gaps, too.
        """
        missing = self._successful - sum(partial.successful_tasks for partial in self._partials(combination))
        end = 0
        for partial in self._partials(combination):
            if missing > 0:
                for row in self._completed_between(end, partial.first):
                    missing -= 1
                    yield self._result(row)
            yield self._decode(partial.value, f"the combination of tasks [{partial.first}, {partial.last})")
            end = partial.last
        if missing > 0:
            for row in self._completed_between(end, self.task_count):
                missing -= 1
                yield self._result(row)
        if missing:
            msg = (
                f"results and partials of stage {self.stage_number} do not add up to its {self._successful} completed tasks "
                f"({-missing:+d}); rows of it were changed or deleted, restore them"
            )
            raise StageResultsInvalidError(msg)

    def _partials(self, combination: Combination) -> Iterator[Partial]:
        first = 0
        while partials := combination.load(first, PARTIALS_PAGE_SIZE):
            yield from partials
            if len(partials) < PARTIALS_PAGE_SIZE:
                return
            first = partials[-1].last

    def _completed_between(self, first: int, last: int) -> Iterator[ResultRow]:
        failed_only = False
        while first < last and (rows := self._load(first, min(PAGE_SIZE, last - first), failed_only)):
            yield from (row for row in rows if row.status is TaskStatus.COMPLETED and row.task_index < last)
            first = rows[-1].task_index + 1

    def _rows(self, *, failed_only: bool) -> Iterator[ResultRow]:
        first, limit = 0, FIRST_PAGE_SIZE
        while rows := self._load(first, limit, failed_only):
            yield from rows
            if len(rows) < limit:
                return
            first, limit = rows[-1].task_index + 1, min(2 * limit, PAGE_SIZE)

    def _result(self, row: ResultRow) -> R:
        if self._model is None:
            return cast("R", None)
        text, what = row.result or "", f"stored result of task {row.task_index}"
        if is_reference(text):
            text = self._load_payload(text, f"{what} of stage {self.stage_number}")
        return self._decode(text, what)

    def _decode(self, text: str, what: str) -> R:
        model: Any = self._model
        try:
            result: R = model.from_json(text)
        except ValidationError as error:
            msg = f"{what} of stage {self.stage_number} is no {model.__name__}: {first_fault(error)}"
            raise StageResultsInvalidError(msg) from error
        return result
