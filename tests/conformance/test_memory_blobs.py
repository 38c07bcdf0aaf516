"""The blob store in memory passes the suite."""

import pytest

from stageflow.backends.memory import MemoryBlobStore
from stageflow.ports import BlobStore
from stageflow.testing.conformance.blobs import BlobStoreConformance


class TestMemoryBlobs(BlobStoreConformance):
    """The suite of the port."""

    @pytest.fixture
    def blobs(self) -> BlobStore:
        """Give an empty store."""
        return MemoryBlobStore()
