"""What has ended, and what the messages say may follow."""

import pytest

from stageflow.contracts.status import JobStatus, StageStatus, StatusValidator, TaskStatus
from stageflow.errors import InvalidTransitionError

_Status = JobStatus | StageStatus | TaskStatus
_OPEN: dict[type[_Status], set[_Status]] = {
    JobStatus: {JobStatus.QUEUED, JobStatus.PROCESSING, JobStatus.PAUSED},
    StageStatus: {StageStatus.PENDING, StageStatus.PLANNING, StageStatus.PROCESSING},
    TaskStatus: {TaskStatus.QUEUED, TaskStatus.PROCESSING},
}


@pytest.mark.parametrize(
    "status", [*JobStatus, *StageStatus, *TaskStatus], ids=lambda status: f"{type(status).__name__}-{status}"
)
def test_a_status_is_an_end_or_is_not(status: _Status) -> None:
    """An ended job may be repaired, and has ended all the same."""
    assert StatusValidator.is_terminal(status) is (status not in _OPEN[type(status)])


def test_a_forbidden_transition_names_what_is_allowed() -> None:
    """In the order of the alphabet, with the way by which it comes about for a job that has ended."""
    with pytest.raises(InvalidTransitionError, match=r"^JobStatus queued cannot become completed; allowed: "):
        StatusValidator.validate(JobStatus.QUEUED, JobStatus.COMPLETED)
    words = StatusValidator.describe_following(JobStatus.FAILED)
    assert "repair" in words
    assert "resubmit" in words
    assert "resubmit" not in StatusValidator.describe_following(JobStatus.COMPLETED)
    assert StatusValidator.describe_following(JobStatus.PROCESSING).split(", ") == sorted(
        StatusValidator.describe_following(JobStatus.PROCESSING).split(", ")
    )
