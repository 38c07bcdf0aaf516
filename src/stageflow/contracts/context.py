"""What user code is given to know: typed, frozen contexts."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Final, Generic, Protocol, Self, TypeVar, overload

from pydantic import (
    Field,
    GetPydanticSchema,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
)
from pydantic_core import core_schema

from stageflow.contracts.base import Contract, LateContract, TypeName, UtcDatetime
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.ids import JobId, make_task_id, stage_key
from stageflow.contracts.stage import StageResultContract
from stageflow.contracts.stored_results import StoredStageResults
from stageflow.errors import HostMissingError, InvalidValueError, StageResultsMissingError, TaskCancelledError

M = TypeVar("M", bound=Contract)
J = TypeVar("J", bound=Contract)


def _checked_results(
    value: object,
    handler: ValidatorFunctionWrapHandler,
) -> Mapping[str, StageResultContract]:
    if isinstance(value, StoredStageResults):
        return value
    checked: dict[str, StageResultContract] = handler(value)
    for key, result in checked.items():
        if key != result.stage_key:
            msg = f"stage_results[{key!r}] holds the result of stage {result.stage_number}"
            raise ValueError(msg)
    return checked


def _plain_results(value: Mapping[str, StageResultContract], handler: SerializerFunctionWrapHandler) -> object:
    return handler(dict(value))


class JobExecutionContext(LateContract, Generic[J]):
    """A job, as its controller's hooks see it.

    Attributes:
        parameters: The job's validated parameters.
        stage_results: Results of the closed stages, under ``"1"``, ``"2"``, …; use :meth:`get_stage_result`. An engine's
            context reads each from the store when it is first asked for.
        scheduled_for: The fire time that the job stands for, where a schedule made it.
    """

    job_id: JobId
    job_type: TypeName
    run: int = Field(default=1, ge=1)
    total_stages: int = Field(ge=1)
    parameters: J
    scheduled_for: UtcDatetime | None = None
    stage_results: Annotated[
        Mapping[str, StageResultContract],
        WrapValidator(_checked_results),
        WrapSerializer(_plain_results),
    ] = Field(default_factory=dict)

    def get_stage_result(self, stage_number: int) -> StageResultContract:
        """Return the result of a closed stage.

        Raises:
            StageResultsMissingError: The stage has none; the message lists the stages that have.
        """
        key = stage_key(stage_number)
        if key not in self.stage_results:
            there = ", ".join(sorted(self.stage_results, key=int)) or "none"
            msg = f"job {self.job_id[:12]} has no result of stage {stage_number}; stages with a result: {there}"
            raise StageResultsMissingError(msg)
        return self.stage_results[key]

    def set_stage_result(self, stage_number: int, result: StageResultContract) -> Self:
        """Return a context that also holds ``result``; this one stays as it is."""
        fields = {name: value for name, value in self if name != "stage_results"}
        return type(self)(**fields, stage_results={**self.stage_results, stage_key(stage_number): result})


class StageExecutionContext(LateContract):
    """A stage, as the hooks that close it see it.

    Attributes:
        result: The stage's result as its counts and its policy give it, before any hook has spoken.
    """

    job_id: JobId
    job_type: TypeName
    run: int = Field(default=1, ge=1)
    stage_number: int = Field(ge=1)
    name: str
    generation: int = Field(default=1, ge=1)
    result: StageResultContract


class StopSignal(Protocol):
    """Tells a handler that its work is no longer wanted, or that its time is over."""

    @property
    def stopping(self) -> bool:
        """Whether the job was cancelled, the lease was lost, or the task's timeout is over."""
        ...


class FixedSignal:
    """A signal that stays as it is: for handlers that nobody stops, and for tests."""

    def __init__(self, *, stopping: bool) -> None:
        self.stopping: Final = stopping


class TaskHost(ABC):
    """A stop signal that can do more for a handler: a worker's, or a test's."""

    @property
    @abstractmethod
    def stopping(self) -> bool:
        """Whether the handler should stop."""

    @abstractmethod
    def note_progress(self, context: "TaskExecutionContext", done: float, total: float) -> None:
        """Keep how far the handler has come."""

    @abstractmethod
    def read_predecessor(self, context: "TaskExecutionContext") -> Contract:
        """Return the result of the same index of the stage before, as the handler's task declares it.

        Raises:
            PredecessorMissingError: There is none.
        """

    @abstractmethod
    def write_checkpoint(self, context: "TaskExecutionContext", value: str) -> None:
        """Store JSON text for the next attempt, in place of what was stored before.

        Raises:
            PayloadTooLargeError: It is larger than a row may be.
            TaskCancelledError: The lease was lost; nothing was stored.
        """

    @abstractmethod
    def read_checkpoint(self, context: "TaskExecutionContext") -> str | None:
        """Return the JSON text that an attempt of the task stored last."""

    @abstractmethod
    def open_transaction(self, context: "TaskExecutionContext") -> Any:
        """Return the connection of the attempt's transaction, opened at the first call.

        Raises:
            TransactionMisuseError: This handler can have none.
            TaskCancelledError: The attempt is over.
        """


_never_stopping = FixedSignal(stopping=False)
_any_value = GetPydanticSchema(lambda _source, _handler: core_schema.any_schema())


