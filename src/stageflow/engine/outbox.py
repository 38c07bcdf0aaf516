"""Relay ready work to an external queue: after the commit, any number of times, never before."""

from stageflow.contracts.outbox import Announcement
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry

RELAY_BATCH = 500


def relay_announcements(
    repositories: Repositories,
    queue: Queue,
    telemetry: Telemetry,
    *,
    older_than_seconds: float | None = None,
) -> int:
    """Send a message for each ready range that was not announced yet, then note that it was; returns how many.

    A crash between the two sends a message twice, which changes nothing: the claim in the database decides.

    Args:
        older_than_seconds: Also announce again what was announced longer ago and is still ready: the cure for lost messages.
    """
    waiting: list[Announcement] = repositories.store.list_unannounced(older_than_seconds=older_than_seconds, limit=RELAY_BATCH)
    if not waiting:
        return 0
    queue.send([announcement.message for announcement in waiting])
    repositories.store.mark_announced([announcement.range_id for announcement in waiting])
    telemetry.emit("work_announced", messages=len(waiting))
    return len(waiting)
