"""Jobs that are created in the application's own transaction."""

from contextlib import AbstractContextManager
from typing import Final, Protocol

import pytest

from stageflow.errors import IdempotencyConflictError
from stageflow.testing.conformance.builders import MovableStore, claim_plan, control_type, create, new_job
from stageflow.testing.conformance.looking import get_status
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()


class ApplicationConnection(Protocol):
    """What every database driver's connection has."""

    def commit(self) -> object:
        """Commit the open transaction."""
        ...

    def rollback(self) -> object:
        """Roll the open transaction back."""
        ...


class ConnectionConformance(StoreScenarios):
    """Creating jobs over a connection of the application; for stores whose database can be reached from outside."""

    def application_connection(self, store: MovableStore) -> AbstractContextManager[ApplicationConnection]:
        """Open a connection of the application's own to the store's database, and close it afterwards."""
        msg = f"{type(self).__name__} needs application_connection; open a connection to {store.url}"
        raise NotImplementedError(msg)

    def test_a_job_commits_with_the_applications_transaction(self, store: MovableStore) -> None:
        """The store commits nothing of its own: until the application commits there is no job."""
        with self.application_connection(store) as connection:
            assert store.create_jobs([_JOB], connection=connection).created == [True]
            assert store.get_jobs([_JOB.job_id]) == []
            connection.commit()
        claim_plan(store, _JOB)

    def test_a_job_rolls_back_with_the_applications_transaction(self, store: MovableStore) -> None:
        """What the application takes back was never there."""
        with self.application_connection(store) as connection:
            assert store.create_jobs([_JOB], connection=connection).created == [True]
            connection.rollback()
        assert store.get_jobs([_JOB.job_id]) == []
        create(store, _JOB)

    def test_a_job_that_exists_is_told_in_the_applications_transaction(self, store: MovableStore) -> None:
        """A repeated request leaves the application's transaction usable."""
        create(store, _JOB)
        with self.application_connection(store) as connection:
            assert store.create_jobs([_JOB, new_job("other")], connection=connection).created == [False, True]
            connection.commit()
        assert get_status(store, new_job("other")).value == "queued"
        assert control_type(_JOB) == control_type(new_job("other"))

    def test_a_conflict_is_raised_in_the_applications_transaction(self, store: MovableStore) -> None:
        """A taken key is the application's to handle, and nothing is created."""
        create(store, new_job("first", idempotency_key="key"))
        with self.application_connection(store) as connection:
            with pytest.raises(IdempotencyConflictError):
                store.create_jobs([_JOB, new_job("second", idempotency_key="key")], connection=connection)
            connection.rollback()
        assert store.get_jobs([_JOB.job_id]) == []
