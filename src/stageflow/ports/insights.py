"""What people ask when work is late: answers that change nothing."""

from collections.abc import Sequence
from typing import Protocol

from stageflow.contracts.open_work import OpenGroup


class InsightStore(Protocol):
    """Answers that change nothing."""

    def list_open_work(self, stage_ids: Sequence[int], *, heads: int) -> list[OpenGroup]:
        """Return the ranges of stages that have not ended, in groups by stage, kind and state, as seen at one moment.

        Costs by the number of ranges, never of tasks.

        Args:
            stage_ids: The stages, in any order; the answer is ordered by them, then by kind and state.
            heads: How many ranges of each group are told one by one.
        """
        ...
