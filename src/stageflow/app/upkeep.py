"""What keeps an app's store in order."""

from datetime import timedelta
from functools import partial
from typing import Final

from stageflow.app.connected import Connected
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.maintenance import Maintenance
from stageflow.contracts.retention import Purge
from stageflow.contracts.schema import SchemaReport
from stageflow.contracts.status import JobStatus
from stageflow.engine.deadlines import end_overdue
from stageflow.engine.outbox import relay_announcements
from stageflow.engine.purge import purge_ended
from stageflow.engine.recover import recover_work
from stageflow.engine.round import Round
from stageflow.engine.schedules import fire_due
from stageflow.insights import Diagnosis, examine_store

_REANNOUNCE_SECONDS: Final = 60.0


class Upkeep(Connected):
    """Keeps a store in order."""

    @enforce_contract
    def purge(
        self, older_than: timedelta, *, status: JobStatus | None = None, dry_run: bool = True, limit: int = 1000
    ) -> Purge:
        """Delete ended jobs that were not changed for so long, with all that belongs to them; a dry run unless told otherwise.

        All runs of a job go together. Without a status also dead letters go that are as old and were requeued or discarded.

        Args:
            older_than: The age, by the store's clock.
            status: Only jobs that ended so, and no dead letters.
            dry_run: Delete nothing, only say what would go.
            limit: Delete at most so many jobs, and so many letters, 1 to 1,000,000.

        Raises:
            InvalidValueError: The age or the limit is out of range; nothing was deleted.
            InvalidTransitionError: The status is not one of a job that has ended; nothing was deleted.
        """
        return purge_ended(older_than, self.repositories, self.telemetry, status=status, dry_run=dry_run, limit=limit)

    def maintain(self) -> Maintenance:
        """Do the upkeep of a worker once, for hosts that have only timers.

        Recovers expired leases by the store's clock, opens delayed work that is due, fails jobs whose deadline has passed,
        fires schedules that are due, and announces ready work on the queue. What stops one of these is raised after the others
        had their turn.
        """
        parts = Round()
        recovery = recover_work(self.repositories, self.telemetry, expired=None, death_budget=self.options.death_budget)
        overdue = parts.run(partial(end_overdue, self.repositories, self.telemetry))
        scheduled = parts.run(partial(fire_due, self.registry, self.repositories, self.telemetry))
        announced = parts.run(self._announce)
        parts.end()
        return Maintenance(recovery=recovery, announced=announced, overdue=overdue, scheduled=scheduled)

    def _announce(self) -> int:
        announced = 0
        # Also what was announced long ago and is still ready: the cure for lost messages where no worker relays.
        while self.queue is not None and (
            sent := relay_announcements(
                self.repositories,
                self.queue,
                self.telemetry,
                older_than_seconds=_REANNOUNCE_SECONDS,
            )
        ):
            announced += sent
        return announced

    def migrate(self) -> SchemaReport:
        """Bring the store's schema to this version, and create the queues where they are missing."""
        report = self.repositories.store.migrate()
        if self.queue is not None:
            self.queue.create()
        return report

    def verify(self) -> SchemaReport:
        """Compare the store's schema with what the migrations make; changes nothing."""
        return self.repositories.store.verify()

    @enforce_contract
    def doctor(self, *, repair: bool = False) -> Diagnosis:
        """Compare the store's rows with its counters, name what is late or lost, and what to do; safe beside workers.

        Looks at the jobs that have not ended; costs by the number of their results.

        Args:
            repair: Mend counters, and tasks and stages that nothing moves, through guarded functions of the store.
        """
        return examine_store(
            self.repositories,
            repair=repair,
            uses_queue=self.queue is not None,
            job_types={workflow.job_type for workflow in self.registry.workflows()},
        )
