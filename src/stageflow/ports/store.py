"""A database, whole."""

from datetime import datetime
from typing import Protocol

from stageflow.ports.audits import AuditStore
from stageflow.ports.checkpoints import CheckpointStore
from stageflow.ports.completions import CompletionStore
from stageflow.ports.deadlines import DeadlineStore
from stageflow.ports.events import EventStore
from stageflow.ports.insights import InsightStore
from stageflow.ports.jobs import JobStore
from stageflow.ports.leases import LeaseStore
from stageflow.ports.limits import LimitStore
from stageflow.ports.outbox import OutboxStore
from stageflow.ports.plans import PlanStore
from stageflow.ports.retention import RetentionStore
from stageflow.ports.schedules import ScheduleStore
from stageflow.ports.schema import SchemaStore
from stageflow.ports.tasks import TaskStore
from stageflow.ports.transactions import TransactionStore
from stageflow.ports.wakeup import Wakeup


class Store(
    JobStore,
    TaskStore,
    PlanStore,
    LeaseStore,
    LimitStore,
    CompletionStore,
    TransactionStore,
    CheckpointStore,
    OutboxStore,
    RetentionStore,
    SchemaStore,
    InsightStore,
    AuditStore,
    DeadlineStore,
    EventStore,
    ScheduleStore,
    Protocol,
):
    """A database, whole."""

    @property
    def url(self) -> str:
        """The store's address, without secrets."""
        ...

    def now(self) -> datetime:
        """Return the store's time, aware, in UTC; it alone decides what is due."""
        ...

    def work_wakeup(self) -> Wakeup:
        """Return a wakeup that fires when work became ready."""
        ...

    def job_wakeup(self, job_id: str) -> Wakeup:
        """Return a wakeup that fires when the job ended."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
