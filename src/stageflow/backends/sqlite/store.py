"""The whole store, composed of its parts."""

from datetime import datetime

from stageflow.backends.sqlite.advance import SqliteAdvance
from stageflow.backends.sqlite.audits import SqliteAudits
from stageflow.backends.sqlite.checkpoints import SqliteCheckpoints
from stageflow.backends.sqlite.clock import from_micros
from stageflow.backends.sqlite.closing import SqliteClosing
from stageflow.backends.sqlite.completion import SqliteCompletion
from stageflow.backends.sqlite.deadlines import SqliteDeadlines
from stageflow.backends.sqlite.ending import SqliteEnding
from stageflow.backends.sqlite.events import SqliteEvents
from stageflow.backends.sqlite.holding import SqliteHolding
from stageflow.backends.sqlite.insights import SqliteInsights
from stageflow.backends.sqlite.jobs import SqliteJobs
from stageflow.backends.sqlite.leases import SqliteClaims
from stageflow.backends.sqlite.limits import SqliteLimits
from stageflow.backends.sqlite.mending import SqliteMending
from stageflow.backends.sqlite.named import SqliteNamedClaims
from stageflow.backends.sqlite.outbox import SqliteOutbox
from stageflow.backends.sqlite.plan import SqlitePlan
from stageflow.backends.sqlite.recovery import SqliteRecovery
from stageflow.backends.sqlite.repair import SqliteRepair
from stageflow.backends.sqlite.resubmission import SqliteResubmission
from stageflow.backends.sqlite.retention import SqliteRetention
from stageflow.backends.sqlite.schedules import SqliteSchedules
from stageflow.backends.sqlite.schema import SqliteSchema
from stageflow.backends.sqlite.tasks import SqliteTasks
from stageflow.backends.sqlite.transactions import SqliteTransactions
from stageflow.backends.sqlite.wakeup import JobWakeup, WorkWakeup


class SqliteStore(
    SqliteJobs,
    SqliteTasks,
    SqlitePlan,
    SqliteClaims,
    SqliteNamedClaims,
    SqliteLimits,
    SqliteHolding,
    SqliteRecovery,
    SqliteCheckpoints,
    SqliteCompletion,
    SqliteTransactions,
    SqliteClosing,
    SqliteAdvance,
    SqliteEnding,
    SqliteResubmission,
    SqliteRepair,
    SqliteOutbox,
    SqliteInsights,
    SqliteAudits,
    SqliteMending,
    SqliteRetention,
    SqliteDeadlines,
    SqliteEvents,
    SqliteSchedules,
    SqliteSchema,
):
    """A store in one SQLite file, or in memory (``":memory:"``), shared by all threads of the process.

    Several processes can share a file on a local disk. Nothing is opened before the first call, and only :meth:`migrate`
    makes the file. After a fork the child needs a store of its own.

    Args:
        path: Path of the file, or ``":memory:"``.
        clock: Where time comes from; the system's clock by default.
        busy_seconds: How long to wait for other processes that write, before ``StoreUnreachableError``.
    """

    @property
    def url(self) -> str:
        """The store's address."""
        return self._database.url

    def now(self) -> datetime:
        """Return the store's time, aware, in UTC; it alone decides what is due."""
        return from_micros(self._clock.micros())

    def move_clock(self, seconds: float) -> None:
        """Move this store object's time; for tests."""
        self._clock.move(seconds)

    def work_wakeup(self) -> WorkWakeup:
        """Return a wakeup that fires when work became ready."""
        return WorkWakeup(self._database)

    def job_wakeup(self, job_id: str) -> JobWakeup:
        """Return a wakeup that fires when the job ended."""
        return JobWakeup(self._database, job_id)

    def close(self) -> None:
        """Close all connections; the store cannot be used afterwards."""
        self._database.close()
