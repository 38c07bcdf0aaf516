"""What one round of upkeep did."""

from pydantic import Field

from stageflow.contracts.base import LateContract
from stageflow.contracts.lease import Recovery


class Maintenance(LateContract):
    """The answer of ``maintain``.

    Attributes:
        announced: Messages that were sent.
        overdue: Jobs that failed because a deadline had passed.
        scheduled: Jobs that schedules made.
    """

    recovery: Recovery
    announced: int = Field(ge=0)
    overdue: int = Field(default=0, ge=0)
    scheduled: int = Field(default=0, ge=0)
