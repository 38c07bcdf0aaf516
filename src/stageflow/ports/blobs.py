"""Named bytes in containers."""

from collections.abc import Iterator
from typing import Protocol

from stageflow.contracts.blob import BlobProperties


class BlobStore(Protocol):
    """Named bytes in containers."""

    def list_blobs(self, container: str, *, prefix: str = "") -> Iterator[BlobProperties]:
        """Yield the blobs of a container whose name starts with ``prefix``, in name order.

        Raises:
            BlobNotFoundError: There is no such container; raised when the first blob is asked for.
        """
        ...

    def read(self, container: str, name: str) -> bytes:
        """Return the content of a blob."""
        ...

    def read_chunks(self, container: str, name: str, *, chunk_bytes: int = 4_194_304) -> Iterator[bytes]:
        """Yield the content of a blob piece by piece."""
        ...

    def write(
        self,
        container: str,
        name: str,
        content: bytes,
        *,
        content_type: str = "application/octet-stream",
    ) -> BlobProperties:
        """Write a blob whole; replaces one of the same name, creates the container where it is missing."""
        ...

    def copy(self, container: str, name: str, target_container: str, target_name: str) -> BlobProperties:
        """Copy a blob within the store."""
        ...

    def exists(self, container: str, name: str) -> bool:
        """Return whether the blob is there."""
        ...

    def delete(self, container: str, name: str) -> None:
        """Delete a blob.

        Raises:
            BlobNotFoundError: It is not there.
        """
        ...

    def properties(self, container: str, name: str) -> BlobProperties:
        """Return a blob's properties."""
        ...
