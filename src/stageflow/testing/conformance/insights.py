"""Answers that change nothing: open work in groups, as seen at one moment."""

from datetime import timedelta

from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenGroup, OpenState
from stageflow.testing.conformance.builders import (
    LEASE_SECONDS,
    OK,
    Again,
    MovableStore,
    ask,
    claim_one,
    claim_plan,
    complete_one,
    create,
    let_leases_expire,
    new_job,
    pause,
    report,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_stage
from stageflow.testing.conformance.scenario import StoreScenarios


class OpenWorkConformance(StoreScenarios):
    """``list_open_work``."""

    def test_the_work_of_a_new_job_is_its_planning(self, store: MovableStore) -> None:
        """What waits for its start says until when."""
        due = store.now() + timedelta(hours=1)
        create(store, new_job("now"), new_job("later", not_before=due))
        (ready,) = _work_of(store, "now")
        assert (ready.kind, ready.state, ready.task_count) == (WorkKind.PLAN, OpenState.READY, 1)
        (waiting,) = _work_of(store, "later")
        assert (waiting.kind, waiting.state, waiting.heads[0].not_before) == (WorkKind.PLAN, OpenState.WAITING, due)

    def test_ranges_are_grouped_by_state_and_told_in_order(self, store: MovableStore) -> None:
        """The counts are of all ranges, the heads are the first of them."""
        job = new_job()
        start(store, job, 100, range_count=10)
        leases = [claim_one(store, tasks_type(job), max_tasks=3) for _ in range(2)]
        complete_one(store, report(leases[0], OK, Again(60.0, "ConnectionError: gone"), Again(30.0, "ValueError: bad")))
        stage = get_stage(store, job)
        leased, ready, waiting = store.list_open_work([stage.stage_id], heads=1)
        assert [leased.state, ready.state, waiting.state] == [OpenState.LEASED, OpenState.READY, OpenState.WAITING]
        assert [group.task_count for group in (leased, ready, waiting)] == [3, 94, 2]
        assert (ready.range_count, waiting.range_count) == (10, 2)
        (first,) = waiting.heads
        assert (first.first, first.last, first.attempt) == (2, 3, 2)
        assert first.error_details == "ValueError: bad"
        assert sum(group.task_count for group in (leased, ready, waiting)) == stage.remaining

    def test_a_lease_tells_its_holder_and_its_times(self, store: MovableStore) -> None:
        """Who has it, since when, and when it ends."""
        start(store, new_job(), 4)
        before = store.now()
        lease = claim_one(store, tasks_type(new_job()), worker="w7", max_tasks=4)
        (group,) = _work_of(store, "job")
        (head,) = group.heads
        assert (head.range_id, head.worker_id, head.current_index) == (lease.range_id, "w7", 0)
        assert head.renewed_at is not None
        assert before <= head.renewed_at <= store.now()
        assert head.lease_expires_at == head.renewed_at + timedelta(seconds=LEASE_SECONDS)
        assert head.current_since == head.renewed_at

    def test_deaths_and_holds_are_told(self, store: MovableStore) -> None:
        """What a dead worker left says so, and a paused job's work is held once it was met."""
        start(store, new_job(), 1)
        claim_one(store, tasks_type(new_job()))
        let_leases_expire(store)
        (group,) = _work_of(store, "job")
        assert (group.state, group.heads[0].deaths, group.heads[0].worker_id) == (OpenState.READY, 1, None)
        pause(store, new_job())
        assert ask(store, tasks_type(new_job())).leases == []
        (held,) = _work_of(store, "job")
        assert held.state is OpenState.HELD

    def test_several_stages_are_told_apart_and_closed_work_is_not_told(self, store: MovableStore) -> None:
        """A stage without open work has no group."""
        done, busy = new_job("done", job_type="other"), new_job("busy")
        start(store, done, 2)
        advance = run_all(store, done)
        create(store, busy)
        plan = claim_plan(store, busy)
        groups = store.list_open_work([advance.stage_id, plan.stage_id, 1_000_000], heads=5)
        assert [(group.stage_id, group.kind) for group in groups] == [
            (advance.stage_id, WorkKind.ADVANCE),
            (plan.stage_id, WorkKind.PLAN),
        ]
        assert store.list_open_work([], heads=5) == []


def _work_of(store: MovableStore, name: str) -> list[OpenGroup]:
    return store.list_open_work([get_stage(store, new_job(name)).stage_id], heads=5)
