"""Relay ready work to an external queue: after the commit, any number of times, never before."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.outbox import Announcement
from stageflow.errors import MessagesUnsentError
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry

RELAY_BATCH = 500


@dataclass(frozen=True)
class Bundle:
    """One message, and the ranges that it names."""

    message: JobQueueMessage | TaskQueueMessage
    announced: list[Announcement]


def all_of_them(waiting: list[Announcement]) -> list[Announcement]:
    """Choose everything: where one process relays, nobody else does."""
    return waiting


def one_range(message: TaskQueueMessage) -> int:  # noqa: ARG001  the shape of a size
    """Let a message name no more than its range: how long its tasks take is not known."""
    return 0


def no_listener() -> None:
    """Do nothing: nobody here waits for messages."""


def relay_announcements(
    repositories: Repositories,
    queue: Queue,
    telemetry: Telemetry,
    *,
    older_than_seconds: float | None = None,
    choose: Callable[[list[Announcement]], list[Announcement]] = all_of_them,
    most_tasks: Callable[[TaskQueueMessage], int] = one_range,
    on_sent: Callable[[], None] = no_listener,
) -> int:
    """Send messages for ready ranges that were not announced yet, then note that they were; returns how many messages.

    A crash between the two sends a message twice, which changes nothing: the claim in the database decides. What could not be
    sent stays in the outbox.

    Args:
        older_than_seconds: Also announce again what was announced longer ago and is still ready: the cure for lost messages.
        choose: Which of them this process sends now; what is left, another does, or this one later.
        most_tasks: How many tasks like those of a message one message may name: what is short travels in bundles.
        on_sent: Called as soon as messages are there to be received, before that is noted.

    Raises:
        MessagesUnsentError: Some could not be sent; the others were, and are noted.
    """
    waiting: list[Announcement] = repositories.store.list_unannounced(older_than_seconds=older_than_seconds, limit=RELAY_BATCH)
    bundles = bundle(choose(waiting), most_tasks) if waiting else []
    if not bundles:
        return 0
    try:
        queue.send([each.message for each in bundles])
    except MessagesUnsentError as error:
        unsent = set(error.unsent)
        _note(repositories, telemetry, [each for place, each in enumerate(bundles) if place not in unsent])
        raise
    on_sent()
    _note(repositories, telemetry, bundles)
    return len(bundles)


def bundle(announcements: Iterable[Announcement], most_tasks: Callable[[TaskQueueMessage], int]) -> list[Bundle]:
    """Return the messages to send: neighbouring ranges of a stage in one, as long as it names few enough tasks."""
    bundles: list[Bundle] = []
    for announcement in sorted(announcements, key=_order):
        last = bundles[-1] if bundles else None
        merged = _merged(last.message, announcement.message, most_tasks) if last is not None else None
        if last is None or merged is None:
            bundles.append(Bundle(announcement.message, [announcement]))
        else:
            bundles[-1] = Bundle(merged, [*last.announced, announcement])
    return bundles


def _merged(
    first: JobQueueMessage | TaskQueueMessage,
    second: JobQueueMessage | TaskQueueMessage,
    most_tasks: Callable[[TaskQueueMessage], int],
) -> TaskQueueMessage | None:
    match first, second:
        case TaskQueueMessage(), TaskQueueMessage() if second.first == first.last:
            both = first.model_copy(update={"last": second.last})
            follows = second == first.model_copy(update={"first": second.first, "last": second.last})
            return both if follows and both.last - both.first <= most_tasks(both) else None
        case _:
            return None


def _order(announcement: Announcement) -> tuple[int, str, int, int, int, int]:
    """Return where an announcement stands: job messages first, then by stage and first index."""
    match announcement.message:
        case JobQueueMessage() as job:
            return (0, job.job_id, job.run, job.stage_number, 0, announcement.range_id)
        case TaskQueueMessage() as task:
            return (1, task.job_id, task.run, task.stage_number, task.generation, task.first)


def _note(repositories: Repositories, telemetry: Telemetry, bundles: list[Bundle]) -> None:
    ranges = [announcement.range_id for each in bundles for announcement in each.announced]
    if ranges:
        repositories.store.mark_announced(ranges)
        telemetry.emit("work_announced", messages=len(bundles), ranges=len(ranges))
