"""Looks after the blobs of payloads that are too large for a row."""

from collections.abc import Iterator

from stageflow.errors import BlobError
from stageflow.insights.diagnosis import Ailment, AilmentKind
from stageflow.insights.words import counted
from stageflow.repositories import Repositories, find_orphans


def examine_payloads(repositories: Repositories, *, repair: bool) -> Iterator[Ailment]:
    """Yield what is wrong with the blob store of payloads: it does not answer, or holds blobs of jobs that are not there.

    Args:
        repair: Delete those blobs.
    """
    store = repositories.store
    try:
        found = find_orphans(store, repositories.payloads, store.now(), remove=repair)
    except BlobError as error:
        yield Ailment(
            kind=AilmentKind.PAYLOADS_UNREACHABLE,
            text=f"the blob store of payloads that are too large for a row cannot be looked at: {error}",
            advice="see that it can be reached; until then work that needs such payloads waits",
        )
        return
    if found.blobs:
        yield Ailment(
            kind=AilmentKind.PAYLOADS_ORPHANED,
            text=f"{counted(found.blobs, 'payload blob')} of jobs that are not there ({found.size_bytes} bytes), such as "
            f"{found.examples[0]}",
            advice="nothing: they are deleted" if repair else "delete them with `stageflow doctor --repair`",
            mended=repair,
        )
