"""What every part of the store's suite shares."""

from collections.abc import Iterator

import pytest

from stageflow.testing.conformance.builders import MovableStore
from stageflow.testing.conformance.looking import check_partition, drain

_JOBS_TO_END = 20


class StoreScenarios:
    """Scenarios told against one store; a subclass gives the store.

    After each scenario, whatever it left behind, the partition holds for every job, and every job can still end.
    """

    @pytest.fixture
    def store(self) -> Iterator[MovableStore]:
        """Give a migrated, empty store that nobody else uses, and close it afterwards."""
        msg = f"{type(self).__name__} needs a fixture `store`; define one that yields a migrated, empty store"
        raise NotImplementedError(msg)

    @pytest.fixture(autouse=True)
    def _every_job_is_whole_and_can_end(self, store: MovableStore) -> Iterator[None]:
        yield
        for job in store.list_jobs(status=None, job_type=None, id_prefix="", limit=_JOBS_TO_END, after=None):
            check_partition(store, job)
            drain(store, job)
