"""The tasks of a stage on their way into the store, chunk by chunk."""

import hashlib
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from stageflow.contracts.base import LateContract
from stageflow.contracts.lease import Lease


class PlanChunk(LateContract):
    """Consecutive tasks of a stage under planning, written in one transaction.

    Attributes:
        first_index: Index of the first task; equals the stage's ``task_count`` before this chunk.
        parameters: Task parameters as JSON text, in index order.
        keys: Task keys, parallel to ``parameters``; empty when no task of the chunk has one.
        digest: :class:`PlanDigest` after this chunk.
        final: This is the last chunk: planning ends, and the barrier may fall.
        claimable: The tasks may be claimed at once; otherwise when the final chunk is written.
        range_count: How many ranges the new tasks start as.
        replace: Tasks written before (by a planner that cannot repeat itself) are dropped first.
    """

    range_id: int
    token: int
    stage_id: int
    first_index: int = Field(ge=0)
    parameters: list[str]
    keys: list[str | None] = Field(default_factory=list)
    digest: str
    final: bool
    claimable: bool = True
    range_count: int = Field(default=8, ge=1, le=10_000)
    replace: bool = False

    @model_validator(mode="after")
    def _keys_are_parallel(self) -> Self:
        if self.keys and len(self.keys) != len(self.parameters):
            msg = f"{len(self.parameters)} tasks but {len(self.keys)} keys; give one per task, or none at all"
            raise ValueError(msg)
        return self


class PlanOutcome(StrEnum):
    """What the store did with a chunk. ``STALE``, ``PAUSED`` and ``JOB_ENDED``: nothing was written."""

    RECORDED = "recorded"
    STALE = "stale"
    PAUSED = "paused"
    JOB_ENDED = "job_ended"


class FirstLease(LateContract):
    """The planner's wish to run the first of the tasks that it adds.

    Attributes:
        max_tasks: The most tasks that the lease may hold.
        lease_seconds: How long it holds without a heartbeat.
    """

    worker_id: str = Field(min_length=1, max_length=200)
    max_tasks: int = Field(ge=1)
    lease_seconds: float = Field(gt=0, le=604_800)


class PlanAnswer(LateContract):
    """The answer to a chunk whose planner wants to run the first of its tasks.

    Attributes:
        lease: On the first tasks of the chunk; ``None`` where there are none to be had.
    """

    outcome: PlanOutcome
    lease: Lease | None = None


class PlanDigest:
    """A running SHA-256 over the length-framed task parameters of a plan, in order.

    A second planning after a crash compares it with the stored one, to know that it plans the same tasks again. Where the
    chunks were cut does not matter.
    """

    def __init__(self) -> None:
        self._running = hashlib.sha256()

    def update(self, parameters: list[str]) -> str:
        """Add tasks and return the digest of the plan so far."""
        for text in parameters:
            encoded = text.encode()
            self._running.update(b"%d:%b" % (len(encoded), encoded))
        return self._running.hexdigest()
