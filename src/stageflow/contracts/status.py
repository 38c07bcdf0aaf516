"""The states of jobs, stages and tasks, and the one table of transitions between them."""

from enum import StrEnum
from typing import Final, TypeVar

from stageflow.contracts.preview import preview
from stageflow.errors import ContractViolationError, InvalidTransitionError, MalformedRowError


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    PAUSED = "paused"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StageStatus(StrEnum):
    """Where a stage stands."""

    PENDING = "pending"
    PLANNING = "planning"
    PROCESSING = "processing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class TaskStatus(StrEnum):
    """Where a task stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


Status = JobStatus | StageStatus | TaskStatus
S = TypeVar("S", JobStatus, StageStatus, TaskStatus)

JOB_TRANSITIONS: Final[dict[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.QUEUED: frozenset({JobStatus.PROCESSING, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.PROCESSING: frozenset(
        {
            JobStatus.PAUSED,
            JobStatus.COMPLETED,
            JobStatus.COMPLETED_WITH_ERRORS,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
        }
    ),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.PROCESSING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.COMPLETED: frozenset({JobStatus.QUEUED}),
    JobStatus.COMPLETED_WITH_ERRORS: frozenset({JobStatus.QUEUED}),
    JobStatus.FAILED: frozenset({JobStatus.QUEUED}),
    JobStatus.CANCELLED: frozenset({JobStatus.QUEUED}),
}

STAGE_TRANSITIONS: Final[dict[StageStatus, frozenset[StageStatus]]] = {
    StageStatus.PENDING: frozenset(
        {StageStatus.PLANNING, StageStatus.FAILED, StageStatus.SKIPPED, StageStatus.CANCELLED},
    ),
    StageStatus.PLANNING: frozenset(
        {StageStatus.PROCESSING, StageStatus.FAILED, StageStatus.SKIPPED, StageStatus.CANCELLED},
    ),
    StageStatus.PROCESSING: frozenset(
        {
            StageStatus.COMPLETED,
            StageStatus.COMPLETED_WITH_ERRORS,
            StageStatus.FAILED,
            StageStatus.SKIPPED,
            StageStatus.CANCELLED,
        }
    ),
    StageStatus.COMPLETED: frozenset(),
    StageStatus.COMPLETED_WITH_ERRORS: frozenset(),
    StageStatus.FAILED: frozenset(),
    StageStatus.SKIPPED: frozenset(),
    StageStatus.CANCELLED: frozenset(),
}

TASK_TRANSITIONS: Final[dict[TaskStatus, frozenset[TaskStatus]]] = {
    TaskStatus.QUEUED: frozenset({TaskStatus.PROCESSING, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED}),
    TaskStatus.PROCESSING: frozenset(
        {TaskStatus.QUEUED, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED},
    ),
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.FAILED: frozenset(),
    TaskStatus.SKIPPED: frozenset(),
    TaskStatus.CANCELLED: frozenset(),
}

TERMINAL_JOB_STATUSES: Final = frozenset(
    {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS, JobStatus.FAILED, JobStatus.CANCELLED}
)
"""A job with one of these has ended: nothing moves it by itself, and only a repair or a resubmission leaves it."""
TERMINAL_STAGE_STATUSES: Final = frozenset(status for status, following in STAGE_TRANSITIONS.items() if not following)
TERMINAL_TASK_STATUSES: Final = frozenset(status for status, following in TASK_TRANSITIONS.items() if not following)


_NOTHING: Final = "nothing, it is terminal"
_BY_REPAIR: Final = "by repair of one of its stages; to do all of the work again, submit it as another job (new_run)"
_BY_EITHER: Final = "by resubmit, or by repair of one of its stages"


class StatusValidator:
    """Answers whether one status may follow another; the SQL guards are tested equal to it.

    The same status again is allowed and changes nothing. A terminal status is never left, but by the repair of a stage
    or the resubmission of a failed or cancelled job, which queue the job with a run of its own.
    """

    @staticmethod
    def may_follow(current: S, new_status: S) -> bool:
        """Return whether ``new_status`` may follow ``current``.

        Raises:
            ContractViolationError: They are not two statuses of one kind.
        """
        if type(new_status) is not type(current):
            raise _no_status(new_status, parameter="new_status", expected=type(current).__name__)
        return new_status in _following(current) or new_status is current

    @staticmethod
    def validate(current: S, new_status: S) -> None:
        """Do nothing if ``new_status`` may follow ``current``.

        Raises:
            ContractViolationError: They are not two statuses of one kind.
            InvalidTransitionError: It may not; the message names what may.
        """
        if StatusValidator.may_follow(current, new_status):
            return
        allowed = StatusValidator.describe_following(current)
        msg = f"{type(current).__name__} {current} cannot become {new_status}; allowed: {allowed}"
        raise InvalidTransitionError(msg)

    @staticmethod
    def describe_following(status: Status) -> str:
        """Return in words what may follow ``status``."""
        following = ", ".join(sorted(_following(status)))
        if not following:
            return _NOTHING
        if not StatusValidator.is_terminal(status):
            return following
        return f"{following}, {_BY_EITHER if status in {JobStatus.FAILED, JobStatus.CANCELLED} else _BY_REPAIR}"

    @staticmethod
    def is_terminal(status: Status) -> bool:
        """Return whether what has ``status`` has ended: nothing follows but, for a job, a repair or a resubmission."""
        match status:
            case JobStatus():
                return status in TERMINAL_JOB_STATUSES
            case _:
                return not _following(status)

    @staticmethod
    def require_no_revival(current: JobStatus, new_status: JobStatus) -> None:
        """Do nothing unless a job that has ended would get another status.

        Raises:
            InvalidTransitionError: It would; the message names what also opens the new run.
        """
        if current in TERMINAL_JOB_STATUSES and new_status is not current:
            msg = f"JobStatus {current} becomes {new_status} by resubmit or repair only, which opens a run of its own; use that"
            raise InvalidTransitionError(msg)


def _following(status: Status) -> frozenset[JobStatus] | frozenset[StageStatus] | frozenset[TaskStatus]:
    match status:
        case JobStatus():
            return JOB_TRANSITIONS[status]
        case StageStatus():
            return STAGE_TRANSITIONS[status]
        case TaskStatus():
            return TASK_TRANSITIONS[status]
        case _:
            raise _no_status(status, parameter="status", expected="JobStatus, StageStatus or TaskStatus")


def _no_status(value: object, *, parameter: str, expected: str) -> ContractViolationError:
    actual = type(value).__name__
    return ContractViolationError(
        f"StatusValidator: {parameter} must be {expected}, got {actual}: {preview(value)}; pass the enum, not its text",
        function="StatusValidator",
        parameter=parameter,
        expected=expected,
        actual=actual,
        path=parameter,
        preview=preview(value),
    )


E = TypeVar("E", bound=StrEnum)


def status_from_text(kind: type[E], text: str) -> E:
    """Turn stored text into its enum.

    Raises:
        MalformedRowError: The text is no value of the enum; the message names those that are.
    """
    try:
        return kind(text)
    except ValueError as error:
        valid = ", ".join(kind)
        msg = f"{text!r} is no {kind.__name__}; valid: {valid}; correct the row, or install the stageflow that wrote it"
        raise MalformedRowError(msg) from error
