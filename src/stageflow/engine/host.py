"""What stands behind the contexts of the handlers of one lease."""

from stageflow.contracts.base import Contract
from stageflow.contracts.context import TaskExecutionContext, TaskHost
from stageflow.contracts.lease import Lease
from stageflow.engine.execute import LeaseMonitor
from stageflow.engine.reading import results_of
from stageflow.errors import InvalidValueError, PredecessorMissingError, TaskCancelledError, TaskFailedError
from stageflow.repositories import Repositories
from stageflow.workflow.registry import Workflow


class LeaseHost(TaskHost):
    """Passes on what the monitor says, and reads from the store when a handler asks."""

    def __init__(self, lease: Lease, workflow: Workflow, monitor: LeaseMonitor, repositories: Repositories) -> None:
        self._lease = lease
        self._workflow = workflow
        self._monitor = monitor
        self._repositories = repositories

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
        """
        if not self._repositories.leases.save_checkpoint(self._lease, context.task_index, value):
            msg = (
                f"task {context.task_index} of stage {context.stage_number} lost its lease; its checkpoint was not stored, stop"
            )
            raise TaskCancelledError(msg)

    def read_checkpoint(self, context: TaskExecutionContext) -> str | None:
        """Return what is stored, whichever attempt stored it."""
        return self._repositories.leases.get_checkpoint(self._lease, context.task_index)
