"""Claims and leases, and the recovery of those whose holder died."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from psycopg.rows import TupleRow

from stageflow.backends.postgres.arrays import dense_array, number_array, packed
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.rows import lease_from_rows, worker_from_row
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.lease import (
    ClaimAnswer,
    ClaimOutcome,
    ClaimRequest,
    HeldLease,
    Lease,
    LeaseExtension,
    NamedClaim,
    RangeReturn,
    Recovery,
    SeenLease,
    WorkKind,
)
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.contracts.worker import WorkerRecord


class Leases(Part):
    """Satisfies ``stageflow.ports.LeaseStore``."""

    def claim(self, request: ClaimRequest) -> ClaimAnswer:
        """Lease the best ready ranges of the asked work types, splitting off what one lease may hold."""
        return self._claimed(
            "claim",
            (
                request.worker_id,
                request.work_types,
                dense_array(request.max_tasks),
                request.max_leases,
                request.lease_seconds,
                request.bundled,
            ),
        )

    def claim_named(self, claim: NamedClaim) -> ClaimAnswer:
        """Lease what is ready of the named work; the rest of it is to be announced again."""
        return self._claimed(
            "claim_named",
            (
                claim.worker_id,
                claim.job_id,
                claim.run,
                claim.stage_number,
                claim.generation,
                [kind.value for kind in claim.kinds],
                claim.work_types,
                claim.first,
                claim.last,
                claim.max_tasks,
                claim.lease_seconds,
            ),
        )

    def _claimed(self, name: str, parameters: Sequence[object]) -> ClaimAnswer:
        rows = self._database.write(query(name), parameters)
        outcome = ClaimOutcome(rows[0][0])
        if outcome is ClaimOutcome.WORK:
            return ClaimAnswer(outcome=outcome, leases=_leases([row[2:] for row in rows]))
        return ClaimAnswer(outcome=outcome, next_due_seconds=rows[0][1])

    def extend_leases(self, worker_id: str, leases: Sequence[HeldLease], lease_seconds: float) -> LeaseExtension:  # noqa: ARG002  the token alone proves who holds a lease
        """Raise the beat and the expiry of leases still held."""
        rows = self._database.write(
            query("extend_leases"),
            (
                dense_array([lease.range_id for lease in leases]),
                dense_array([lease.token for lease in leases]),
                dense_array([lease.current_index for lease in leases]),
                lease_seconds,
            ),
        )
        stopping: dict[int, bool] = dict(rows)
        held = [lease.token for lease in leases if lease.token in stopping]
        return LeaseExtension(held=held, stopping=[token for token in held if stopping[token]])

    def return_ranges(self, returns: Sequence[RangeReturn]) -> list[bool]:
        """Give unstarted tails back; ``False`` where the lease was lost."""
        separator, (errors,) = packed([item.error_details for item in returns])
        rows = self._database.write(
            query("return_ranges"),
            (
                separator,
                dense_array([item.range_id for item in returns]),
                dense_array([item.token for item in returns]),
                dense_array([item.first for item in returns]),
                number_array([item.retry_delay_seconds for item in returns]),
                errors,
            ),
        )
        held = {place for (place,) in rows}
        return [place in held for place in range(1, len(returns) + 1)]

    def list_leases(self, limit: int) -> list[SeenLease]:
        """Return leases and their beats, those that expire first first."""
        rows = self._database.read(query("list_leases"), (limit,))
        return [SeenLease(range_id=range_id, token=token, beat=beat) for range_id, token, beat in rows]

    def recover(self, *, expired: Sequence[SeenLease] | None, death_budget: int, limit: int) -> Recovery:
        """Return the work of dead workers, open what is due, close what belongs to ended jobs and halted stages.

        Three kinds of transactions, each whole in itself: the leases; each job whose planning or advancing spent its
        budget; what waits.
        """
        seen: tuple[str | None, str | None, str | None] = (None, None, None)
        if expired is not None:
            seen = (
                dense_array([lease.range_id for lease in expired]),
                dense_array([lease.token for lease in expired]),
                dense_array([lease.beat for lease in expired]),
            )
        ((returned, quarantined, closed, spent),) = self._database.write(query("recover_leases"), (*seen, death_budget, limit))
        jobs_failed = sum(self._fail_job_of(row) for row in self._spent(spent))
        ((due, left_over),) = self._database.write(query("recover_waiting"), (limit,))
        return Recovery(
            returned=returned,
            quarantined=quarantined,
            due=due,
            closed=closed + left_over,
            jobs_failed=jobs_failed,
        )

    def _spent(self, range_ids: list[int]) -> Sequence[tuple[object, ...]]:
        return self._database.read(query("list_spent"), (dense_array(range_ids),)) if range_ids else []

    def _fail_job_of(self, row: tuple[object, ...]) -> bool:
        """Fail a job whose control work killed too many workers, unless its holder came back to life in between."""
        job_id, range_id, token, beat, stage_id, stage_number, kind, deaths = row
        verb = "planning" if kind == WorkKind.PLAN else "advancing"
        cause = f"{verb} stage {stage_number} killed its worker {deaths} times"
        error = f"{cause}; find what kills it, then submit the work as another job"
        failed = (JobStatus.FAILED.value, error, range_id, token, beat, stage_id, StageStatus.FAILED.value, None)
        ((ended,),) = self._database.write(query("end_job"), (job_id, *failed))
        return bool(ended)

    def register_worker(self, worker: WorkerRecord) -> None:
        """Write or refresh a worker's row; it was seen now, by the store's clock."""
        self._database.write(
            query("register_worker"),
            (worker.worker_id, worker.host, worker.pid, worker.slots, worker.work_types, worker.started_at),
        )

    def remove_worker(self, worker_id: str) -> None:
        """Delete the row of a worker that has stopped."""
        self._database.write(query("remove_worker"), (worker_id,))

    def list_workers(self, seen_within_seconds: float) -> list[WorkerRecord]:
        """Return the workers that were seen lately."""
        return [worker_from_row(row) for row in self._database.read(query("list_workers"), (seen_within_seconds,))]


def _leases(rows: Sequence[TupleRow]) -> list[Lease]:
    return [lease_from_rows(list(group)) for _, group in groupby(rows, key=itemgetter(0))]
