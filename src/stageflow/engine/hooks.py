"""The one place that calls a controller's hooks, and turns what goes wrong in them into one error."""

import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, Final, TypeVar

from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext
from stageflow.contracts.preview import preview, redact
from stageflow.contracts.task import TaskDefinition
from stageflow.errors import HookError, RetryableTaskError, StoreUnreachableError
from stageflow.workflow.current import current_job

T = TypeVar("T")

_LONGEST_ERROR: Final = 20_000
_END: Final = object()


class HookFailedError(HookError):
    """A hook raised; the message is its redacted traceback."""


class RetryPlanningError(HookError):
    """A planner raised ``RetryableTaskError``; the stage's planning retry decides."""

    def __init__(self, message: str, cause: RetryableTaskError) -> None:
        super().__init__(message)
        self.cause = cause


def call_hook(job: JobExecutionContext[Any], name: str, hook: Callable[[], T], expected: tuple[type, ...]) -> T:
    """Return what a hook returns, checked.

    Args:
        job: The job for which it is called.
        name: The hook, for messages.
        hook: The hook with its arguments bound.
        expected: The classes of which its answer must be one.

    Raises:
        HookFailedError: It raised, or returned something else.
    """
    try:
        with current_job(job):
            answer = hook()
    except BaseException as error:
        raise _failure(name, error) from error
    if not isinstance(answer, expected):
        wanted = " or ".join(kind.__name__ for kind in expected)
        msg = f"{name} must return {wanted}, it returned {type(answer).__name__}: {preview(answer)}; correct the hook"
        raise HookFailedError(msg)
    return answer


def read_plan(
    job: JobExecutionContext[Any],
    name: str,
    hook: Callable[[], Iterable[TaskDefinition[Any]]],
    *,
    stage_number: int,
    model: type[Contract],
    task_type: str,
) -> Iterator[TaskDefinition[Any]]:
    """Yield the task definitions that a planning hook yields, each checked; read it inside of ``current_job(job)``.

    Raises:
        HookFailedError: It raised, or yielded something that is no task of this stage.
        RetryPlanningError: It raised ``RetryableTaskError``.
    """
    identity = (job.job_id, job.job_type, stage_number, task_type)
    try:
        planned = iter(hook())
    except BaseException as error:
        raise _failure(name, error) from error
    for index in count():
        try:
            definition = next(planned, _END)
        except BaseException as error:
            raise _failure(name, error) from error
        if definition is _END:
            return
        yield _checked_definition(name, index, definition, identity=identity, model=model)


def error_text(error: BaseException) -> str:
    """Return an error with its traceback as text that may be stored and shown: secrets redacted, length bounded."""
    whole = "".join(traceback.format_exception(error))
    if len(whole) <= _LONGEST_ERROR:
        return _presentable(whole)
    # Redacted before it is cut to length, and first cut with a margin: a huge text costs little, half a secret is not shown.
    half, margin = _LONGEST_ERROR // 2, _LONGEST_ERROR * 2
    head, tail = _presentable(whole[:margin])[:half], _presentable(whole[-margin:])[-half:]
    return f"{head}\n… {len(whole) - _LONGEST_ERROR} characters left out …\n{tail}"


def let_interrupt_pass(error: BaseException) -> None:
    """Raise ``error`` again if it is a person's Ctrl-C, which says nothing about the code that it met.

    Python delivers it to the main thread only; in any other thread it was raised by that code.
    """
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def _presentable(text: str) -> str:
    return redact(text.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="backslashreplace").decode())


def _failure(name: str, error: BaseException) -> HookError:
    let_interrupt_pass(error)
    if isinstance(error, StoreUnreachableError):
        raise error  # the hook read results: it is not to blame, and is called again when the lease is recovered
    if isinstance(error, RetryableTaskError):
        return RetryPlanningError(error_text(error), error)
    return HookFailedError(f"{name} raised {type(error).__name__}: {error_text(error)}")


def _checked_definition(
    name: str,
    index: int,
    definition: object,
    *,
    identity: tuple[str, str, int, str],
    model: type[Contract],
) -> TaskDefinition[Any]:
    if not isinstance(definition, TaskDefinition):
        msg = (
            f"{name} must yield TaskDefinition, item {index} is {type(definition).__name__}: {preview(definition)}; "
            "wrap the parameters in TaskDefinition(...)"
        )
        raise HookFailedError(msg)
    stated = (definition.job_id, definition.job_type, definition.stage_number, definition.task_type)
    if stated != identity:
        _, _, stage_number, task_type = identity
        msg = f"{name}: item {index} is a task of {stated}, not of stage {stage_number}, type {task_type!r}, of this job"
        raise HookFailedError(msg)
    if definition.task_index not in (0, index):
        msg = f"{name}: item {index} says task_index {definition.task_index}; leave it out, planning order numbers the tasks"
        raise HookFailedError(msg)
    if type(definition.parameters) is not model:
        msg = (
            f"{name}: item {index} has parameters of type {type(definition.parameters).__name__}, "
            f"the task {definition.task_type!r} takes {model.__name__}"
        )
        raise HookFailedError(msg)
    return definition
