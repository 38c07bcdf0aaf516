"""Every error that stageflow raises, in one tree.

::

    StageflowError
    ├── ContractViolationError (TypeError)      a value of the wrong type at a boundary; a bug, never retried
    ├── ContractDefinitionError (TypeError)     a contract that cannot be checked, found when it is declared
    ├── InvalidValueError (ValueError)          an id, name or payload that no boundary accepts
    │   ├── PayloadTooLargeError                more bytes than a row or a message may hold
    │   └── IdempotencyConflictError            one key, two different requests
    ├── InvalidTransitionError (ValueError)     a status change that the transition table forbids
    ├── WorkflowDefinitionError (TypeError)     a workflow that cannot work, found when it is registered
    ├── UnknownWorkflowError (LookupError)      a job type or version that no registered workflow has
    ├── UnboundControllerError (RuntimeError)   a boundary method of a controller that no app has bound
    ├── JobNotFoundError (LookupError)
    ├── TaskNotFoundError (LookupError)
    ├── DeadLetterNotFoundError (LookupError)
    ├── ScheduleNotFoundError (LookupError)
    ├── StageResultsMissingError (KeyError, ValueError)
    ├── StageResultsInvalidError (ValueError)
    ├── TaskError                               what a handler raises to say how it failed
    │   ├── RetryableTaskError                  worth another attempt
    │   ├── PermanentTaskError                  never worth another attempt
    │   │   ├── PredecessorMissingError (LookupError)  ``context.predecessor()``, where there is none
    │   │   └── TransactionMisuseError (RuntimeError)  ``context.transaction()`` where it cannot work, or used as it may not be
    │   └── TaskTimeoutError (TimeoutError)     it ran longer than its task's ``timeout_seconds``; the policy decides
    ├── TaskFailedError (LookupError)           the result of a task that has none, asked for
    ├── TaskCancelledError                      raised by ``context.check()`` in a handler that should stop
    ├── HostMissingError (RuntimeError)         a context that no worker and no test kit made was asked for more than it holds
    ├── HookError                               a controller hook raised or returned what it may not
    │   ├── OrchestrationError                  orchestration that does not fit the workflow
    │   └── PlannerNotDeterministicError        a planner that planned other tasks on its second try
    ├── JobFailedError                          the answer of a job that failed, asked for
    ├── JobCancelledError                       the answer of a job that was cancelled, asked for
    ├── WaitTimeoutError (TimeoutError)         the job had not ended when the caller's patience did
    ├── StoreError
    │   ├── StoreUnreachableError (ConnectionError)
    │   ├── StoreUnsuitableError                a store that cannot keep the guarantees; refused at start
    │   ├── IsolationLevelError                 a transaction that is not READ COMMITTED
    │   ├── SchemaVersionError                  no schema, an older one, or one from the future
    │   ├── MalformedRowError (ValueError)      a row that is not what its contract says
    │   └── StoreStateError                     a state that cannot be, found by a guarded function
    ├── QueueError
    │   ├── QueueUnreachableError (ConnectionError)
    │   │   └── MessagesUnsentError             some of a batch were not sent; says which
    │   ├── MessageTooLargeError (ValueError)
    │   └── PoisonMessageError (ValueError)     a message that cannot be decoded
    │       └── ForeignMessageError             a message that names work which this store never had
    └── BlobError
        ├── BlobNotFoundError (LookupError)
        ├── PayloadUnreadableError (LookupError)  a payload's blob is missing or altered; no retry cures that
        └── BlobStoreUnreachableError (ConnectionError)
            └── PayloadsUnreachableError (RetryableTaskError)  the blob store of payloads does not answer, or the app has none

Refusals that are part of normal life (a lease that another worker took over, a repeated message) are typed outcomes, not
errors.
"""

from collections.abc import Callable, Sequence
from functools import partial


class StageflowError(Exception):
    """Base of every error that stageflow raises on purpose."""


class ContractViolationError(StageflowError, TypeError):
    """A value at a boundary is not what the contract says.

    Attributes:
        function: Qualified name of the function whose contract was broken.
        parameter: Name of the parameter; ``None`` for the return value.
        expected: The type that the contract names.
        actual: The type that came.
        path: Where in the value the bad element sits, such as ``tasks[3]``.
        preview: A short, redacted picture of the bad element.
    """

    def __init__(
        self,
        message: str,
        *,
        function: str,
        parameter: str | None,
        expected: str,
        actual: str,
        path: str,
        preview: str,
    ) -> None:
        super().__init__(message)
        self.function = function
        self.parameter = parameter
        self.expected = expected
        self.actual = actual
        self.path = path
        self.preview = preview

    def __reduce__(self) -> tuple[Callable[[str], "ContractViolationError"], tuple[str]]:
        """Pickle whole, so that one raised in a child process comes back as it is."""
        names = {name: value for name, value in vars(self).items() if name != "__notes__"}
        return partial(type(self), **names), (str(self),)


class ContractDefinitionError(StageflowError, TypeError):
    """A contract names a parameter or a type that cannot be checked."""


class InvalidValueError(StageflowError, ValueError):
    """An id, a name or a payload that no boundary accepts."""


class PayloadTooLargeError(InvalidValueError):
    """A payload has more bytes than may be stored: in a row, or in the blob store of the app."""


