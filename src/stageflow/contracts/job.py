"""A job: submitted, stored, answered."""

import json
from datetime import datetime
from typing import Final, Self

from pydantic import Field, computed_field, model_validator

from stageflow.contracts.base import JsonObject, LateContract, TypeName, UtcDatetime
from stageflow.contracts.damage import StandIn, nearest_time, nothing
from stageflow.contracts.ids import JobId
from stageflow.contracts.stage import NewStage, StageDefinition, StageResultContract
from stageflow.contracts.status import JobStatus, StatusValidator
from stageflow.contracts.task import TaskResult

MOST_TIMEOUT_SECONDS: Final = 315_360_000.0
"""The longest timeout of a job or stage, ten years."""


class WorkflowDefinition(LateContract):
    """A workflow as registered: what a store and a person need to know of it, without its code.

    Attributes:
        version: Raised by the author when old and new workers must not share jobs.
        parameters_model: Qualified name of the model of the job's parameters.
    """

    job_type: TypeName
    version: int = Field(default=1, ge=1)
    stages: tuple[StageDefinition, ...] = Field(min_length=1)
    parameters_model: str

    @computed_field  # type: ignore[prop-decorator]  # pydantic documents this order; mypy cannot type it
    @property
    def total_stages(self) -> int:
        """How many stages there are."""
        return len(self.stages)

    def stage(self, stage_number: int) -> StageDefinition:
        """Return the stage with this number, from 1."""
        return self.stages[stage_number - 1]

    def new_stage(
        self,
        stage_number: int,
        *,
        group: tuple[int, int] | None = None,
        skipped: bool = False,
    ) -> NewStage:
        """Return what the store needs to open a stage, alone or in a parallel group (first and last number)."""
        stage = self.stage(stage_number)
        first, last = group or (stage_number, stage_number)
        return NewStage(
            stage_number=stage_number,
            name=stage.name,
            task_type=stage.task_type,
            fail_fast=stage.policy.fail_fast,
            minimum_success_rate=stage.policy.minimum_success_rate,
            group_first=first,
            group_last=last,
            skipped=skipped,
        )


class JobRecord(LateContract):
    """A job as the store knows it.

    Attributes:
        stage: The current stage, from 1.
        stage_results: Results of the closed stages of the present run, under ``"1"``, ``"2"``, ….
        run: Raised by every resubmission.
        not_before: Nothing of the job starts earlier, by the store's clock.
        deadline: When the present run ends as failed if it has not ended before, by the store's clock.
        timeout_seconds: How long a run may take, from its start on; with the start its end becomes the deadline.
        priority: Higher is claimed first.
        damage: What of the job cannot be read, as a sentence: of its row, which is left empty here, where jobs are listed or
            their status is changed; of the blob store, a preview here, where one asks how a job is. Whoever works from a job's
            contents is refused.
        shelved: References to what of it lies in the blob store and was not loaded; previews stand here in its place. Not
            part of the record's JSON.
    """

    job_id: JobId
    job_type: TypeName
    workflow_version: int = Field(default=1, ge=1)
    status: JobStatus
    run: int = Field(default=1, ge=1)
    stage: int = Field(default=1, ge=1)
    total_stages: int = Field(ge=1)
    parameters: JsonObject
    stage_results: dict[str, StageResultContract] = Field(default_factory=dict)
    metadata: JsonObject = Field(default_factory=dict)
    result_data: JsonObject | None = None
    error_details: str | None = None
    idempotency_key: str = ""
    priority: int = Field(default=0, ge=-1000, le=1000)
    not_before: UtcDatetime | None = None
    deadline: UtcDatetime | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, le=MOST_TIMEOUT_SECONDS)
    created_at: UtcDatetime
    updated_at: UtcDatetime
    damage: str | None = None
    shelved: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)

    @model_validator(mode="after")
    def _stage_numbers_agree(self) -> Self:
        if self.stage > self.total_stages:
            msg = f"stage {self.stage} is beyond total_stages {self.total_stages}"
            raise ValueError(msg)
        for key, result in self.stage_results.items():
            if key != result.stage_key:
                right = result.stage_key
                msg = f"stage_results[{key!r}] holds the result of stage {result.stage_number}; its key must be {right!r}"
                raise ValueError(msg)
        return self

    @classmethod
    def from_new_job(cls, job: "NewJob", created_at: UtcDatetime) -> Self:
        """Return the queued job that a store makes of ``job``."""
        return cls(
            job_id=job.job_id,
            job_type=job.job_type,
            workflow_version=job.workflow_version,
            status=JobStatus.QUEUED,
            total_stages=job.total_stages,
            parameters=json.loads(job.parameters),
            metadata=job.metadata,
            idempotency_key=job.idempotency_key,
            priority=job.priority,
            not_before=job.not_before,
            deadline=job.deadline,
            timeout_seconds=job.timeout_seconds,
            created_at=created_at,
            updated_at=created_at,
        )

    @property
    def scheduled_for(self) -> datetime | None:
        """The fire time that the job stands for; ``None`` where no schedule made it."""
        if "scheduled_for" not in self.metadata:
            return None
        return datetime.fromisoformat(str(self.metadata["scheduled_for"]))

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return StatusValidator.is_terminal(self.status)


