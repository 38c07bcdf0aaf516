"""The holes in the wall: what the engine needs of a technology.

A backend need not import these protocols to satisfy them. Every method of a store is one transaction, commits before it
returns, and raises ``StoreUnreachableError`` when it cannot tell whether it did. Methods that write take fencing tokens;
a token that is no longer the range's changes nothing and is answered by a typed outcome.
"""

from stageflow.ports.audits import AuditStore
from stageflow.ports.blobs import BlobStore
from stageflow.ports.checkpoints import CheckpointStore
from stageflow.ports.clock import Clock
from stageflow.ports.completions import CompletionStore
from stageflow.ports.deadlines import DeadlineStore
from stageflow.ports.engine import Engine
from stageflow.ports.events import EventStore
from stageflow.ports.insights import InsightStore
from stageflow.ports.jobs import JobStore
from stageflow.ports.leases import LeaseStore
from stageflow.ports.limits import LimitStore
from stageflow.ports.outbox import OutboxStore
from stageflow.ports.plans import PlanStore
from stageflow.ports.queue import Queue
from stageflow.ports.retention import RetentionStore
from stageflow.ports.schedules import ScheduleStore
from stageflow.ports.schema import SchemaStore
from stageflow.ports.store import Store
from stageflow.ports.tasks import TaskStore
from stageflow.ports.wakeup import Wakeup

__all__ = [
    "AuditStore",
    "BlobStore",
    "CheckpointStore",
    "Clock",
    "CompletionStore",
    "DeadlineStore",
    "Engine",
    "EventStore",
    "InsightStore",
    "JobStore",
    "LeaseStore",
    "LimitStore",
    "OutboxStore",
    "PlanStore",
    "Queue",
    "RetentionStore",
    "ScheduleStore",
    "SchemaStore",
    "Store",
    "TaskStore",
    "Wakeup",
]
