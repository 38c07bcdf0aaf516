"""Azure Blob Storage as a ``BlobStore``."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC
from functools import partial
from typing import Any, Final, Self

from azure.core.credentials import AzureSasCredential
from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.blob import BlobClient, BlobServiceClient, ContentSettings, LinearRetry
from azure.storage.blob import BlobProperties as AzureProperties

from stageflow.backends.azure.access import (
    NOT_FOUND,
    Answer,
    Credential,
    ask,
    connection_string_refused,
    error_code,
    explain,
    is_unreachable,
    status_code,
    validate_credential,
)
from stageflow.backends.azure.urls import SCHEME, validate_account_url
from stageflow.contracts.blob import BlobProperties, validate_blob_name, validate_container_name
from stageflow.errors import BlobError, BlobNotFoundError, BlobStoreUnreachableError, InvalidValueError

_PIECE: Final = 4_194_304
_POLL_SECONDS: Final = 0.5
_ROLE: Final = "Storage Blob Data Contributor"
_FOLDER_MARK: Final = "hdi_isfolder"


def _patience() -> dict[str, Any]:
    """Return the SDK's options: bounded waiting, and requests of 4 MiB, so that none is long and memory stays bounded."""
    return {
        "connection_timeout": 3,
        "read_timeout": 20,
        "retry_policy": LinearRetry(
            backoff=1, random_jitter_range=0, retry_total=2, retry_connect=1, retry_read=1, retry_status=2
        ),
        "max_single_put_size": _PIECE,
        "max_block_size": _PIECE,
        "max_single_get_size": _PIECE,
        "max_chunk_get_size": _PIECE,
    }


