"""The PostgreSQL store, whole."""

from datetime import datetime

from stageflow.backends.postgres.audits import Audits
from stageflow.backends.postgres.checkpoints import Checkpoints
from stageflow.backends.postgres.completion import Completions
from stageflow.backends.postgres.deadlines import Deadlines
from stageflow.backends.postgres.events import Events
from stageflow.backends.postgres.insights import Insights
from stageflow.backends.postgres.leases import Leases
from stageflow.backends.postgres.limits import Limits
from stageflow.backends.postgres.outbox import Outbox
from stageflow.backends.postgres.plan import Plans
from stageflow.backends.postgres.pool import ConnectionFactory, Database
from stageflow.backends.postgres.repair import Repairs
from stageflow.backends.postgres.resubmission import Resubmissions
from stageflow.backends.postgres.retention import Retention
from stageflow.backends.postgres.schedules import Schedules
from stageflow.backends.postgres.schema import Schema
from stageflow.backends.postgres.transactions import Transactions
from stageflow.backends.postgres.wakeup import JOB_CHANNEL, WORK_CHANNEL, Listeners, ListenWakeup


class PostgresStore(
    Resubmissions,
    Repairs,
    Completions,
    Transactions,
    Checkpoints,
    Plans,
    Leases,
    Limits,
    Deadlines,
    Events,
    Schedules,
    Outbox,
    Insights,
    Audits,
    Retention,
    Schema,
):
    """Satisfies ``stageflow.ports.Store`` on PostgreSQL 15 or newer; may be shared by any number of threads.

    Each atomic fact is one stored function, called in one round trip, in a transaction of its own. Nothing is opened before
    the first call.

    Args:
        dsn: The address, or a function that returns a new connection (for credentials that expire, for instance).
        pool_size: The most connections that the store holds; each wakeup has one more, and each transaction of a handler.
    """

    def __init__(self, dsn: str | ConnectionFactory, *, pool_size: int = 10) -> None:
        super().__init__(Database(dsn, pool_size=pool_size))
        self._listeners = Listeners(self._database.connector)

    @property
    def url(self) -> str:
        """The server's address, without secrets."""
        return self._database.url

    def now(self) -> datetime:
        """Return the store's time, aware, in UTC."""
        return self._database.now()

    def move_clock(self, seconds: float) -> None:
        """Move the store's time for all later calls of this object; for tests."""
        self._database.move_clock(seconds)

    def work_wakeup(self) -> ListenWakeup:
        """Return a wakeup that fires when work became ready."""
        return ListenWakeup(self._listeners, WORK_CHANNEL)

    def job_wakeup(self, job_id: str) -> ListenWakeup:
        """Return a wakeup that fires when the job ended."""
        return ListenWakeup(self._listeners, JOB_CHANNEL, job_id)

    def close(self) -> None:
        """Close all connections."""
        self._listeners.close()
        self._database.close()
