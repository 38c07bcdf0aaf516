"""A task: planned, stored, finished."""

from typing import Annotated, Generic, Self, TypeVar

from pydantic import AfterValidator, Field, SerializeAsAny, computed_field, model_validator

from stageflow.contracts.base import Contract, JsonObject, LateContract, TypeName, UtcDatetime
from stageflow.contracts.ids import JobId, TaskId, make_task_id
from stageflow.contracts.message import TaskQueueMessage
from stageflow.contracts.status import TERMINAL_TASK_STATUSES, TaskStatus

P = TypeVar("P", bound=Contract)


def _visible(key: str) -> str:
    if not key.strip() or "\0" in key:
        msg = f"a task key needs visible text without NUL, got {key!r}; leave it out or name the task"
        raise ValueError(msg)
    return key


class TaskDefinition(LateContract, Generic[P]):
    """What a controller plans; :meth:`to_task_record` and :meth:`to_queue_message` are the only ways onward.

    Attributes:
        task_index: Place in the stage, from 0, dense, in planning order. The engine numbers what
            ``create_stage_tasks`` yields, so authors leave it out.
        key: A name for people, unique in the stage, such as ``"12/654/1583"``.
        parameters: What the handler gets, an instance of the stage's parameter model.
    """

    job_id: JobId
    job_type: TypeName
    task_type: TypeName
    stage_number: int = Field(ge=1)
    task_index: int = Field(default=0, ge=0)
    key: Annotated[str, Field(max_length=500), AfterValidator(_visible)] | None = None
    parameters: SerializeAsAny[P]

    @computed_field  # type: ignore[prop-decorator]  # pydantic documents this order; mypy cannot type it
    @property
    def task_id(self) -> str:
        """``<job_id>-<stage_number>-<task_index>``."""
        return make_task_id(self.job_id, self.stage_number, self.task_index)

    def to_task_record(self, created_at: UtcDatetime) -> "TaskRecord":
        """Return the queued task that this definition stands for; every field is mapped."""
        return TaskRecord(
            task_id=self.task_id,
            parent_job_id=self.job_id,
            job_type=self.job_type,
            task_type=self.task_type,
            status=TaskStatus.QUEUED,
            stage=self.stage_number,
            task_index=self.task_index,
            key=self.key,
            parameters=self.parameters.model_dump(mode="json"),
            created_at=created_at,
            updated_at=created_at,
        )

    def to_queue_message(self) -> TaskQueueMessage:
        """Return the message that names this task and carries nothing else."""
        return TaskQueueMessage(
            job_id=self.job_id,
            job_type=self.job_type,
            task_type=self.task_type,
            stage_number=self.stage_number,
            first=self.task_index,
            last=self.task_index + 1,
        )


class TaskRecord(LateContract):
    """A task as the store knows it; its status is derived from its result, else from the range that holds it.

    Attributes:
        shelved: References to what of it lies in the blob store and was not loaded; previews stand here in its place.
    """

    task_id: TaskId
    parent_job_id: JobId
    job_type: TypeName
    task_type: TypeName
    status: TaskStatus
    stage: int = Field(ge=1)
    task_index: int = Field(ge=0)
    key: str | None = None
    parameters: JsonObject
    result_data: JsonObject | None = None
    metadata: JsonObject = Field(default_factory=dict)
    error_details: str | None = None
    attempt: int = Field(default=1, ge=1)
    heartbeat: UtcDatetime | None = None
    created_at: UtcDatetime
    updated_at: UtcDatetime
    shelved: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)

    @computed_field  # type: ignore[prop-decorator]  # pydantic documents this order; mypy cannot type it
    @property
    def retry_count(self) -> int:
        """Attempts after the first."""
        return self.attempt - 1

    @model_validator(mode="after")
    def _id_agrees_with_its_parts(self) -> Self:
        expected = make_task_id(self.parent_job_id, self.stage, self.task_index)
        if self.task_id != expected:
            msg = f"task_id {self.task_id} does not agree with job, stage and index; it must be {expected}"
            raise ValueError(msg)
        return self


class TaskResult(LateContract):
    """How a task ended.

    Attributes:
        execution_time_seconds: Time in the handler, of the last attempt.
        error_details: Why it did not complete; always set where it failed, never where it completed.
        shelved: The reference to a result that lies in the blob store and was not loaded; ``result_data`` is a preview then.
    """

    task_id: TaskId
    job_id: JobId
    stage_number: int = Field(ge=1)
    task_index: int = Field(ge=0)
    attempt: int = Field(default=1, ge=1)
    task_type: TypeName
    status: TaskStatus
    result_data: JsonObject | None = None
    error_details: str | None = None
    execution_time_seconds: float = Field(default=0.0, ge=0)
    completed_at: UtcDatetime
    shelved: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)

    @property
    def success(self) -> bool:
        """Whether the task completed."""
        return self.status is TaskStatus.COMPLETED

    @model_validator(mode="after")
    def _ended_and_says_why(self) -> Self:
        if self.status not in TERMINAL_TASK_STATUSES:
            msg = f"a task result needs a terminal status, got {self.status}; report it when the task has ended"
            raise ValueError(msg)
        if self.status is TaskStatus.FAILED and not self.error_details:
            msg = "a failed task result needs error_details; say why the task failed"
            raise ValueError(msg)
        if self.success and self.error_details is not None:
            msg = "a completed task result has no error_details; leave them out, or report the task as failed"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _id_agrees_with_its_parts(self) -> Self:
        expected = make_task_id(self.job_id, self.stage_number, self.task_index)
        if self.task_id != expected:
            msg = f"task_id {self.task_id} does not agree with job, stage and index; it must be {expected}"
            raise ValueError(msg)
        return self
