"""A stage: declared, stored, closed."""

from collections import Counter
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Self

from pydantic import Field, ValidationError, computed_field, model_validator
from pydantic_core import PydanticSerializationError

from stageflow.contracts.base import Contract, JsonObject, TypeName, UtcDatetime, checked_json
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.ids import JobId, stage_key
from stageflow.contracts.lease import Lease
from stageflow.contracts.orchestration import OrchestrationDataContract
from stageflow.contracts.retry import NO_RETRY, RetryPolicy
from stageflow.contracts.status import TERMINAL_STAGE_STATUSES, StageStatus, TaskStatus
from stageflow.contracts.task import TaskResult
from stageflow.errors import InvalidValueError, StageResultsInvalidError

HYDRATED_RESULTS: Final = 1000
"""Up to this many task results travel inside a stage result; wider stages are read through ``StageResults``."""

_PERCENT: Final = 100.0


class FailureMode(StrEnum):
    """How many tasks of a stage must succeed."""

    ALL = "all"
    ANY = "any"
    RATE = "rate"


class FailurePolicy(Contract):
    """When a stage with failed tasks lets the job go on.

    Attributes:
        minimum_success_rate: Percent of the tasks that must complete; only with ``RATE``. The stage halts as soon as the
            rate is out of reach.
        fail_fast: Halt at the first final failure; only with ``ALL``. A halted stage skips its waiting tasks.
    """

    mode: FailureMode = FailureMode.ALL
    minimum_success_rate: float | None = Field(default=None, ge=0, le=100)
    fail_fast: bool = False

    @model_validator(mode="after")
    def _fields_fit_the_mode(self) -> Self:
        if (self.mode is FailureMode.RATE) != (self.minimum_success_rate is not None):
            msg = "minimum_success_rate goes with mode RATE and nothing else; use FailurePolicy.at_least(percent)"
            raise ValueError(msg)
        if self.fail_fast and self.mode is not FailureMode.ALL:
            msg = f"fail_fast contradicts mode {self.mode}, which lets failures pass; drop one of them"
            raise ValueError(msg)
        return self

    @classmethod
    def all_must_succeed(cls, *, fail_fast: bool = False) -> Self:
        """Every task must complete; failures are collected unless ``fail_fast``."""
        return cls(mode=FailureMode.ALL, fail_fast=fail_fast)

    @classmethod
    def any_may_fail(cls) -> Self:
        """One completed task is enough."""
        return cls(mode=FailureMode.ANY)

    @classmethod
    def at_least(cls, percent: float) -> Self:
        """At least ``percent`` (0-100) of the tasks must complete."""
        return cls(mode=FailureMode.RATE, minimum_success_rate=float(percent))

    def passes(self, *, successful: int, total: int) -> bool:
        """Return whether a stage with these counts lets the job go on. A stage without tasks always does."""
        if total == 0:
            return True
        if self.minimum_success_rate is not None:
            return successful * _PERCENT >= self.minimum_success_rate * total
        return successful == total if self.mode is FailureMode.ALL else successful > 0


class StageDefinition(Contract):
    """A stage as declared on a controller.

    Attributes:
        after: Stages whose results the planner takes; empty for a first stage.
        retry: Policy for the stage's tasks.
        planning_retry: Policy for the planner, when it raises ``RetryableTaskError``.
        may_skip: The planner takes ``None`` where the stage before was skipped.
        plan_atomically: Tasks may be claimed only when all are planned; for planners that are not deterministic.
    """

    number: int = Field(ge=1)
    name: str = Field(min_length=1, max_length=100)
    task_type: TypeName
    after: tuple[int, ...] = ()
    policy: FailurePolicy = FailurePolicy()
    retry: RetryPolicy = RetryPolicy()
    planning_retry: RetryPolicy = NO_RETRY
    may_skip: bool = False
    plan_atomically: bool = False


