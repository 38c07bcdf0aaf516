"""How a worker works."""

from typing import Self

from pydantic import Field, model_validator

from stageflow.contracts.base import Contract


class WorkerOptions(Contract):
    """Settings of one worker process; all times in seconds.

    Attributes:
        slots: Threads that run leases; each holds one at a time.
        lease_seconds: How long a lease holds without a heartbeat: the time until a dead worker's work is taken over.
        beat_seconds: Time between heartbeats.
        poll_seconds: How often to look for work when nothing wakes the worker.
        grace_seconds: How long a stopping worker lets running handlers finish.
        recover_seconds: Time between rounds of recovery.
        death_budget: How many workers may die over one task before it is failed: its last permitted run is alone in a child
            process, so with 1 it has none. Twice as many where the child did not tell, and over planning and advancing.
        processes: Child processes for handlers declared ``cpu_bound``.
        stop_seconds: How long a handler whose timeout is over may take to stop, before its thread is left alone.
        cancel_grace_seconds: How long a handler whose work is no longer wanted (its job ended, its lease was lost) may take to
            stop, before its child process is killed, or its thread or coroutine left alone, where it can be.
    """

    slots: int = Field(default=4, ge=1, le=1000)
    lease_seconds: float = Field(default=30.0, gt=0, le=86_400)
    beat_seconds: float = Field(default=10.0, gt=0, le=3600)
    poll_seconds: float = Field(default=1.0, gt=0, le=3600)
    grace_seconds: float = Field(default=30.0, ge=0, le=86_400)
    recover_seconds: float = Field(default=5.0, gt=0, le=3600)
    death_budget: int = Field(default=3, ge=1, le=100)
    processes: int = Field(default=2, ge=1, le=256)
    stop_seconds: float = Field(default=5.0, ge=0, le=86_400)
    cancel_grace_seconds: float = Field(default=10.0, ge=0, le=86_400)

    @model_validator(mode="after")
    def _beats_often_enough(self) -> Self:
        if self.beat_seconds * 2 > self.lease_seconds:
            msg = f"beat_seconds {self.beat_seconds} must be at most half of lease_seconds {self.lease_seconds}; lower it"
            raise ValueError(msg)
        return self
