"""The conformance suites: what a backend must do, as tests that anyone can run against their own.

A store is proved by subclassing :class:`~stageflow.testing.conformance.store.StoreConformance`::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self) -> Iterator[MovableStore]:
            store = MyStore(...)  # migrated, empty, nobody else's
            yield store
            store.close()

An external queue is proved by :class:`~stageflow.testing.conformance.queue.QueueConformance`, a blob store by
:class:`~stageflow.testing.conformance.blobs.BlobStoreConformance`, in the same way.

The suites need pytest and hypothesis. Nothing here is imported by ``import stageflow``.
"""

import pkgutil

import pytest

# One by one: this package is imported already, and pytest warns of what it can no longer rewrite.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