class TaskExecutionContext(LateContract):
    """A task, as its handler sees it.

    Attributes:
        attempt: From 1.
        worker_id: The worker process that runs the handler.
        signal: The :class:`StopSignal` behind :attr:`cancelled`; it does not travel.
    """

    job_id: JobId
    job_type: TypeName
    run: int = Field(default=1, ge=1)
    stage_number: int = Field(ge=1)
    task_index: int = Field(ge=0)
    task_type: TypeName
    attempt: int = Field(default=1, ge=1)
    generation: int = Field(default=1, ge=1)
    worker_id: str = "none"
    signal: Annotated[StopSignal, _any_value] = Field(default=_never_stopping, exclude=True, repr=False)

    @property
    def task_id(self) -> str:
        """``<job_id>-<stage_number>-<task_index>``."""
        return make_task_id(self.job_id, self.stage_number, self.task_index)

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop: the job was cancelled, the lease was lost, or the task's timeout is over."""
        return self.signal.stopping

    def check(self) -> None:
        """Do nothing while the work is wanted and in time.

        Raises:
            TaskCancelledError: The job was cancelled, the lease was lost, or the task's timeout is over; let it pass.
        """
        if self.signal.stopping:
            msg = f"task {self.task_index} of stage {self.stage_number} is no longer wanted; stop"
            raise TaskCancelledError(msg)

    def progress(self, done: float, total: float) -> None:
        """Say how far the handler has come: kept in memory, and told with the worker's next heartbeat (``task_progress``).

        Raises:
            InvalidValueError: ``done`` is not between 0 and ``total``, or ``total`` is 0 or infinite.
        """
        if not (0 <= done <= total and 0 < total < math.inf):
            msg = f"progress({done}, {total}) says nothing; give how much is done, from 0 on, and how much that is of in all"
            raise InvalidValueError(msg)
        self.require_host("progress").note_progress(self, done, total)

    @overload
    def predecessor(self) -> Any: ...
    @overload
    def predecessor(self, model: type[M]) -> M: ...
    def predecessor(self, model: type[Contract] | None = None) -> Any:
        """Return the result of the task with the same index in the stage that this one follows; each call reads it.

        The task declares it: ``@task(…, predecessor=Model)``.

        Args:
            model: The declared model again, for type checkers.

        Raises:
            PredecessorMissingError: That task did not complete, that stage has no such index, or it was skipped.
            InvalidValueError: The task declares no predecessor, or another model.
        """
        found = self.require_host("predecessor").read_predecessor(self)
        if model is not None and type(found) is not model:
            msg = (
                f"context.predecessor({model.__name__}) of task {self.task_type!r}: the stage before gives "
                f"{type(found).__name__}; ask for that"
            )
            raise InvalidValueError(msg)
        return found

    @enforce_contract
    def checkpoint(self, value: Contract) -> None:
        """Store where the handler is, so that the next attempt can go on from there; each call replaces the one before.

        It is committed when this returns, and deleted with the write of the task's result.

        Raises:
            ContractViolationError: The value is no contract.
            InvalidValueError: It cannot be stored (:meth:`Contract.to_json`).
            PayloadTooLargeError: It has more than 1 MiB of JSON; write the bulk to a blob, and keep its name.
            TransactionMisuseError: The attempt has asked for its transaction; a checkpoint would not be part of that.
            TaskCancelledError: The lease was lost, and another worker may run the task; nothing was stored; let it pass.
        """
        self.require_host("checkpoint").write_checkpoint(self, value.to_json())

    def last_checkpoint(self, model: type[M]) -> M | None:
        """Return what :meth:`checkpoint` stored last, in an earlier attempt or in this one; ``None`` where it stored nothing.

        Raises:
            InvalidValueError: What is stored is not (or no longer) this model.
        """
        text = self.require_host("last_checkpoint").read_checkpoint(self)
        if text is None:
            return None
        try:
            return model.from_json(text)
        except ValidationError as error:
            msg = (
                f"the checkpoint of task {self.task_index} of stage {self.stage_number} is no {model.__name__}: {error}; "
                "read it as the model that stored it, or give new fields defaults"
            )
            raise InvalidValueError(msg) from error

    def transaction(self) -> Any:
        """Return a database connection with an open transaction, in which the engine afterwards completes the task.

        The engine commits it, when the handler has returned a valid result: what the handler wrote is there if and only if the
        task is completed. Where the handler raises, is too late, or has lost its lease, all of it is rolled back. It is a
        ``psycopg.Connection`` on PostgreSQL and a ``sqlite3.Connection`` on SQLite, the same one at each call of an attempt.

        It is no context manager, because nothing is committed where a block would end. Ask for it late: it holds a connection,
        and on SQLite the store's one write lock, until the handler returns.

        Raises:
            TransactionMisuseError: The handler is async or ``cpu_bound``.
            StoreUnreachableError: The store gives no connection, or (SQLite) others kept writing for too long.
            TaskCancelledError: The attempt is over: its time, or its work is no longer wanted; let it pass.
        """
        return self.require_host("transaction").open_transaction(self)

    def require_host(self, asked: str) -> TaskHost:
        """Return what stands behind this context.

        Args:
            asked: The method of the context for which it is needed.

        Raises:
            HostMissingError: Nothing does.
        """
        if not isinstance(self.signal, TaskHost):
            msg = (
                f"context.{asked}() needs a worker, and this context has none; in a test, make it with "
                "stageflow.testing.task_context"
            )
            raise HostMissingError(msg)
        return self.signal
