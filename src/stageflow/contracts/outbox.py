"""Ready work that an external queue is to be told about."""

from stageflow.contracts.base import LateContract
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage


class Announcement(LateContract):
    """A ready range that waits to be announced, and the message that does it."""

    range_id: int
    message: JobQueueMessage | TaskQueueMessage