class StageRecord(Contract):
    """A stage as the store knows it.

    Attributes:
        stage_id: Key of the stage within the store.
        task_count: Tasks planned so far.
        remaining: Tasks without a result.
        halted: The policy gave up; waiting tasks are skipped.
        plan_digest: Rolling digest over the tasks planned so far; empty before the first.
        group_first: First stage of the parallel group this one belongs to; itself where it runs alone.
        group_last: Last stage of that group.
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


class NewStage(Contract):
    """A stage that a job's start or advancement opens.

    Attributes:
        skipped: Stored as skipped, with a result and no tasks, instead of being planned.
    """

    stage_number: int = Field(ge=1)
    name: str = Field(min_length=1, max_length=100)
    task_type: TypeName
    fail_fast: bool = False
    minimum_success_rate: float | None = None
    group_first: int = Field(ge=1)
    group_last: int = Field(ge=1)
    skipped: bool = False


class StageResultContract(Contract):
    """What a finished stage left: its counts always, its task results up to :data:`HYDRATED_RESULTS`.

    Attributes:
        success_rate: Completed tasks in percent (0-100); 100 for a stage without tasks.
        task_results: In index order; empty where ``results_paged``.
        results_paged: The stage is too wide for ``task_results``; read them through ``StageResults``.
    """

    stage_number: int = Field(ge=1)
    status: StageStatus
    task_count: int = Field(ge=0)
    successful_tasks: int = Field(ge=0)
    failed_tasks: int = Field(ge=0)
    skipped_tasks: int = Field(default=0, ge=0)
    cancelled_tasks: int = Field(default=0, ge=0)
    success_rate: float = Field(ge=0, le=100)
    task_results: list[TaskResult] = Field(default_factory=list)
    results_paged: bool = False
    completed_at: UtcDatetime
    metadata: JsonObject = Field(default_factory=dict)
    orchestration: OrchestrationDataContract | None = None

    @computed_field  # type: ignore[prop-decorator]  # pydantic documents this order; mypy cannot type it
    @property
    def stage_key(self) -> str:
        """The key under which a job's stored results hold this one."""
        return stage_key(self.stage_number)

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if self.status not in TERMINAL_STAGE_STATUSES:
            msg = f"a stage result needs a terminal status, got {self.status}"
            raise ValueError(msg)
        total = self.successful_tasks + self.failed_tasks + self.skipped_tasks + self.cancelled_tasks
        if total != self.task_count:
            msg = f"task_count is {self.task_count} but the four counts add up to {total}"
            raise ValueError(msg)
        rate = _rate(self.successful_tasks, self.task_count)
        if abs(rate - self.success_rate) > 1e-6:  # noqa: PLR2004  rounding of a percentage, not a setting
            msg = f"success_rate is {self.success_rate} but the counts give {rate}"
            raise ValueError(msg)
        if self.results_paged:
            if self.task_results:
                msg = "a paged stage result carries no task_results; read them through StageResults"
                raise ValueError(msg)
            return self
        return self._results_agree()

    def _results_agree(self) -> Self:
        if len(self.task_results) != self.task_count:
            msg = f"task_count is {self.task_count} but there are {len(self.task_results)} task_results"
            raise ValueError(msg)
        counted = Counter(result.status for result in self.task_results)
        claimed = _counts(self.successful_tasks, self.failed_tasks, self.skipped_tasks, self.cancelled_tasks)
        if counted != claimed:
            msg = f"the counts say {dict(claimed)} but the task_results say {dict(counted)}"
            raise ValueError(msg)
        strangers = {result.stage_number for result in self.task_results} - {self.stage_number}
        if strangers:
            msg = f"task_results of stages {sorted(strangers)} in the result of stage {self.stage_number}"
            raise ValueError(msg)
        jobs = {result.job_id for result in self.task_results}
        if len(jobs) > 1:
            msg = f"task_results of {len(jobs)} jobs in the result of stage {self.stage_number}; a stage belongs to one"
            raise ValueError(msg)
        twice = [index for index, times in Counter(each.task_index for each in self.task_results).items() if times > 1]
        if twice:
            msg = f"tasks {twice[:10]} are there twice among the task_results; give each task one result"
            raise ValueError(msg)
        return self

    @classmethod
    @enforce_contract(params={"stage_number": int, "task_results": list[TaskResult]})
    def from_task_results(
        cls,
        stage_number: int,
        task_results: list[TaskResult],
        *,
        metadata: JsonObject | None = None,
        orchestration: OrchestrationDataContract | None = None,
        completed_at: datetime | None = None,
    ) -> Self:
        """Build the result of a stage from the results of all its tasks.

        Args:
            completed_at: When the stage closed; the end of its last task by default, now for a stage without tasks.

        Raises:
            ContractViolationError: A result is no ``TaskResult``, a dict for instance.
        """
        counted = Counter(result.status for result in task_results)
        ended = [result.completed_at for result in task_results]
        return cls(
            stage_number=stage_number,
            status=status_of_counts(
                successful=counted[TaskStatus.COMPLETED],
                failed=counted[TaskStatus.FAILED],
                skipped=counted[TaskStatus.SKIPPED],
                cancelled=counted[TaskStatus.CANCELLED],
            ),
            task_count=len(task_results),
            successful_tasks=counted[TaskStatus.COMPLETED],
            failed_tasks=counted[TaskStatus.FAILED],
            skipped_tasks=counted[TaskStatus.SKIPPED],
            cancelled_tasks=counted[TaskStatus.CANCELLED],
            success_rate=_rate(counted[TaskStatus.COMPLETED], len(task_results)),
            task_results=list(task_results),
            completed_at=completed_at or max(ended, default=datetime.now(UTC)),
            metadata=metadata or {},
            orchestration=orchestration,
        )

    @classmethod
    def from_stage_record(cls, stage: StageRecord, task_results: list[TaskResult], completed_at: datetime) -> Self:
        """Build the default result of a stored stage from its counters; paged unless all results are given."""
        total = stage.successful_tasks + stage.failed_tasks + stage.skipped_tasks + stage.cancelled_tasks
        return cls(
            stage_number=stage.stage_number,
            status=status_of_counts(
                successful=stage.successful_tasks,
                failed=stage.failed_tasks,
                skipped=stage.skipped_tasks,
                cancelled=stage.cancelled_tasks,
            ),
            task_count=total,
            successful_tasks=stage.successful_tasks,
            failed_tasks=stage.failed_tasks,
            skipped_tasks=stage.skipped_tasks,
            cancelled_tasks=stage.cancelled_tasks,
            success_rate=_rate(stage.successful_tasks, total),
            task_results=task_results,
            results_paged=total > HYDRATED_RESULTS,
            completed_at=completed_at,
        )

    def as_dict_entry(self) -> tuple[str, JsonObject]:
        """Return ``("1", {...})``: the key and the JSON-ready dict without it."""
        return self.stage_key, self.model_dump(mode="json", exclude={"stage_key"})


