"""Blobs in the memory of one process, for stores that are there too."""

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from stageflow.contracts.blob import BlobProperties, validate_blob_name, validate_container_name
from stageflow.errors import BlobNotFoundError, InvalidValueError

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"


class MemoryBlobStore:
    """A blob store that is gone with its object. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._containers: dict[str, dict[str, tuple[BlobProperties, bytes]]] = {}

    @property
    def url(self) -> str:
        """The address of the store."""
        return "memory:"

    def list_blobs(self, container: str, *, prefix: str = "") -> Iterator[BlobProperties]:
        """Yield the blobs of a container whose name starts with ``prefix``, in name order.

        Raises:
            BlobNotFoundError: There is no such container; raised when the first blob is asked for.
        """
        return self._listed(validate_container_name(container), prefix)

    def read(self, container: str, name: str) -> bytes:
        """Return the content of a blob.

        Raises:
            BlobNotFoundError: It is not there.
        """
        return self._get(container, name)[1]

    def read_chunks(self, container: str, name: str, *, chunk_bytes: int = 4_194_304) -> Iterator[bytes]:
        """Yield the content of a blob in pieces of ``chunk_bytes``, the last one shorter.

        Raises:
            BlobNotFoundError: It is not there; raised when the first piece is asked for.
        """
        if chunk_bytes < 1:
            msg = f"chunk_bytes must be at least 1, got {chunk_bytes}; leave it out for pieces of 4 MiB"
            raise InvalidValueError(msg)
        _checked(container, name)
        return self._chunks(container, name, chunk_bytes)

    def write(self, container: str, name: str, content: bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> BlobProperties:
        """Write a blob whole; replaces one of the same name, creates the container where it is missing."""
        _checked(container, name)
        now = datetime.now(UTC)
        properties = BlobProperties(
            container=container,
            name=name,
            size_bytes=len(content),
            content_type=content_type,
            etag=hashlib.sha256(content + now.isoformat().encode()).hexdigest(),
            last_modified=now,
        )
        with self._lock:
            self._containers.setdefault(container, {})[name] = (properties, bytes(content))
        return properties

    def copy(self, container: str, name: str, target_container: str, target_name: str) -> BlobProperties:
        """Copy a blob within the store, content type included.

        Raises:
            BlobNotFoundError: The source is not there.
        """
        properties, content = self._get(container, name)
        return self.write(target_container, target_name, content, content_type=properties.content_type)

    def exists(self, container: str, name: str) -> bool:
        """Return whether the blob is there."""
        _checked(container, name)
        with self._lock:
            return container in self._containers and name in self._containers[container]

    def delete(self, container: str, name: str) -> None:
        """Delete a blob.

        Raises:
            BlobNotFoundError: It is not there.
        """
        self._get(container, name)
        with self._lock:
            self._containers[container].pop(name, None)

    def properties(self, container: str, name: str) -> BlobProperties:
        """Return a blob's properties.

        Raises:
            BlobNotFoundError: It is not there.
        """
        return self._get(container, name)[0]

    def _get(self, container: str, name: str) -> tuple[BlobProperties, bytes]:
        _checked(container, name)
        with self._lock:
            if container in self._containers and name in self._containers[container]:
                return self._containers[container][name]
        msg = f"blob {name!r} of container {container!r} does not exist in memory; check both names, or write the blob first"
        raise BlobNotFoundError(msg)

    def _listed(self, container: str, prefix: str) -> Iterator[BlobProperties]:
        with self._lock:
            if container not in self._containers:
                msg = f"container {container!r} does not exist in memory; check its name, or write a blob first"
                raise BlobNotFoundError(msg)
            found = sorted(self._containers[container].items())
        yield from (properties for name, (properties, _) in found if name.startswith(prefix))

    def _chunks(self, container: str, name: str, chunk_bytes: int) -> Iterator[bytes]:
        content = self.read(container, name)
        yield from (content[start : start + chunk_bytes] for start in range(0, len(content), chunk_bytes))


def _checked(container: str, name: str) -> None:
    validate_container_name(container)
    validate_blob_name(name)
