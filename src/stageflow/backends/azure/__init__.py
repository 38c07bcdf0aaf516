"""Azure Storage: its queue as a ``Queue`` and its blobs as a ``BlobStore``; the only place that imports the Azure SDK."""

try:
    import azure.storage.blob
    import azure.storage.queue  # noqa: F401 - asked for here, so that both are missing with one message
except ImportError as error:  # pragma: no cover - the development install has the SDK
    _missing = f"the Azure backend needs the Azure SDK ({error}); install it with: pip install 'stageflow[azure]'"
    raise ImportError(_missing) from error

from stageflow.backends.azure.blobs import AzureBlobStore
from stageflow.backends.azure.queue import AzureStorageQueue
from stageflow.backends.azure.urls import AzureAddress, parse_azure_url

__all__ = ["AzureAddress", "AzureBlobStore", "AzureStorageQueue", "parse_azure_url"]
