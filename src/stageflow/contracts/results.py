"""The results of a stage as a typed, lazily paged sequence."""

from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar, cast

from pydantic import ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.status import TaskStatus
from stageflow.errors import StageResultsInvalidError, TaskFailedError

R = TypeVar("R")

PAGE_SIZE: Final = 5000


class ResultRow(Contract):
    """One stored task result, as text.

    Attributes:
        result: The result model as JSON text, ``None`` where there is none.
    """

    task_index: int
    attempt: int
    status: TaskStatus
    result: str | None
    error_details: str | None


PageLoader = Callable[[int, int, bool], list[ResultRow]]
"""``load(first_index, limit, failed_only)``: the next rows in index order, from ``first_index`` on; fewer only at the end."""


class StageResults(Generic[R]):
    """The results of a stage's tasks in index order, read page by page; nothing wide is ever held in memory.

    Iteration gives the results of the tasks that completed. ``results[i]`` is the result of the task with index ``i``.
    ``len`` is the number of tasks that completed: where all did, this is a sequence.

    Raises (on access):
        StageResultsInvalidError: A stored result is not (or no longer) the stage's result model.
        TaskFailedError: ``results[i]`` of a task that failed, was skipped or was cancelled.
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
    ) -> None:
        self.stage_number: Final = stage_number
        self.task_count: Final = task_count
        self._model = model
        self._successful = successful_tasks
        self._load = load

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
            msg = f"task {index} of stage {self.stage_number} has no stored result; run `stageflow verify`"
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

    def _rows(self, *, failed_only: bool) -> Iterator[ResultRow]:
        first = 0
        while rows := self._load(first, PAGE_SIZE, failed_only):
            yield from rows
            if len(rows) < PAGE_SIZE:
                return
            first = rows[-1].task_index + 1

    def _result(self, row: ResultRow) -> R:
        if self._model is None:
            return cast("R", None)
        try:
            return cast("R", self._model.from_json(row.result or ""))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "the whole"
            msg = (
                f"stored result of task {row.task_index} of stage {self.stage_number} is no {self._model.__name__}: "
                f"{field}: {first['msg']}"
            )
            raise StageResultsInvalidError(msg) from error