class AzureBlobStore:
    """The blob containers of a storage account. Safe to use from several threads.

    A write or a copy is seen whole or not at all, and a read gives one version of the blob or fails. Containers are created
    on the first write to them.
    """

    def __init__(self, service: BlobServiceClient, *, source_query: str = "") -> None:
        """Take a client of the service; prefer :meth:`from_connection_string` and :meth:`from_credential`.

        Args:
            service: The client.
            source_query: What the address of a blob needs to be readable as the source of a copy.
        """
        self._service = service
        self._source_query = source_query
        self._url = f"{SCHEME}{service.scheme}://{service.primary_hostname}"

    @classmethod
    def from_connection_string(cls, connection_string: str) -> Self:
        """Return the blobs of the account that a connection string names; opens no connection.

        Raises:
            InvalidValueError: It is no connection string.
        """
        try:
            return cls(BlobServiceClient.from_connection_string(connection_string, **_patience()))
        except ValueError as error:
            refused = connection_string_refused("blob", error)
        raise refused

    @classmethod
    def from_credential(cls, account_url: str, credential: object) -> Self:
        """Return the blobs of the account at ``https://ACCOUNT.blob.core.windows.net``; opens no connection.

        Args:
            account_url: The endpoint of the account's blob service.
            credential: An object with ``get_token`` (``azure.identity``), ``AzureNamedKeyCredential`` or
                ``AzureSasCredential``.

        Raises:
            InvalidValueError: One of them cannot be used; the message says why.
        """
        url = validate_account_url(account_url)
        accepted = validate_credential(credential, url)
        return cls(BlobServiceClient(url, credential=accepted, **_patience()), source_query=_query_of(accepted))

    @property
    def url(self) -> str:
        """The address of the store, without secrets."""
        return self._url

    def __repr__(self) -> str:
        return f"AzureBlobStore({self._url!r})"

    def list_blobs(self, container: str, *, prefix: str = "") -> Iterator[BlobProperties]:
        """Yield the blobs of a container whose name starts with ``prefix``, in name order, page by page.

        Folders, which accounts with a hierarchical namespace list as empty blobs, are left out.

        Raises:
            BlobNotFoundError: There is no such container; raised when the first blob is asked for.
        """
        client = self._service.get_container_client(validate_container_name(container))
        return self._listed(container, iter(client.list_blobs(name_starts_with=prefix or None, include=["metadata"])))

    def read(self, container: str, name: str) -> bytes:
        """Return the content of a blob.

        Raises:
            BlobNotFoundError: It is not there.
        """
        blob = self._blob(container, name)
        return self._ask(blob, lambda: blob.download_blob().readall())

    def read_chunks(self, container: str, name: str, *, chunk_bytes: int = 4_194_304) -> Iterator[bytes]:
        """Yield the content of a blob in pieces of ``chunk_bytes``, the last one shorter, without holding it whole.

        Raises:
            BlobNotFoundError: It is not there; raised when the first piece is asked for.
            BlobError: It was replaced while it was being read.
        """
        if chunk_bytes < 1:
            msg = f"chunk_bytes must be at least 1, got {chunk_bytes}; leave it out for pieces of 4 MiB"
            raise InvalidValueError(msg)
        return self._chunks(self._blob(container, name), chunk_bytes)

    def write(
        self, container: str, name: str, content: bytes, *, content_type: str = "application/octet-stream"
    ) -> BlobProperties:
        """Write a blob whole; replaces one of the same name, creates the container where it is missing."""
        blob = self._blob(container, name)
        settings = ContentSettings(content_type=content_type)
        upload = partial(blob.upload_blob, content, overwrite=True, content_settings=settings)
        written = self._ask(blob, partial(self._creating_container, container, upload))
        return BlobProperties(
            container=container,
            name=name,
            size_bytes=len(content),
            content_type=content_type,
            etag=written["etag"].strip('"'),
            last_modified=written["last_modified"].astimezone(UTC),
        )

    def copy(self, container: str, name: str, target_container: str, target_name: str) -> BlobProperties:
        """Copy a blob within the account, content type and metadata included; the service moves the bytes.

        Raises:
            BlobNotFoundError: The source is not there.
            BlobError: The service gave the copy up.
        """
        source, target = self._blob(container, name), self._blob(target_container, target_name)
        # Asked first: the service's own answer does not say whether the source or the target's container is missing.
        self.properties(container, name)
        start = partial(target.start_copy_from_url, source.url + self._source_query)
        self._ask(target, partial(self._creating_container, target_container, start))
        copied = self._ask(target, target.get_blob_properties)
        while copied.copy.status == "pending":
            time.sleep(_POLL_SECONDS)
            copied = self._ask(target, target.get_blob_properties)
        if copied.copy.status in {"failed", "aborted"}:
            msg = f"copying blob {name!r} of container {container!r} {copied.copy.status} at {self._url}; copy it again"
            raise BlobError(msg)
        return _properties(target_container, copied)

    def exists(self, container: str, name: str) -> bool:
        """Return whether the blob is there."""
        blob = self._blob(container, name)
        return self._ask(blob, blob.exists)

    def delete(self, container: str, name: str) -> None:
        """Delete a blob with its snapshots.

        Raises:
            BlobNotFoundError: It is not there.
        """
        blob = self._blob(container, name)
        self._ask(blob, partial(blob.delete_blob, delete_snapshots="include"))

    def properties(self, container: str, name: str) -> BlobProperties:
        """Return a blob's properties.

        Raises:
            BlobNotFoundError: It is not there.
        """
        blob = self._blob(container, name)
        return _properties(container, self._ask(blob, blob.get_blob_properties))

    def close(self) -> None:
        """Close all connections."""
        self._service.close()

    def _blob(self, container: str, name: str) -> BlobClient:
        return self._service.get_blob_client(validate_container_name(container), validate_blob_name(name))

    def _listed(self, container: str, found: Iterator[AzureProperties]) -> Iterator[BlobProperties]:
        failure = partial(self._failure, container, None)
        while (blob := ask(lambda: next(found, None), failure)) is not None:
            properties = _properties(container, blob)
            if properties.metadata.get(_FOLDER_MARK) != "true":
                yield properties

    def _chunks(self, blob: BlobClient, chunk_bytes: int) -> Iterator[bytes]:
        stream = self._ask(blob, blob.download_blob)
        while piece := self._ask(blob, partial(stream.read, chunk_bytes)):
            yield piece

    def _creating_container(self, container: str, request: Callable[[], Answer]) -> Answer:
        """Return the answer of a request that writes, made again once the container is there."""
        try:
            return request()
        except AzureError as error:
            if error_code(error) != "ContainerNotFound":
                raise
        try:
            self._service.create_container(container)
        except ResourceExistsError as error:
            if error_code(error) == "ContainerBeingDeleted":
                raise
        return request()

    def _ask(self, blob: BlobClient, request: Callable[[], Answer]) -> Answer:
        return ask(request, partial(self._failure, blob.container_name, blob.blob_name))

    def _failure(self, container: str, name: str | None, error: AzureError) -> BlobError:
        subject = f"container {container!r}" if name is None else f"blob {name!r} of container {container!r}"
        if status_code(error) == NOT_FOUND:
            return BlobNotFoundError(f"{subject} does not exist at {self._url}; check both names, or write the blob first")
        if error_code(error) == "ConditionNotMet":
            return BlobError(f"{subject} at {self._url} was replaced while it was being read; read it again")
        text = explain(error, f"{subject} at {self._url}", _ROLE)
        return BlobStoreUnreachableError(text) if is_unreachable(error) else BlobError(text)


def _query_of(credential: Credential) -> str:
    match credential:
        case AzureSasCredential(signature=signature):
            return f"?{signature.lstrip('?')}"
        case _:
            return ""


def _properties(container: str, blob: AzureProperties) -> BlobProperties:
    return BlobProperties(
        container=container,
        name=blob.name,
        size_bytes=blob.size,
        content_type=blob.content_settings.content_type or "application/octet-stream",
        etag=blob.etag.strip('"'),
        last_modified=blob.last_modified.astimezone(UTC),
        metadata=dict(blob.metadata or {}),
    )
