"""The one place that calls a controller's hooks, and turns what goes wrong in them into one error."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext
from stageflow.contracts.preview import preview, redact
from stageflow.contracts.task import TaskDefinition
from stageflow.errors import HookError, RetryableTaskError
from stageflow.workflow.current import current_job

T = TypeVar("T")

_LONGEST_ERROR: Final = 20_000


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
    with current_job(job), _failing_loudly(name):
        answer = hook()
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
    """Yield the task definitions that a planning hook yields, each checked.

    Raises:
        HookFailedError: It raised, or yielded something that is no task of this stage.
        RetryPlanningError: It raised ``RetryableTaskError``.
    """
    with current_job(job), _failing_loudly(name):
        planned = iter(hook())
    for index in _counting():
        with current_job(job), _failing_loudly(name):
            try:
                definition = next(planned)
            except StopIteration:
                return
        _check_definition(name, index, definition, job=job, stage_number=stage_number, model=model, task_type=task_type)
        yield definition


def error_text(error: BaseException) -> str:
    """Return an error with its traceback as text that may be stored and shown: secrets redacted, length bounded."""
    whole = "".join(traceback.format_exception(error)).replace("\0", "\N{SYMBOL FOR NULL}")
    text = redact(whole.encode(errors="backslashreplace").decode())
    if len(text) <= _LONGEST_ERROR:
        return text
    half = _LONGEST_ERROR // 2
    return f"{text[:half]}\n… {len(text) - _LONGEST_ERROR} characters left out …\n{text[-half:]}"


@contextmanager
def _failing_loudly(name: str) -> Iterator[None]:
    try:
        yield
    except StopIteration:
        raise
    except RetryableTaskError as error:
        raise RetryPlanningError(error_text(error), error) from error
    except (Exception, SystemExit) as error:
        # sys.exit in a hook fails its job like any other error; it must not end the worker's slot.
        msg = f"{name} raised {type(error).__name__}: {error_text(error)}"
        raise HookFailedError(msg) from error


def _counting() -> Iterator[int]:
    index = 0
    while True:
        yield index
        index += 1


def _check_definition(
    name: str,
    index: int,
    definition: object,
    *,
    job: JobExecutionContext[Any],
    stage_number: int,
    model: type[Contract],
    task_type: str,
) -> None:
    if not isinstance(definition, TaskDefinition):
        msg = (
            f"{name} must yield TaskDefinition, item {index} is {type(definition).__name__}: {preview(definition)}; "
            "wrap the parameters in TaskDefinition(...)"
        )
        raise HookFailedError(msg)
    identity = (definition.job_id, definition.job_type, definition.stage_number, definition.task_type)
    if identity != (job.job_id, job.job_type, stage_number, task_type):
        msg = f"{name}: item {index} is a task of {identity}, not of stage {stage_number} with task type {task_type!r}"
        raise HookFailedError(msg)
    if type(definition.parameters) is not model:
        msg = (
            f"{name}: item {index} has parameters of type {type(definition.parameters).__name__}, "
            f"the task {task_type!r} takes {model.__name__}"
        )
        raise HookFailedError(msg)