class IdempotencyConflictError(InvalidValueError):
    """An idempotency key was used before, with other parameters."""


class InvalidTransitionError(StageflowError, ValueError):
    """A status may not follow the present one."""


class WorkflowDefinitionError(StageflowError, TypeError):
    """A workflow cannot work as declared; raised before anything runs."""


class UnknownWorkflowError(StageflowError, LookupError):
    """No registered workflow has this job type and version."""


class UnboundControllerError(StageflowError, RuntimeError):
    """A boundary method was called on a controller that no ``Stageflow`` app has bound."""


class JobNotFoundError(StageflowError, LookupError):
    """The store holds no job with this id."""


class TaskNotFoundError(StageflowError, LookupError):
    """The store holds no task with this id."""


class DeadLetterNotFoundError(StageflowError, LookupError):
    """The store holds no parked message with this id."""


class ScheduleNotFoundError(StageflowError, LookupError):
    """The store holds no schedule with this name."""


class StageResultsMissingError(StageflowError, KeyError, ValueError):
    """A stage result was asked for that is not stored."""

    def __str__(self) -> str:
        """Return the message as written; ``KeyError`` would quote it."""
        return str(self.args[0])


class StageResultsInvalidError(StageflowError, ValueError):
    """A stored stage result does not validate."""


class TaskError(StageflowError):
    """Base of the errors that a handler raises to say how it failed."""


class RetryableTaskError(TaskError):
    """The attempt failed in a way that another attempt may cure."""


class PermanentTaskError(TaskError):
    """The task can never succeed; no further attempt is made."""


class PredecessorMissingError(PermanentTaskError, LookupError):
    """The task of the same index in the stage before has no result."""


class TransactionMisuseError(PermanentTaskError, RuntimeError):
    """A handler asked for a transaction where there can be none, or did with it what only the engine may do."""


class TaskTimeoutError(TaskError, TimeoutError):
    """A handler ran longer than the ``timeout_seconds`` of its task; the retry policy decides what follows."""


class TaskFailedError(StageflowError, LookupError):
    """The result of a task was asked for that ended without one."""


class TaskCancelledError(StageflowError):
    """A handler was told to stop: its job was cancelled, its lease was lost, or its time is over."""


class HostMissingError(StageflowError, RuntimeError):
    """A task context that no worker stands behind was asked for something that only a worker can do."""


class HookError(StageflowError):
    """A controller hook raised, or returned what its contract forbids."""


class OrchestrationError(HookError):
    """A stage's orchestration does not fit the workflow that follows."""


class PlannerNotDeterministicError(HookError):
    """A planner that was run again after a crash planned other tasks than before."""


class JobFailedError(StageflowError):
    """The answer of a job was asked for, and the job failed."""


class JobCancelledError(StageflowError):
    """The answer of a job was asked for, and the job was cancelled."""


class WaitTimeoutError(StageflowError, TimeoutError):
    """A job had not ended within the time the caller was willing to wait."""


class StoreError(StageflowError):
    """Base of what goes wrong in or on the way to a store."""


class StoreUnreachableError(StoreError, ConnectionError):
    """The store does not answer, or refuses the credentials."""


class StoreUnsuitableError(StoreError):
    """The store answers but cannot keep stageflow's guarantees."""


class IsolationLevelError(StoreError):
    """A guarded function was called in a transaction that is not READ COMMITTED."""


class SchemaVersionError(StoreError):
    """The store's schema is missing, too old, or newer than this code."""


class MalformedRowError(StoreError, ValueError):
    """A stored row is not what its contract says."""


class StoreStateError(StoreError):
    """A guarded function met a state that the protocol rules out."""


class QueueError(StageflowError):
    """Base of what goes wrong in or on the way to an external queue."""


class QueueUnreachableError(QueueError, ConnectionError):
    """The queue does not answer, or refuses the credentials."""


class MessagesUnsentError(QueueUnreachableError):
    """Some messages of a batch were not sent, for the reason that the message of the first of them gives.

    Attributes:
        unsent: Their places in the batch. One that was sent although its answer was lost is among them.
    """

    def __init__(self, message: str, unsent: Sequence[int]) -> None:
        super().__init__(message)
        self.unsent = tuple(unsent)


class MessageTooLargeError(QueueError, ValueError):
    """A message has more bytes than the queue takes."""


class PoisonMessageError(QueueError, ValueError):
    """A message cannot be decoded into its contract."""


class ForeignMessageError(PoisonMessageError):
    """A well-formed message names work that this store never had: an unknown job, another type, a stage beyond the last."""


class BlobError(StageflowError):
    """Base of what goes wrong in or on the way to a blob store."""


class BlobNotFoundError(BlobError, LookupError):
    """The blob store holds no blob with this name."""


class PayloadUnreadableError(BlobError, LookupError):
    """A payload that is too large for a row is missing from the blob store, or is not what was written."""


class BlobStoreUnreachableError(BlobError, ConnectionError):
    """The blob store does not answer, or refuses the credentials."""


class PayloadsUnreachableError(BlobStoreUnreachableError, RetryableTaskError):
    """The blob store that payloads too large for a row go to does not answer, or the app has none."""
