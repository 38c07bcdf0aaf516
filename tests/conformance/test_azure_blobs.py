"""Azure Blob Storage passes the suite, on the emulator."""

from collections.abc import Iterator
from typing import Protocol

import pytest
from azure.storage.blob import BlobServiceClient

from stageflow.backends.azure import AzureBlobStore
from stageflow.ports import BlobStore
from stageflow.testing.conformance.blobs import BlobStoreConformance


class Azurite(Protocol):
    """What is needed of the emulator."""

    @property
    def connection_string(self) -> str:
        """The connection string of its account."""
        ...


class TestAzureBlobs(BlobStoreConformance):
    """The suite of the port."""

    @pytest.fixture
    def blobs(self, azurite: Azurite) -> Iterator[BlobStore]:
        """Give a store without containers."""
        with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            for container in service.list_containers():
                service.delete_container(container.name)
        store = AzureBlobStore.from_connection_string(azurite.connection_string)
        checked: BlobStore = store
        yield checked
        store.close()
