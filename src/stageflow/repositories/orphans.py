"""Payload blobs whose job is not in the store: what a purge or a crash left behind."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from stageflow.contracts.blob import BlobProperties
from stageflow.errors import BlobNotFoundError
from stageflow.ports import BlobStore, Store
from stageflow.repositories.payloads import PayloadShelf


class Orphans(NamedTuple):
    """What was found, or removed."""

    blobs: int
    size_bytes: int
    examples: tuple[str, ...]


def find_orphans(store: Store, shelf: PayloadShelf, before: datetime, *, remove: bool) -> Orphans:
    """Return the payload blobs of jobs that the store does not have, written before a time and before the grace period.

    A job that is just being submitted has blobs before it has a row: its blobs are as young as that, also those of a job that
    was there before and is submitted again, for submitting writes them again.

    Args:
        store: The store.
        shelf: Its blobs; the container is read whole.
        before: Younger blobs are left alone.
        remove: Delete them.

    Raises:
        BlobStoreUnreachableError: The blob store does not answer.
    """
    blobs = shelf.blobs
    if blobs is None:
        return Orphans(0, 0, ())
    before = min(before, store.now() - timedelta(seconds=shelf.options.grace_seconds))
    found = [
        blob for blob in _orphans(store, blobs, shelf.options.container, before) if not remove or _removed(blobs, blob, before)
    ]
    return Orphans(len(found), sum(blob.size_bytes for blob in found), tuple(blob.name for blob in found[:3]))


def _orphans(store: Store, blobs: BlobStore, container: str, before: datetime) -> Iterator[BlobProperties]:
    try:
        listed = blobs.list_blobs(container)
        for job_id, group in groupby(listed, key=lambda blob: blob.name.partition("/")[0]):
            old = [blob for blob in group if blob.last_modified < before]
            if old and not _is_there(store, job_id):
                yield from old
    except BlobNotFoundError:
        return  # nothing was ever written


def _is_there(store: Store, job_id: str) -> bool:
    return bool(store.list_jobs(status=None, job_type=None, id_prefix=job_id, limit=1, after=None))


def _removed(blobs: BlobStore, blob: BlobProperties, before: datetime) -> bool:
    """Delete a blob unless it was written again since it was listed."""
    try:
        if blobs.properties(blob.container, blob.name).last_modified >= before:
            return False
        blobs.delete(blob.container, blob.name)
    except BlobNotFoundError:
        return False  # a rival was faster
    return True