class StageAggregate(Contract):
    """What a controller adds to the result of a stage; counts and status are the engine's own.

    Attributes:
        metadata: Goes into the stage result as it is.
        orchestration: The stage's decision about what follows it, if it takes one.
    """

    metadata: JsonObject = Field(default_factory=dict)
    orchestration: OrchestrationDataContract | None = None


class StageResultsFormatter:
    """The one place that writes and reads stored stage results.

    The stored text leaves out ``stage_key`` (it is the key) and ``task_results`` (they are rows of their own, stored
    once); reading puts both back.
    """

    @staticmethod
    def to_stored(result: StageResultContract) -> str:
        """Return the JSON text that a stage's row holds.

        Raises:
            InvalidValueError: Metadata or orchestration hold what no store can: NUL, or text that UTF-8 cannot express.
        """
        try:
            text = result.model_dump_json(exclude={"stage_key", "task_results"}, warnings="error")
        except PydanticSerializationError as error:
            msg = f"the result of stage {result.stage_number} cannot be stored: {error}; correct its metadata or orchestration"
            raise InvalidValueError(msg) from error
        return checked_json(text)

    @staticmethod
    def from_stored(stage_number: int, text: str, task_results: list[TaskResult]) -> StageResultContract:
        """Validate the stored text and the task results of one stage.

        Raises:
            StageResultsInvalidError: The text or the results are not a stage result; the message names the field.
        """
        try:
            shell = _StoredStageResult.model_validate_json(text)
            fields = {name: value for name, value in shell if name != "task_results"}
            result = StageResultContract(**fields, task_results=task_results)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "the whole"
            msg = f"the stored result of stage {stage_number} is invalid at {field}: {first['msg']}"
            raise StageResultsInvalidError(msg) from error
        if result.stage_number != stage_number:
            msg = f"the stored result of stage {stage_number} says stage_number {result.stage_number}"
            raise StageResultsInvalidError(msg)
        return result


