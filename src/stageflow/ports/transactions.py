"""Transactions that handlers write in, and the engine after them."""

from typing import Any, Protocol


class HandlerTransaction(Protocol):
    """An open transaction on a connection of its own, which the handler of a task gets.

    The handler writes, then the engine completes the task with ``complete_tasks(connection=…)``, then it commits. Whoever does
    the one may be another thread than whoever does the other.
    """

    @property
    def connection(self) -> Any:
        """The driver's connection, on which nobody but the engine can commit."""
        ...

    def require_open(self) -> None:
        """Do nothing if the transaction that was begun here is still open, and can be committed.

        Raises:
            TransactionMisuseError: The handler ended it past all guards.
            RetryableTaskError: One of its statements failed, so that the database lets nothing of it be committed.
        """
        ...

    def commit(self) -> None:
        """Commit, and close the connection.

        Raises:
            StoreUnreachableError: The connection was lost; whether the transaction was committed is unknown.
            StoreError: The store cannot commit; nothing was.
            Exception: What the driver raises where the database refuses the commit (a deferred constraint); nothing was
                committed.
        """
        ...

    def roll_back(self) -> None:
        """Take everything back and close the connection, also while the handler still uses it; never raises.

        After :meth:`commit`, and after another call, it does nothing.
        """
        ...


class TransactionStore(Protocol):
    """Transactions of handlers."""

    def begin_transaction(self) -> HandlerTransaction:
        """Open a connection that is nobody else's, and begin a transaction on it.

        Raises:
            StoreUnreachableError: The database does not answer, or (SQLite) others kept writing for too long.
        """
        ...
