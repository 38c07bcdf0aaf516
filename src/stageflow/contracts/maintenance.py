"""What one round of upkeep did."""

from pydantic import Field

from stageflow.contracts.base import LateContract
from stageflow.contracts.lease import Recovery


class Maintenance(LateContract):
    """The answer of ``maintain``.

    Attributes:
        announced: Messages that were sent.
    """

    recovery: Recovery
    announced: int = Field(ge=0)
