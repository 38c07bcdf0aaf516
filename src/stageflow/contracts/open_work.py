"""Work that has not ended, as the store shows it to those who only look."""

from enum import StrEnum

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.lease import WorkKind


class OpenState(StrEnum):
    """Where a range that has not ended stands."""

    READY = "ready"
    LEASED = "leased"
    WAITING = "waiting"
    HELD = "held"


class OpenRange(LateContract):
    """One range that has not ended.

    Attributes:
        work_type: What a worker must know to claim it.
        attempt: The attempt that runs, or that is to be run next, from 1.
        deaths: Workers that died over it while it was a range of one.
        not_before: When a waiting range may be claimed.
        worker_id: Its holder, while it is leased.
        renewed_at: The last proof of life for a lease, or for the last lease before it was given back.
        current_index: The task that its holder is at.
        current_since: Since when it is at that task, as its heartbeats said.
        error_details: How its last attempt failed.
        announced_at: When the external queue was last told of it; ``None`` where it has not been since it became ready.
    """

    range_id: int
    stage_id: int
    kind: WorkKind
    work_type: str
    state: OpenState
    first: int = Field(ge=0)
    last: int = Field(ge=1)
    attempt: int = Field(ge=1)
    deaths: int = Field(ge=0)
    not_before: UtcDatetime | None
    worker_id: str | None
    lease_expires_at: UtcDatetime | None
    renewed_at: UtcDatetime | None
    current_index: int | None
    current_since: UtcDatetime | None
    error_details: str | None
    announced_at: UtcDatetime | None
    created_at: UtcDatetime

    @property
    def width(self) -> int:
        """How many tasks it holds; 1 for planning and advancing."""
        return self.last - self.first

    @property
    def touched_at(self) -> UtcDatetime:
        """The last time that is known at which it was made or leased: it was not ready for longer than since then."""
        return self.created_at if self.renewed_at is None else max(self.created_at, self.renewed_at)


class OpenGroup(LateContract):
    """The open ranges of a stage that are of one kind and in one state.

    Attributes:
        range_count: How many there are.
        task_count: How many tasks they hold together.
        heads: The first of them: those due first, those whose lease ends first, or those of the lowest indexes.
    """

    stage_id: int
    kind: WorkKind
    state: OpenState
    range_count: int = Field(ge=1)
    task_count: int = Field(ge=1)
    heads: list[OpenRange]
