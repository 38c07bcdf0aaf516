"""A worker process, as the store knows it."""

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime


class WorkerRecord(LateContract):
    """A live worker.

    Attributes:
        worker_id: Unique per process start.
        slots: How many leases it runs at a time.
        work_types: What it can do.
        seen_at: Its last heartbeat, by the store's clock; set by the store.
    """

    worker_id: str = Field(min_length=1, max_length=200)
    host: str
    pid: int
    slots: int = Field(ge=1)
    work_types: list[str]
    started_at: UtcDatetime
    seen_at: UtcDatetime
