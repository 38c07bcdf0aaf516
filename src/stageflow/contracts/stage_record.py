"""A stage as the store knows it."""

from pydantic import Field

from stageflow.contracts.base import LateContract, TypeName, UtcDatetime
from stageflow.contracts.ids import JobId
from stageflow.contracts.status import StageStatus


class StageRecord(LateContract):
    """A stage as the store knows it.

    Attributes:
        stage_id: Key of the stage's tasks and results within the store; of a stage that a new run took over, that of the
            former run's.
        task_count: Tasks planned so far.
        remaining: Tasks without a result.
        halted: The policy gave up; waiting tasks are skipped.
        plan_digest: Rolling digest over the tasks planned so far; empty before the first.
        group_first: First stage of the parallel group this one belongs to; itself where it runs alone.
        group_last: Last stage of that group.
        deadline: When the stage's own time is over; ``None`` where it has none, or is not being planned yet.
        stored_result: The stage result as stored (:class:`StageResultsFormatter`), ``None`` before the stage closed.
    """

    stage_id: int
    job_id: JobId
    run: int = Field(ge=1)
    stage_number: int = Field(ge=1)
    generation: int = Field(ge=1)
    name: str
    task_type: TypeName
    status: StageStatus
    task_count: int = Field(ge=0)
    remaining: int = Field(ge=0)
    successful_tasks: int = Field(ge=0)
    failed_tasks: int = Field(ge=0)
    skipped_tasks: int = Field(ge=0)
    cancelled_tasks: int = Field(ge=0)
    halted: bool
    plan_digest: str
    group_first: int = Field(ge=1)
    group_last: int = Field(ge=1)
    stored_result: str | None
    created_at: UtcDatetime
    updated_at: UtcDatetime
    deadline: UtcDatetime | None = None
