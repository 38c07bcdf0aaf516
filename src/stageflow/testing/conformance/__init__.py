"""The conformance suites: what a backend must do, as tests that anyone can run against their own.

A store is proved by subclassing :class:`~stageflow.testing.conformance.store.StoreConformance`::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self) -> Iterator[MovableStore]:
            store = MyStore(...)  # migrated, empty, nobody else's
            yield store
            store.close()

The suites need pytest and hypothesis. Nothing here is imported by ``import stageflow``.
"""

import pytest

pytest.register_assert_rewrite(__name__)