class _StoredStageResult(Contract):
    """The stored form: a :class:`StageResultContract` whose task results are elsewhere, so not compared yet."""

    stage_number: int
    status: StageStatus
    task_count: int
    successful_tasks: int
    failed_tasks: int
    skipped_tasks: int
    cancelled_tasks: int
    success_rate: float
    results_paged: bool
    completed_at: UtcDatetime
    metadata: JsonObject
    orchestration: OrchestrationDataContract | None


class AdvanceOutcome(StrEnum):
    """What the store did with a stage's result.

    ``SIBLINGS_OPEN``: stored, other stages of the parallel group still run. ``GROUP_CLOSED``: stored, and the group's
    last; the caller keeps the lease and ends the job. ``GROUP_FAILED``: as that, but a sibling's verdict was failed.
    ``PAUSED``: nothing written, the work waits for resume. ``JOB_ENDED``: nothing written, the job is terminal.
    ``STALE``: nothing written, another worker holds the lease. ``ALREADY_ADVANCED``: nothing written, it was done before.
    """

    ADVANCED = "advanced"
    SIBLINGS_OPEN = "siblings_open"
    GROUP_CLOSED = "group_closed"
    GROUP_FAILED = "group_failed"
    PAUSED = "paused"
    JOB_ENDED = "job_ended"
    STALE = "stale"
    ALREADY_ADVANCED = "already_advanced"


class StageAdvancementResult(Contract):
    """The answer of ``advance_job_stage``.

    Attributes:
        job_updated: Whether the job's current stage moved.
        new_stage: The job's current stage afterwards.
        is_final_stage: Whether that is the job's last.
        plan: Lease on planning the first of the opened stages, already handed to the caller.
    """

    outcome: AdvanceOutcome
    job_updated: bool
    new_stage: int = Field(ge=1)
    is_final_stage: bool
    plan: Lease | None = None


def status_of_counts(*, successful: int, failed: int, skipped: int, cancelled: int) -> StageStatus:
    """Return the status that a stage's counts stand for, before its policy has spoken."""
    total = successful + failed + skipped + cancelled
    if successful == total:
        return StageStatus.COMPLETED
    if cancelled:
        return StageStatus.CANCELLED
    if successful:
        return StageStatus.COMPLETED_WITH_ERRORS
    return StageStatus.FAILED if failed else StageStatus.SKIPPED


def _rate(successful: int, total: int) -> float:
    return _PERCENT * successful / total if total else _PERCENT


def _counts(successful: int, failed: int, skipped: int, cancelled: int) -> Counter[TaskStatus]:
    return Counter(
        {
            TaskStatus.COMPLETED: successful,
            TaskStatus.FAILED: failed,
            TaskStatus.SKIPPED: skipped,
            TaskStatus.CANCELLED: cancelled,
        }
    )
