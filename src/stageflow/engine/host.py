"""What stands behind the contexts of the handlers of one lease."""

from typing import Any

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext, TaskHost
from stageflow.contracts.lease import Lease
from stageflow.engine.execute import LeaseMonitor
from stageflow.engine.reading import results_of
from stageflow.engine.writes import HandlerWrites
from stageflow.errors import (
    InvalidValueError,
    PredecessorMissingError,
    TaskCancelledError,
    TaskFailedError,
    TransactionMisuseError,
)
from stageflow.repositories import Repositories
from stageflow.workflow.registry import Workflow


class LeaseHost(TaskHost):
    """Passes on what the monitor says, and reads from the store when a handler asks."""

    def __init__(
        self, lease: Lease, workflow: Workflow, monitor: LeaseMonitor, repositories: Repositories, writes: HandlerWrites
    ) -> None:
        self._lease = lease
        self._workflow = workflow
        self._monitor = monitor
        self._repositories = repositories
        self._writes = writes

    @property
    def stopping(self) -> bool:
        """Whether the lease was lost, or its work is no longer wanted."""
        return self._monitor.stopping

    def note_progress(self, context: TaskExecutionContext, done: float, total: float) -> None:
        """Keep it for the next heartbeat."""
        self._monitor.note_progress(context.task_index, done, total)

    def read_predecessor(self, context: TaskExecutionContext) -> Contract:
        """Return the result of the same index of the stage before, as the handler's task declares it.

        Raises:
            PredecessorMissingError: There is none.
            InvalidValueError: The task declares no predecessor.
        """
        if self._workflow.task(context.stage_number).predecessor is None:
            msg = f"task {context.task_type!r} declares no predecessor; write @task(…, predecessor=Model), then ask for it"
            raise InvalidValueError(msg)
        before = self._workflow.preceding_stage(context.stage_number)
        stages = self._repositories.stages.list_stages(context.job_id, context.run)
        found = [stage for stage in stages if stage.stage_number == before]
        index = context.task_index
        if not found or index >= found[0].task_count:
            count = f"has {found[0].task_count} tasks" if found else "was never opened"
            msg = f"task {index} of stage {context.stage_number} has no predecessor: stage {before} {count}"
            raise PredecessorMissingError(msg)
        try:
            result: Contract = results_of(self._repositories, self._workflow, found[0])[index]
        except TaskFailedError as error:
            msg = f"task {index} of stage {context.stage_number} has no predecessor: {error}"
            raise PredecessorMissingError(msg) from error
        return result

    def write_checkpoint(self, context: TaskExecutionContext, value: str) -> None:
        """Store it under the lease's token.

        Raises:
            PayloadTooLargeError: It is larger than a row may be.
            TaskCancelledError: The lease was lost.
            TransactionMisuseError: The attempt has asked for its transaction.
        """
        if self._writes.is_open:
            msg = (
                "context.checkpoint() commits at once, and so would not be part of context.transaction(); call it before that, "
                "or write where you are into a table of your own on the transaction's connection"
            )
            raise TransactionMisuseError(msg)
        if not self._repositories.leases.save_checkpoint(self._lease, context.task_index, value):
            msg = (
                f"task {context.task_index} of stage {context.stage_number} lost its lease; its checkpoint was not stored, stop"
            )
            raise TaskCancelledError(msg)

    def read_checkpoint(self, context: TaskExecutionContext) -> str | None:
        """Return what is stored, whichever attempt stored it."""
        return self._repositories.leases.get_checkpoint(self._lease, context.task_index)

    def open_transaction(self, context: TaskExecutionContext) -> Any:
        """Return the connection of the attempt's transaction.

        Raises:
            TransactionMisuseError: The handler is async.
            TaskCancelledError: The attempt is over.
        """
        if self._workflow.task(context.stage_number).is_async:
            msg = (
                f"task {context.task_type!r} is async, and the connection of context.transaction() would block the event loop "
                "of all async handlers; write it as a plain `def`"
            )
            raise TransactionMisuseError(msg)
        return self._writes.connection_of(context.task_index)
