"""The suite of the ``Store`` port: every promise of its methods, for any backend."""

from stageflow.testing.conformance.advance import AdvanceConformance
from stageflow.testing.conformance.agreement import AgreementConformance
from stageflow.testing.conformance.audits import AuditConformance
from stageflow.testing.conformance.builders import MovableStore
from stageflow.testing.conformance.bundles import BundleClaimConformance, BundleConformance
from stageflow.testing.conformance.checkpoints import CheckpointConformance
from stageflow.testing.conformance.claims import ClaimConformance, FairnessConformance
from stageflow.testing.conformance.completion import BarrierConformance, CompletionConformance, RetryConformance
from stageflow.testing.conformance.connection import ApplicationConnection, ConnectionConformance
from stageflow.testing.conformance.deadlines import DeadlineConformance
from stageflow.testing.conformance.ending import JobCompletionConformance
from stageflow.testing.conformance.fencing import FencingConformance
from stageflow.testing.conformance.groups import GroupConformance
from stageflow.testing.conformance.halting import CloseTaskConformance, PolicyConformance
from stageflow.testing.conformance.history import HistoryConformance, JobHistoryConformance, TaskHistoryConformance
from stageflow.testing.conformance.insights import OpenWorkConformance
from stageflow.testing.conformance.job_status import EndJobConformance, JobStatusConformance
from stageflow.testing.conformance.jobs import JobConformance
from stageflow.testing.conformance.leases import HeartbeatConformance, ReturnConformance
from stageflow.testing.conformance.limited_machine import LimitedScheduleConformance
from stageflow.testing.conformance.limits import (
    DeclaredLimitConformance,
    JobLimitConformance,
    RateConformance,
    RunningLimitConformance,
    TypePauseConformance,
)
from stageflow.testing.conformance.machine import ScheduleConformance
from stageflow.testing.conformance.named_claims import NamedClaimConformance
from stageflow.testing.conformance.outbox import DeadLetterConformance, OutboxConformance, WorkerConformance
from stageflow.testing.conformance.partials import PartialConformance
from stageflow.testing.conformance.pausing import PauseConformance
from stageflow.testing.conformance.plan import PlanConformance
from stageflow.testing.conformance.recovery import RecoveryConformance, SweepConformance, WatchedRecoveryConformance
from stageflow.testing.conformance.repair import RepairConformance, RepairGroupConformance, RepairGuardConformance
from stageflow.testing.conformance.resubmission import (
    FormerRunConformance,
    ResubmitConformance,
    ResubmitFromStageConformance,
)
from stageflow.testing.conformance.results import ResultConformance, StageResultConformance
from stageflow.testing.conformance.retention import PurgeConformance, PurgeLettersConformance
from stageflow.testing.conformance.schedules import CronConformance
from stageflow.testing.conformance.schema import SchemaConformance
from stageflow.testing.conformance.sharing import SharingConformance
from stageflow.testing.conformance.storms import StormConformance
from stageflow.testing.conformance.transactions import TransactionConformance
from stageflow.testing.conformance.wakeup import ClockConformance, WakeupConformance

__all__ = [
    "ApplicationConnection",
    "ConnectionConformance",
    "MovableStore",
    "SchemaConformance",
    "SharingConformance",
    "StoreConformance",
]


class StoreConformance(
    JobConformance,
    JobStatusConformance,
    PauseConformance,
    EndJobConformance,
    ResubmitConformance,
    FormerRunConformance,
    ResubmitFromStageConformance,
    RepairConformance,
    RepairGroupConformance,
    RepairGuardConformance,
    ClaimConformance,
    FairnessConformance,
    BundleClaimConformance,
    BundleConformance,
    NamedClaimConformance,
    RunningLimitConformance,
    DeclaredLimitConformance,
    TypePauseConformance,
    RateConformance,
    JobLimitConformance,
    HeartbeatConformance,
    ReturnConformance,
    FencingConformance,
    PlanConformance,
    CompletionConformance,
    RetryConformance,
    BarrierConformance,
    StormConformance,
    PolicyConformance,
    CloseTaskConformance,
    AdvanceConformance,
    GroupConformance,
    JobCompletionConformance,
    RecoveryConformance,
    WatchedRecoveryConformance,
    SweepConformance,
    AgreementConformance,
    ResultConformance,
    StageResultConformance,
    PartialConformance,
    CheckpointConformance,
    TransactionConformance,
    OutboxConformance,
    DeadLetterConformance,
    PurgeConformance,
    PurgeLettersConformance,
    WorkerConformance,
    OpenWorkConformance,
    AuditConformance,
    DeadlineConformance,
    HistoryConformance,
    TaskHistoryConformance,
    JobHistoryConformance,
    CronConformance,
    ClockConformance,
    WakeupConformance,
    ScheduleConformance,
    LimitedScheduleConformance,
):
    """Everything a store must do, told as scenarios against a store that a subclass gives.

    A subclass defines the fixture ``store`` (migrated, empty, nobody else's) and the method ``corrupt_stage_result``. A store
    whose database can be reached from outside also passes :class:`ConnectionConformance` and :class:`SharingConformance`, and
    every store passes :class:`SchemaConformance`; they are classes of their own, because they need other fixtures.
    """
