"""From which stages another run can go on."""

import pytest

from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.stage import NewStage, StageRecord
from stageflow.contracts.status import StageStatus
from stageflow.engine.resubmit import list_starts
from stageflow.testing.conformance.builders import NOON, job_id_of, new_stage

DONE, BAD, SKIPPED = StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.SKIPPED
PARTLY, CUT = StageStatus.COMPLETED_WITH_ERRORS, StageStatus.CANCELLED


def record(number: int, status: StageStatus, *, group: tuple[int, int] | None = None) -> StageRecord:
    """Return a stage as an ended run left it."""
    first, last = group or (number, number)
    return StageRecord(
        stage_id=number,
        job_id=job_id_of("job"),
        run=1,
        stage_number=number,
        generation=1,
        name=f"stage {number}",
        task_type="work",
        status=status,
        task_count=0,
        remaining=0,
        successful_tasks=0,
        failed_tasks=0,
        skipped_tasks=0,
        cancelled_tasks=0,
        halted=False,
        plan_digest="",
        group_first=first,
        group_last=last,
        stored_result=None if status is CUT else "{}",
        created_at=NOON,
        updated_at=NOON,
    )


@pytest.mark.parametrize(
    ("statuses", "starts"),
    [
        ([BAD], [1]),
        ([CUT], [1]),
        ([DONE, BAD], [1, 2]),
        ([PARTLY, CUT], [1, 2]),
        ([DONE, DONE, BAD], [1, 2, 3]),
        ([DONE, SKIPPED, BAD], [1, 3]),
        ([BAD, CUT], [1]),
    ],
)
def test_a_run_goes_on_from_what_was_opened_after_complete_stages(statuses: list[StageStatus], starts: list[int]) -> None:
    """The first stage always; never one that was skipped, and never one behind a hole."""
    assert list_starts([record(number, status) for number, status in enumerate(statuses, 1)]) == starts


def test_a_parallel_group_is_gone_on_from_as_a_whole() -> None:
    """Its first stage stands for it, also where only another of it failed; after it, where all of it completed."""
    group = [record(2, DONE, group=(2, 3)), record(3, BAD, group=(2, 3))]
    assert list_starts([record(1, DONE), *group]) == [1, 2]
    whole = [record(2, DONE, group=(2, 3)), record(3, PARTLY, group=(2, 3))]
    assert list_starts([record(1, DONE), *whole, record(4, BAD)]) == [1, 2, 4]


@pytest.mark.parametrize(
    "stages",
    [
        (new_stage(2, skipped=True),),
        (new_stage(2, group=(2, 3)),),
        (new_stage(1), new_stage(2)),
    ],
)
def test_a_new_run_opens_one_stage_or_one_group(stages: tuple[NewStage, ...]) -> None:
    """Anything else would open a run that cannot end."""
    with pytest.raises(ValueError, match="one stage or one whole parallel group"):
        NewRun(job_id=job_id_of("job"), former_run=1, stages=stages)
