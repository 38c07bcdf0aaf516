"""What a store tells of its schema."""

from enum import StrEnum
from typing import Final

from stageflow.contracts.base import LateContract

SCHEMA_VERSION: Final = 4
"""The schema version that this code reads and writes."""


class SchemaState(StrEnum):
    """How a store's schema relates to this code."""

    MISSING = "missing"
    OLDER = "older"
    CURRENT = "current"
    NEWER = "newer"


class SchemaReport(LateContract):
    """The answer of ``verify``.

    Attributes:
        version: Version of the newest applied migration; 0 where there is none.
        drifts: One sentence for each difference between the store and what the migrations make.
        unchecked: What could not be compared, and who can; empty where everything was.
    """

    state: SchemaState
    version: int
    drifts: list[str]
    unchecked: str = ""

    @property
    def up_to_date(self) -> bool:
        """Whether the schema is current and nothing drifted."""
        return self.state is SchemaState.CURRENT and not self.drifts
