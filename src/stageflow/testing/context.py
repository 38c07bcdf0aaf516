"""What handlers and planners are called with, for unit tests that need no store."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from stageflow.contracts.base import Contract, inline_json
from stageflow.contracts.context import JobExecutionContext, TaskExecutionContext, TaskHost
from stageflow.contracts.results import Combination, ResultRow, StageResults
from stageflow.contracts.stage import StageResultContract
from stageflow.contracts.status import TaskStatus
from stageflow.errors import HostMissingError, PredecessorMissingError

J = TypeVar("J", bound=Contract)
R = TypeVar("R", bound=Contract | None)

TEST_JOB_ID: Final = "0" * 64


class FixedHost(TaskHost):
    """What stands behind the context of a handler's unit test.

    Attributes:
        progress: What the handler said of its progress, in order.
    """

    def __init__(
        self, *, stopping: bool, predecessor: Contract | None, last_checkpoint: Contract | None, connection: object = None
    ) -> None:
        self._stopping = stopping
        self._connection = connection
        self._predecessor = predecessor
        self._checkpoint = None if last_checkpoint is None else last_checkpoint.to_json()
        self.progress: Final[list[tuple[float, float]]] = []

    @property
    def stopping(self) -> bool:
        """Whether the test says that the work is no longer wanted."""
        return self._stopping

    def note_progress(self, context: TaskExecutionContext, done: float, total: float) -> None:  # noqa: ARG002  as the port has it
        """Keep it."""
        self.progress.append((done, total))

    def read_predecessor(self, context: TaskExecutionContext) -> Contract:
        """Return what the test gave."""
        if self._predecessor is None:
            msg = f"task {context.task_index} has no predecessor in this test; pass one to task_context(predecessor=…)"
            raise PredecessorMissingError(msg)
        return self._predecessor

    def write_checkpoint(self, context: TaskExecutionContext, value: str) -> None:
        """Keep it, if a store would."""
        self._checkpoint = inline_json(value, f"the checkpoint of task {context.task_index} of stage {context.stage_number}")

    def read_checkpoint(self, context: TaskExecutionContext) -> str | None:  # noqa: ARG002  as the port has it
        """Return what was kept last."""
        return self._checkpoint

    def open_transaction(self, context: TaskExecutionContext) -> Any:
        """Return the connection that the test gave."""
        if self._connection is None:
            msg = (
                f"task {context.task_index} has no transaction in this test; pass a connection of your own to "
                "task_context(connection=…), such as sqlite3.connect(':memory:')"
            )
            raise HostMissingError(msg)
        return self._connection


def task_context(
    *,
    job_id: str = TEST_JOB_ID,
    job_type: str = "test_job",
    run: int = 1,
    stage_number: int = 1,
    task_index: int = 0,
    task_type: str = "test_task",
    attempt: int = 1,
    cancelled: bool = False,
    predecessor: Contract | None = None,
    last_checkpoint: Contract | None = None,
    connection: object = None,
) -> TaskExecutionContext:
    """Return the context with which a handler is called.

    Args:
        cancelled: The work is no longer wanted: ``context.cancelled`` is true and ``context.check()`` raises.
        predecessor: What ``context.predecessor()`` gives.
        last_checkpoint: What an earlier attempt stored by ``context.checkpoint()``.
        connection: What ``context.transaction()`` gives; nobody commits on it but the test.
    """
    return TaskExecutionContext(
        job_id=job_id,
        job_type=job_type,
        run=run,
        stage_number=stage_number,
        task_index=task_index,
        task_type=task_type,
        attempt=attempt,
        worker_id="test",
        signal=FixedHost(stopping=cancelled, predecessor=predecessor, last_checkpoint=last_checkpoint, connection=connection),
    )


def job_context(
    parameters: J,
    *,
    job_id: str = TEST_JOB_ID,
    job_type: str = "test_job",
    run: int = 1,
    total_stages: int = 1,
    results: Sequence[StageResultContract] = (),
) -> JobExecutionContext[J]:
    """Return the context with which a planner and the other hooks of a controller are called.

    Args:
        parameters: The job's parameters.
        results: The stored results of the stages that are closed.
    """
    model = cast("type[JobExecutionContext[J]]", JobExecutionContext.__class_getitem__(type(parameters)))
    return model(
        job_id=job_id,
        job_type=job_type,
        run=run,
        total_stages=total_stages,
        parameters=parameters,
        stage_results={result.stage_key: result for result in results},
    )


def stage_results(
    completed: Sequence[R],
    *,
    stage_number: int = 1,
    failed: Mapping[int, str] | None = None,
    combine: Callable[[R, R], R] | None = None,
) -> StageResults[R]:
    """Return the results of a closed stage, as a planner takes them.

    Args:
        completed: What the tasks that completed returned, in index order.
        stage_number: The stage.
        failed: Tasks that failed, by index, with their errors; the completed ones fill the indexes between.
        combine: What the stage declares under ``@….combine``, such as ``controller.add``; for ``combined()``.
    """
    errors = failed or {}
    total = len(completed) + len(errors)
    strangers = [index for index in errors if not 0 <= index < total]
    if strangers:
        msg = f"the stage has tasks 0 to {total - 1}, but failed names {strangers}; number {total} tasks from 0"
        raise ValueError(msg)
    following = iter(completed)
    rows = [_failed(index, errors[index]) if index in errors else _completed(index, next(following)) for index in range(total)]
    models = {type(result) for result in completed if result is not None}
    if len(models) > 1 or (models and None in completed):
        msg = "the results of a stage are all of one model, or all None; split them over two stages"
        raise ValueError(msg)

    def load(first_index: int, limit: int, failed_only: bool) -> list[ResultRow]:  # noqa: FBT001  the shape of a page loader
        found = [row for row in rows[first_index:] if not failed_only or row.status is TaskStatus.FAILED]
        return found[:limit]

    return StageResults(
        stage_number=stage_number,
        model=next(iter(models), None),
        task_count=total,
        successful_tasks=len(completed),
        load=load,
        combination=None if combine is None else Combination(combine, lambda _first_index, _limit: []),
    )


def _completed(index: int, result: Contract | None) -> ResultRow:
    text = None if result is None else result.to_json()
    return ResultRow(task_index=index, attempt=1, status=TaskStatus.COMPLETED, result=text, error_details=None)


def _failed(index: int, error: str) -> ResultRow:
    return ResultRow(task_index=index, attempt=1, status=TaskStatus.FAILED, result=None, error_details=error)
