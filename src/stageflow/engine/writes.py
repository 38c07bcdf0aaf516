"""What a handler writes in the transaction that completes its task: ``context.transaction()``."""

from collections.abc import Sequence
from enum import StrEnum
from threading import Lock
from typing import Any, Final

from stageflow.contracts.lease import CompletionOutcome, RangeCompletion, TaskCompletionResult
from stageflow.engine.hooks import let_interrupt_pass
from stageflow.errors import StoreError, TaskCancelledError
from stageflow.ports.transactions import HandlerTransaction
from stageflow.repositories import Repositories


class Written(StrEnum):
    """What became of a task whose handler had a transaction."""

    COMMITTED = "committed"
    STALE = "stale"
    REFUSED = "refused"


class HandlerWrites:
    """The transaction of the handler that runs on a lease, if it asked for one.

    A handler may ask in another thread than the slot's, also one that was left alone and whose task is over. So each task has a
    door of its own, which closes when the slot has the handler's answer.

    Attributes:
        refusal: Why the last transaction could not be committed, where that is the handler's own failure.
    """

    def __init__(self, repositories: Repositories, *, worker_id: str, lease_seconds: float) -> None:
        self._repositories: Final = repositories
        self._worker_id: Final = worker_id
        self._lease_seconds: Final = lease_seconds
        self._lock = Lock()
        self._door: tuple[int, Lock] | None = None
        self._transaction: HandlerTransaction | None = None
        self._before: Sequence[RangeCompletion] | None = None
        self._written = Written.REFUSED
        self.refusal: BaseException | None = None

    def admit(self, task_index: int) -> None:
        """Let the handler of a task ask."""
        self._door = (task_index, Lock())
        self.refusal = None

    def connection_of(self, task_index: int) -> Any:
        """Return the connection of a task's transaction, opened at the first call.

        Raises:
            TaskCancelledError: The attempt is over.
        """
        door = self._door
        if door is None or door[0] != task_index:
            raise _over(task_index)
        with door[1]:
            if self._door is door and self._transaction is not None:
                return self._transaction.connection
            transaction = self._repositories.store.begin_transaction()
            with self._lock:
                if self._door is door:
                    self._transaction = transaction
                    return transaction.connection
        transaction.roll_back()
        raise _over(task_index)

    @property
    def is_open(self) -> bool:
        """Whether the present task has a transaction."""
        return self._transaction is not None

    @property
    def is_offered(self) -> bool:
        """Whether the completion that the executor yielded belongs into the transaction."""
        return self._before is not None

    def close_door(self) -> bool:
        """Let nobody ask any more, and say whether there is a transaction."""
        with self._lock:
            self._door = None
            return self._transaction is not None

    def offer(self, before: Sequence[RangeCompletion]) -> None:
        """Have the task's completion, yielded next, written in its transaction, after those of the tasks before it."""
        self._before = before

    def settled(self) -> Written:
        """Return what became of it."""
        self._before = None
        return self._written

    def complete(self, completion: RangeCompletion) -> list[TaskCompletionResult]:
        """Complete what was offered in the handler's transaction and commit, or neither; return the answers of what was tried.

        Empty where the handler's transaction cannot be committed: that is its failure, :attr:`refusal`. Is the last answer not
        ``RECORDED``, then nothing was written, neither of the task nor of those before it.

        Raises:
            StoreUnreachableError: The connection was lost. Where that was in the commit, it is unknown whether it took effect.
                A second completion must not ask: where the first was lost, it would complete the task without what the handler
                wrote. The lease is left to lapse, and what is then still open is run again.
            StoreError: The store failed; nothing was written.
        """
        transaction = self._transaction
        reports = [*(self._before or ()), completion]
        self._written = Written.REFUSED
        assert transaction is not None  # noqa: S101  offered only where there is one
        try:
            transaction.require_open()
            answers = self._repositories.completion.complete_tasks_and_check_stages(
                reports, self._worker_id, self._lease_seconds, transaction.connection
            )
            if answers[-1].outcome is not CompletionOutcome.RECORDED:
                self._written = Written.STALE
                return answers[-1:]
            transaction.commit()
        except StoreError:
            raise
        except BaseException as error:  # noqa: BLE001  the driver's own: the task fails with it, as if its handler had raised it
            let_interrupt_pass(error)
            self.refusal = error
            return []
        finally:
            self.roll_back()
        self._written = Written.COMMITTED
        return answers

    def roll_back(self) -> None:
        """Close the door, and take back what was written and not committed."""
        with self._lock:
            self._door, transaction, self._transaction = None, self._transaction, None
        if transaction is not None:
            transaction.roll_back()


def _over(task_index: int) -> TaskCancelledError:
    return TaskCancelledError(f"task {task_index} is over: its handler came too late to ask for a transaction, stop")
