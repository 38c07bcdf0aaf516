"""What operators do to a task type: limit it, pause it, and take that back."""

from pydantic import ValidationError

from stageflow.contracts.limits import TaskTypeLimit, TaskTypeState
from stageflow.contracts.preview import preview
from stageflow.errors import InvalidValueError
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.workflow.registry import JobRegistry


def limit_task_type(
    repositories: Repositories,
    telemetry: Telemetry,
    registry: JobRegistry,
    *,
    job_type: str,
    task_type: str,
    max_running: int | None,
    max_per_second: float | None,
) -> TaskTypeState:
    """Let limits hold for a task type, whatever is declared, until that is taken back.

    Raises:
        InvalidValueError: A limit is out of range, or a name is none; nothing changed.
    """
    limit = _checked(job_type=job_type, task_type=task_type, max_running=max_running, max_per_second=max_per_second)
    _require_known(limit, repositories, registry)
    repositories.limits.limit_task_type(limit)
    telemetry.emit(
        "task_type_limited",
        job_type=job_type,
        task_type=task_type,
        max_running=limit.max_running,
        max_per_second=limit.max_per_second,
    )
    return _state(limit, repositories)


def reset_task_type(
    repositories: Repositories, telemetry: Telemetry, registry: JobRegistry, *, job_type: str, task_type: str
) -> TaskTypeState:
    """Take an operator's limits back: what is declared holds again.

    Raises:
        InvalidValueError: A name is none, or nobody knows it; nothing changed.
    """
    limit = _checked(job_type=job_type, task_type=task_type)
    _require_known(limit, repositories, registry)
    repositories.limits.reset_task_type(job_type, task_type)
    telemetry.emit("task_type_reset", job_type=job_type, task_type=task_type)
    return _state(limit, repositories)


def pause_task_type(
    repositories: Repositories, telemetry: Telemetry, registry: JobRegistry, *, job_type: str, task_type: str
) -> TaskTypeState:
    """Let nothing of a task type start any more; what runs may end, and is recorded.

    Raises:
        InvalidValueError: A name is none, or nobody knows it; nothing changed.
    """
    limit = _checked(job_type=job_type, task_type=task_type)
    _require_known(limit, repositories, registry)
    repositories.limits.pause_task_type(job_type, task_type)
    telemetry.emit("task_type_paused", job_type=job_type, task_type=task_type)
    return _state(limit, repositories)


def resume_task_type(
    repositories: Repositories, telemetry: Telemetry, registry: JobRegistry, *, job_type: str, task_type: str
) -> TaskTypeState:
    """Let a paused task type go on; one that is not paused stays as it is.

    Raises:
        InvalidValueError: A name is none, or nobody knows it; nothing changed.
    """
    limit = _checked(job_type=job_type, task_type=task_type)
    _require_known(limit, repositories, registry)
    repositories.limits.resume_task_type(job_type, task_type)
    telemetry.emit("task_type_resumed", job_type=job_type, task_type=task_type)
    return _state(limit, repositories)


def list_task_types(repositories: Repositories, registry: JobRegistry) -> list[TaskTypeState]:
    """Return the task types that the store or the registry knows, by name."""
    states = {(state.job_type, state.task_type): state for state in repositories.limits.list_task_types()}
    for limit in registry.limits():
        if (limit.job_type, limit.task_type) not in states:
            states[limit.job_type, limit.task_type] = TaskTypeState(job_type=limit.job_type, task_type=limit.task_type)
    return [states[key] for key in sorted(states)]


def _checked(
    *, job_type: str, task_type: str, max_running: int | None = None, max_per_second: float | None = None
) -> TaskTypeLimit:
    try:
        return TaskTypeLimit(job_type=job_type, task_type=task_type, max_running=max_running, max_per_second=max_per_second)
    except ValidationError as error:
        first = error.errors()[0]
        msg = f"{first['loc'][0]}: {first['msg']}, got {preview(first['input'])}; nothing changed, correct it"
        raise InvalidValueError(msg) from error


def _require_known(limit: TaskTypeLimit, repositories: Repositories, registry: JobRegistry) -> None:
    """Refuse a name that neither code nor store knows: it is most likely misspelt, and would limit nothing."""
    known = {f"{state.job_type}/{state.task_type}" for state in list_task_types(repositories, registry)}
    if known and limit.scope not in known:
        msg = (
            f"no task type {limit.scope!r} is registered or has work; nothing changed. Known: {', '.join(sorted(known))}. "
            "Correct the name, or name the workflows with --app"
        )
        raise InvalidValueError(msg)


def _state(limit: TaskTypeLimit, repositories: Repositories) -> TaskTypeState:
    for state in repositories.limits.list_task_types():
        if (state.job_type, state.task_type) == (limit.job_type, limit.task_type):
            return state
    return TaskTypeState(job_type=limit.job_type, task_type=limit.task_type)
