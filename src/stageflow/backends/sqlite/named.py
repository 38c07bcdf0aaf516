"""Claims of the work that a message names."""

from stageflow.backends.sqlite.allowances import Allowance, allowance_of, use_starts
from stageflow.backends.sqlite.clock import span_micros
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.leases import is_claimable
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Holder, Work, insert_part, lease_head, list_work_of
from stageflow.contracts.lease import ClaimAnswer, ClaimOutcome, NamedClaim


class SqliteNamedClaims(StorePart):
    """Gives out leases to hosts that hold a message."""

    def claim_named(self, claim: NamedClaim) -> ClaimAnswer:
        """Lease what is ready of the named work, one lease at most; the rest of it is to be announced again."""
        with self._database.transaction() as tx:
            row = tx.row(
                "select stage_id from stageflow_stages where job_id = ? and run = ? and stage_number = ?",
                (claim.job_id, claim.run, claim.stage_number),
            )
            if row is None:
                return ClaimAnswer(outcome=ClaimOutcome.DONE)
            stage_id: int = row[0]
            _open_due(tx, stage_id)
            for work in _matching(tx, stage_id, claim):
                if work.state == "ready" and is_claimable(tx, work):
                    holder = Holder(claim.worker_id, tx.now + span_micros(claim.lease_seconds))
                    allowance = allowance_of(tx, work, claim.max_tasks)
                    if not allowance.tasks:
                        _put_off(tx, work, allowance)
                        return ClaimAnswer(outcome=ClaimOutcome.HELD, next_due_seconds=allowance.again_seconds)
                    named = _cut(tx, work, claim) if work.is_task else work
                    lease, _ = lease_head(tx, named, allowance.tasks, holder)
                    use_starts(tx, work.work_type, lease)
                    return ClaimAnswer(outcome=ClaimOutcome.WORK, leases=[lease])
            states = {work.state for work in _matching(tx, stage_id, claim)}
        if "leased" in states:
            return ClaimAnswer(outcome=ClaimOutcome.LEASED)
        return ClaimAnswer(outcome=ClaimOutcome.HELD if states else ClaimOutcome.DONE)


def _put_off(tx: Transaction, work: Work, allowance: Allowance) -> None:
    """Take work at its limit from sight until a slot or a start may be there: it is announced when due.

    That of a paused type stays as it is: its resumption announces it.
    """
    if allowance.again_seconds is not None:
        tx.run(
            "update stageflow_ranges set state = 'waiting', not_before = ?, announced_at = null where range_id = ?",
            (tx.now + span_micros(allowance.again_seconds), work.range_id),
        )


def _matching(tx: Transaction, stage_id: int, claim: NamedClaim) -> list[Work]:
    return [work for work in list_work_of(tx, stage_id) if work.kind in claim.kinds and _is_named(work, claim)]


def _is_named(work: Work, claim: NamedClaim) -> bool:
    if work.work_type not in claim.work_types:
        return False
    overlaps = work.first < claim.last and work.last > claim.first
    return not work.is_task or (work.generation == claim.generation and overlaps)


def _cut(tx: Transaction, work: Work, claim: NamedClaim) -> Work:
    """Cut a ready range to what the message names, and return that part; the rest stays ready."""
    first, last = max(work.first, claim.first), min(work.last, claim.last)
    if first == work.first and last == work.last:
        return work
    if last < work.last:
        insert_part(tx, work, last, work.last)
    if first == work.first:
        tx.run("update stageflow_ranges set last = ?, announced_at = null where range_id = ?", (last, work.range_id))
        return work._replace(last=last)
    tx.run("update stageflow_ranges set last = ?, announced_at = null where range_id = ?", (first, work.range_id))
    range_id = insert_part(tx, work, first, last)
    return work._replace(range_id=range_id, first=first, last=last)


def _open_due(tx: Transaction, stage_id: int) -> None:
    opened = tx.run(
        "update stageflow_ranges set state = 'ready', not_before = null, announced_at = null"
        " where stage_id = ? and state = 'waiting' and not_before <= ?",
        (stage_id, tx.now),
    )
    if opened:
        tx.work_ready = True
