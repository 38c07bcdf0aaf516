"""Audits: what rows add up to, what is late, and that mending leaves alone what is well.

What is wrong by hand is told in SQL, which the port does not speak: each backend's own tests do that. That every scenario of
the suite leaves rows in which an audit finds nothing is checked after each of them.
"""

import pytest

from stageflow.contracts.audit import StageAudit
from stageflow.contracts.job import JobUpdate
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenState
from stageflow.contracts.status import JobStatus
from stageflow.errors import InvalidValueError
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    Again,
    MovableStore,
    cancel,
    chunk,
    claim_one,
    claim_plan,
    complete_one,
    create,
    job_id_of,
    new_job,
    new_stage,
    report,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_stage, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_NOWHERE = 1_000_000


class AuditConformance(StoreScenarios):
    """``audit_stages``, ``list_late_ranges``, ``list_old_snapshots``, and the mending of what is well."""

    def test_an_audit_adds_up_results_and_ranges(self, store: MovableStore) -> None:
        """Every way in which a task can stand is counted once."""
        start(store, new_job(), 10)
        lease = claim_one(store, tasks_type(new_job()), max_tasks=4)
        complete_one(store, report(lease, OK, BAD, Again(60.0)))
        audit = _audit(store)
        assert audit.stage == get_stage(store, new_job())
        assert (audit.open_tasks, audit.completed_tasks, audit.failed_tasks) == (8, 1, 1)
        assert (audit.missing_tasks, audit.first_missing, audit.doubled_tasks, audit.first_doubled) == (0, None, 0, None)
        assert (audit.planned, audit.defined_tasks, audit.control) == (True, 10, None)
        assert audit.counters_agree

    def test_an_audit_counts_closed_ranges_by_their_width(self, store: MovableStore) -> None:
        """A halt skips what waits, and what is leased stays open."""
        job = new_job(first_stage=new_stage(1, fail_fast=True))
        start(store, job, 10, range_count=2)
        leases = [claim_one(store, tasks_type(job), max_tasks=2) for _ in range(2)]
        complete_one(store, report(leases[0], BAD, OK))
        audit = _audit(store)
        assert (audit.open_tasks, audit.completed_tasks, audit.failed_tasks, audit.skipped_tasks) == (2, 1, 1, 6)
        assert audit.counters_agree

    def test_an_audit_knows_the_control_work(self, store: MovableStore) -> None:
        """Planning before the tasks, advancing after them, nothing in between; closed stages are not audited."""
        create(store, new_job())
        plan = claim_plan(store, new_job())
        store.add_tasks(chunk(plan, 3, final=False))
        assert (_audit(store).control, _audit(store).planned) == (WorkKind.PLAN, False)
        store.add_tasks(chunk(plan, 0, first_index=3))
        assert _audit(store).control is None
        run_all(store, new_job())
        assert _audit(store).control is WorkKind.ADVANCE
        cancel(store, new_job())
        assert store.audit_stages(["0" * 64]) == []

    def test_open_jobs_are_those_that_have_not_ended(self, store: MovableStore) -> None:
        """Queued, started and paused ones, by id; a job that ended is none of them."""
        start(store, new_job("started"), 2)
        for name in ("queued", "paused", "ended"):
            create(store, new_job(name))
        store.change_job_status(job_id_of("paused"), JobStatus.PAUSED, JobUpdate())
        cancel(store, new_job("ended"))
        assert store.list_open_jobs() == sorted(job_id_of(name) for name in ("queued", "started", "paused"))

    def test_an_expired_lease_is_late(self, store: MovableStore) -> None:
        """From the given time after its end on, and until it is recovered."""
        start(store, new_job(), 4)
        lease = claim_one(store, tasks_type(new_job()), worker="w7", max_tasks=2)
        store.move_clock(LEASE_SECONDS + 30)
        assert store.list_late_ranges(OpenState.LEASED, late_seconds=60, limit=5) == []
        store.move_clock(60)
        (late,) = store.list_late_ranges(OpenState.LEASED, late_seconds=60, limit=5)
        assert (late.job_id, late.stage_number, late.range.range_id) == (job_id_of("job"), 1, lease.range_id)
        assert (late.range.worker_id, late.range.first, late.range.last) == ("w7", 0, 2)

    def test_ready_work_that_no_queue_was_told_of_is_late(self, store: MovableStore) -> None:
        """What was announced is not, and neither is what became ready just now."""
        create(store, new_job())
        assert store.list_late_ranges(OpenState.READY, late_seconds=60, limit=5) == []
        store.move_clock(61)
        (late,) = store.list_late_ranges(OpenState.READY, late_seconds=60, limit=5)
        assert late.range.kind is WorkKind.PLAN
        store.mark_announced([late.range.range_id])
        assert store.list_late_ranges(OpenState.READY, late_seconds=60, limit=5) == []

    @pytest.mark.parametrize("state", [OpenState.WAITING, OpenState.HELD])
    def test_what_waits_is_never_late(self, store: MovableStore, state: OpenState) -> None:
        """It has a time, or a pause, and asking for it is a mistake."""
        with pytest.raises(InvalidValueError, match="is never late"):
            store.list_late_ranges(state, late_seconds=1, limit=1)

    def test_a_quiet_store_has_no_old_snapshot(self, store: MovableStore) -> None:
        """No statement of a store leaves one behind."""
        assert store.list_old_snapshots(60) == []

    def test_mending_leaves_alone_what_is_well(self, store: MovableStore) -> None:
        """Whatever the stage is at: nothing is written."""
        create(store, new_job())
        self._mend_nothing(store)
        plan = claim_plan(store, new_job())
        store.add_tasks(chunk(plan, 5, final=False))
        self._mend_nothing(store)
        store.add_tasks(chunk(plan, 0, first_index=5))
        lease = claim_one(store, tasks_type(new_job()), max_tasks=2)
        complete_one(store, report(lease, OK, Again(60.0)))
        self._mend_nothing(store)
        complete_one(store, report(claim_one(store, tasks_type(new_job()), max_tasks=9), OK, OK, BAD))
        self._mend_nothing(store)
        store.move_clock(61)
        run_all(store, new_job())
        self._mend_nothing(store)

    def test_mending_passes_over_ended_jobs_and_unknown_stages(self, store: MovableStore) -> None:
        """What has ended is not moved again."""
        start(store, new_job(), 3)
        claim_one(store, tasks_type(new_job()), max_tasks=1)
        cancel(store, new_job())
        self._mend_nothing(store)
        assert (store.mend_movers(_NOWHERE), store.mend_counters(_NOWHERE), store.mend_control(_NOWHERE)) == (0, False, False)

    def _mend_nothing(self, store: MovableStore) -> None:
        before = snapshot(store, new_job())
        stage_id = get_stage(store, new_job()).stage_id
        assert store.mend_movers(stage_id) == 0
        assert store.mend_counters(stage_id) is False
        assert store.mend_control(stage_id) is False
        assert snapshot(store, new_job()) == before


def _audit(store: MovableStore) -> StageAudit:
    (audit,) = store.audit_stages([job_id_of("job")])
    return audit