JOB_STAND_INS: Final[dict[str, StandIn]] = {
    "not_before": nothing,
    "deadline": nothing,
    "timeout_seconds": nothing,
    "created_at": nearest_time,
    "updated_at": nearest_time,
}
"""For each field of a listed job that need not be readable; its JSON objects are seen to before."""


class NewJob(LateContract):
    """A job to be created, with its first stage.

    Attributes:
        parameters: The validated parameters as JSON text.
        max_running: The most of its tasks that run at once; ``None`` for no limit.
    """

    job_id: JobId
    job_type: TypeName
    workflow_version: int = Field(default=1, ge=1)
    total_stages: int = Field(ge=1)
    parameters: str
    metadata: JsonObject = Field(default_factory=dict)
    idempotency_key: str = ""
    priority: int = Field(default=0, ge=-1000, le=1000)
    not_before: UtcDatetime | None = None
    max_running: int | None = Field(default=None, ge=1, le=1000)
    deadline: UtcDatetime | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, le=MOST_TIMEOUT_SECONDS)
    first_stage: NewStage


class CreatedJobs(LateContract):
    """The answer of ``create_jobs``.

    Attributes:
        created: For each job asked for, ``False`` where its id existed already.
        created_at: The store's time, which is that of every job created now.
    """

    created: list[bool]
    created_at: UtcDatetime


class JobUpdate(LateContract):
    """Changes to a job besides its status; ``None`` leaves a field alone."""

    metadata: JsonObject | None = None
    result_data: JsonObject | None = None
    error_details: str | None = None


class TaskUpdate(LateContract):
    """What goes with an operator's change of a task's status; ``None`` leaves a field alone."""

    error_details: str | None = None


class JobEnding(LateContract):
    """How a job is to end without finishing its stages: failed or cancelled.

    Attributes:
        range_id: The control range whose holder decides this, with its ``token``; both ``None`` for an operator.
        stage_result: Stored result of the stage that closed last, if it closed now.
    """

    job_id: JobId
    status: JobStatus
    error_details: str | None
    range_id: int | None = None
    token: int | None = None
    stage_id: int | None = None
    stage_status: str | None = None
    stage_result: str | None = None


class JobResult(LateContract):
    """The answer of a job that has ended.

    Attributes:
        damage: What of the job cannot be read from the blob store, as a sentence; a job that succeeded has its results.
    """

    job_id: JobId
    job_type: TypeName
    status: JobStatus
    run: int = Field(ge=1)
    total_stages: int = Field(ge=1)
    total_tasks: int = Field(ge=0)
    successful_tasks: int = Field(ge=0)
    failed_tasks: int = Field(ge=0)
    stage_results: dict[str, StageResultContract]
    result_data: JsonObject | None
    error_details: str | None
    damage: str | None = None
    created_at: UtcDatetime
    completed_at: UtcDatetime


class JobClosing(LateContract):
    """A job is to be ended whose last stage is finished, under the lease on its advancement; or, without a lease, looked at.

    Attributes:
        range_id: The lease, with its ``token``; both ``None`` to look only.
        stage_id: The last stage, if it is to be closed too.
        stage_result: Its result as stored text.
        result_data: The job's answer as JSON text.
        skipped: Stages that are skipped because the job ends early.
    """

    job_id: JobId
    range_id: int | None = None
    token: int | None = None
    stage_id: int | None = None
    stage_status: str | None = None
    stage_result: str | None = None
    result_data: str | None = None
    skipped: list[NewStage] = Field(default_factory=list)


class JobCompletionResult(LateContract):
    """The answer to one :class:`JobClosing`.

    Attributes:
        job_complete: Whether every stage of the job's present run is closed.
        job_updated: Whether this call ended the job.
        final_stage: The highest stage that is closed; 0 before the first.
        total_tasks: Tasks over all closed stages.
        task_results: Of the final stage only, up to the first 1,000, where the call only looked; a call that writes reads none.
    """

    job_id: JobId
    job_complete: bool
    job_updated: bool
    status: JobStatus
    final_stage: int = Field(ge=0)
    total_tasks: int = Field(ge=0)
    successful_tasks: int = Field(ge=0)
    failed_tasks: int = Field(ge=0)
    task_results: list[TaskResult] = Field(default_factory=list)
