"""What a finished stage left: built from its tasks or its counters, stored, and read again."""

from collections import Counter
from datetime import UTC, datetime
from typing import Final, Self

from pydantic import Field, ValidationError, computed_field, model_validator
from pydantic_core import PydanticSerializationError

from stageflow.contracts.base import (
    JsonObject,
    LateContract,
    UtcDatetime,
    checked_json,
    refuse_surrogates,
)
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.ids import stage_key
from stageflow.contracts.json_text import JSON_BYTES, require_size, require_storable
from stageflow.contracts.orchestration import OrchestrationDataContract
from stageflow.contracts.stage_record import StageRecord
from stageflow.contracts.status import TERMINAL_STAGE_STATUSES, StageStatus, TaskStatus
from stageflow.contracts.task import TaskResult
from stageflow.contracts.validated import first_fault
from stageflow.errors import InvalidValueError, StageResultsInvalidError

HYDRATED_RESULTS: Final = 1000
"""Up to this many task results travel inside a stage result; wider stages are read through ``StageResults``."""

_PERCENT: Final = 100.0


class StageResultContract(LateContract):
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
    def from_stage_record(cls, stage: StageRecord, task_results: list[TaskResult] | None, completed_at: datetime) -> Self:
        """Build the default result of a stored stage from its counters; paged where no task results are given."""
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
            task_results=task_results or [],
            results_paged=task_results is None,
            completed_at=completed_at,
        )

    def as_dict_entry(self) -> tuple[str, JsonObject]:
        """Return ``("1", {...})``: the key and the JSON-ready dict without it."""
        return self.stage_key, self.model_dump(mode="json", exclude={"stage_key"})


class StageAggregate(LateContract):
    """What a controller adds to the result of a stage; counts and status are the engine's own.

    Attributes:
        metadata: Goes into the stage result as it is.
        orchestration: The stage's decision about what follows it, if it takes one.
    """

    metadata: JsonObject = Field(default_factory=dict)
    orchestration: OrchestrationDataContract | None = None


class StageResultsFormatter:
    """The one place that writes and reads stored stage results.

    The stored text leaves out ``stage_key`` (it is the key), and ``task_results`` (they are rows of their own, stored
    once) with ``results_paged``; reading puts them back.
    """

    @staticmethod
    def to_stored(result: StageResultContract) -> str:
        """Return the JSON text that a stage's row holds.

        Raises:
            InvalidValueError: Metadata or orchestration hold what no store can: NUL, or text that UTF-8 cannot express.
        """
        try:
            text = result.model_dump_json(exclude={"stage_key", "task_results", "results_paged"}, warnings="error")
        except PydanticSerializationError as error:
            msg = f"the result of stage {result.stage_number} cannot be stored: {error}; correct its metadata or orchestration"
            raise InvalidValueError(msg) from error
        if "\ufffd" in text:
            refuse_surrogates(result.model_dump(exclude={"task_results"}))
        return checked_json(text)

    @staticmethod
    def from_stored(
        stage_number: int, text: str, task_results: list[TaskResult] | None, *, most_bytes: int = JSON_BYTES
    ) -> StageResultContract:
        """Validate the stored text and the task results of one stage; the result is paged where none are given.

        Args:
            stage_number: The stage.
            text: What is stored.
            task_results: The results of its tasks, where they are read with it.
            most_bytes: A longer text is refused before it is parsed; what came from the blob store has a bound of its own.

        Raises:
            StageResultsInvalidError: The text or the results are not a stage result; the message names the field.
        """
        try:
            require_size(text, most_bytes, f"the stored result of stage {stage_number}")
            shell = _StoredStageResult.model_validate_json(text)
            result = StageResultContract(**dict(shell), task_results=task_results or [], results_paged=task_results is None)
            require_storable(text, f"the stored result of stage {stage_number}")
        except InvalidValueError as error:
            raise StageResultsInvalidError(str(error)) from error
        except ValidationError as error:
            msg = f"the stored result of stage {stage_number} is invalid at {first_fault(error)}"
            raise StageResultsInvalidError(msg) from error
        if result.stage_number != stage_number:
            msg = f"the stored result of stage {stage_number} says stage_number {result.stage_number}"
            raise StageResultsInvalidError(msg)
        return result


class _StoredStageResult(LateContract):
    """The stored form: a :class:`StageResultContract` whose task results are elsewhere, so not compared yet."""

    stage_number: int
    status: StageStatus
    task_count: int
    successful_tasks: int
    failed_tasks: int
    skipped_tasks: int
    cancelled_tasks: int
    success_rate: float
    completed_at: UtcDatetime
    metadata: JsonObject
    orchestration: OrchestrationDataContract | None


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
