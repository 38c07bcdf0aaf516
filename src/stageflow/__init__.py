"""stageflow: durable multi-stage jobs with typed contracts and exact fan-in.

What an author of workflows writes with is here: contracts, contexts, the authoring layer and errors; and what a host runs
them with, the app and the worker, which are loaded when they are first named. Importing it opens nothing, reads no environment,
and loads neither psycopg nor the Azure SDK nor typeguard.
"""

from typing import TYPE_CHECKING, Any

from stageflow.contracts.advancement import StageAdvancementResult
from stageflow.contracts.base import Contract, UtcDatetime
from stageflow.contracts.blob import BlobProperties
from stageflow.contracts.context import JobExecutionContext, StageExecutionContext, TaskExecutionContext
from stageflow.contracts.dead_letter import DeadLetter, DeadLetterState
from stageflow.contracts.enforce import contract_of, enforce_contract
from stageflow.contracts.event import EventKind, JobEvent
from stageflow.contracts.job import (
    JobCompletionResult,
    JobRecord,
    JobResult,
    JobUpdate,
    TaskUpdate,
    WorkflowDefinition,
)
from stageflow.contracts.lease import TaskCompletionResult
from stageflow.contracts.limits import TaskTypeState
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.orchestration import OrchestrationAction, OrchestrationDataContract
from stageflow.contracts.payload import PayloadOptions
from stageflow.contracts.processing import ProcessingOutcome, ProcessingResult
from stageflow.contracts.repair import Repair
from stageflow.contracts.resubmission import Resubmission
from stageflow.contracts.results import StageResults
from stageflow.contracts.retention import Purge
from stageflow.contracts.retry import RetryPolicy
from stageflow.contracts.schedule import CatchUp, ScheduleRecord, ScheduleState
from stageflow.contracts.stage import FailurePolicy, StageAggregate, StageDefinition, StageResultContract, StageResultsFormatter
from stageflow.contracts.status import JobStatus, StageStatus, StatusValidator, TaskStatus
from stageflow.contracts.submission import Submission, SubmitOutcome
from stageflow.contracts.task import TaskDefinition, TaskRecord, TaskResult
from stageflow.errors import (
    BlobError,
    ContractDefinitionError,
    ContractViolationError,
    DeadLetterNotFoundError,
    IdempotencyConflictError,
    InvalidTransitionError,
    InvalidValueError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    OrchestrationError,
    PayloadsUnreachableError,
    PayloadTooLargeError,
    PayloadUnreadableError,
    PermanentTaskError,
    PredecessorMissingError,
    QueueError,
    RetryableTaskError,
    ScheduleNotFoundError,
    SchemaVersionError,
    StageflowError,
    StageResultsInvalidError,
    StageResultsMissingError,
    StoreError,
    TaskCancelledError,
    TaskFailedError,
    TaskNotFoundError,
    TaskTimeoutError,
    UnknownWorkflowError,
    WaitTimeoutError,
    WorkflowDefinitionError,
)
from stageflow.telemetry import TaskLogFilter
from stageflow.workflow.authoring import Keyed, stage, task, workflow
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry

if TYPE_CHECKING:
    from stageflow.app import RepositoryFactory, RepositoryRegistry, Stageflow
    from stageflow.worker import Worker, WorkerOptions
else:

    def __getattr__(name: str) -> Any:
        """Load what a host runs workflows with: a module of workflows needs none of it."""
        match name:
            case "RepositoryFactory" | "RepositoryRegistry" | "Stageflow":
                import stageflow.app as room  # noqa: PLC0415  loaded on first need
            case "Worker" | "WorkerOptions":
                import stageflow.worker as room  # noqa: PLC0415  loaded on first need
            case _:
                msg = f"module {__name__!r} has no attribute {name!r}; its names are listed in {__name__}.__all__"
                raise AttributeError(msg)
        return getattr(room, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.2.0"

__all__ = [
    "BaseController",
    "BlobError",
    "BlobProperties",
    "CatchUp",
    "Contract",
    "ContractDefinitionError",
    "ContractViolationError",
    "DeadLetter",
    "DeadLetterNotFoundError",
    "DeadLetterState",
    "EventKind",
    "FailurePolicy",
    "IdempotencyConflictError",
    "InvalidTransitionError",
    "InvalidValueError",
    "JobCancelledError",
    "JobCompletionResult",
    "JobEvent",
    "JobExecutionContext",
    "JobFailedError",
    "JobNotFoundError",
    "JobQueueMessage",
    "JobRecord",
    "JobRegistry",
    "JobResult",
    "JobStatus",
    "JobUpdate",
    "Keyed",
    "OrchestrationAction",
    "OrchestrationDataContract",
    "OrchestrationError",
    "PayloadOptions",
    "PayloadTooLargeError",
    "PayloadUnreadableError",
    "PayloadsUnreachableError",
    "PermanentTaskError",
    "PredecessorMissingError",
    "ProcessingOutcome",
    "ProcessingResult",
    "Purge",
    "QueueError",
    "Repair",
    "RepositoryFactory",
    "RepositoryRegistry",
    "Resubmission",
    "RetryPolicy",
    "RetryableTaskError",
    "ScheduleNotFoundError",
    "ScheduleRecord",
    "ScheduleState",
    "SchemaVersionError",
    "StageAdvancementResult",
    "StageAggregate",
    "StageDefinition",
    "StageExecutionContext",
    "StageResultContract",
    "StageResults",
    "StageResultsFormatter",
    "StageResultsInvalidError",
    "StageResultsMissingError",
    "StageStatus",
    "Stageflow",
    "StageflowError",
    "StatusValidator",
    "StoreError",
    "Submission",
    "SubmitOutcome",
    "TaskCancelledError",
    "TaskCompletionResult",
    "TaskDefinition",
    "TaskExecutionContext",
    "TaskFailedError",
    "TaskLogFilter",
    "TaskNotFoundError",
    "TaskQueueMessage",
    "TaskRecord",
    "TaskResult",
    "TaskStatus",
    "TaskTimeoutError",
    "TaskTypeState",
    "TaskUpdate",
    "UnknownWorkflowError",
    "UtcDatetime",
    "WaitTimeoutError",
    "Worker",
    "WorkerOptions",
    "WorkflowDefinition",
    "WorkflowDefinitionError",
    "__version__",
    "contract_of",
    "enforce_contract",
    "stage",
    "task",
    "workflow",
]
