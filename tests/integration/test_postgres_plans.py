"""Plans: a session that was warmed on small tables keeps to the indexes when they have grown."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.lease import HeldLease
from stageflow.testing.conformance.builders import (
    advance,
    all_types,
    ask,
    chunk,
    claim_all,
    claim_one,
    claim_plan,
    complete_ok,
    complete_one,
    create,
    give_back,
    new_job,
    new_stage,
    recover,
    run_all,
    start,
    tasks_type,
)

_WIDE: Final = new_job("wide", job_type="wide")
_ROWS: Final = 30_000
_ENOUGH: Final = 100
"""Most rows that a node may look at for a call that moves a few."""

# Jobs of a type that nobody asks for, with ready, leased and waiting ranges, and a wide stage full of tasks and results.
_GROW: Final = """
insert into stageflow.jobs (job_id, job_type, workflow_version, status, total_stages, parameters, created_at, updated_at)
select encode(sha256(('grown ' || i)::bytea), 'hex'), 'grown', 1, (array['queued', 'processing'])[1 + i %% 2], 2, '{}',
    now(), now()
from generate_series(1, %(rows)s) i;
insert into stageflow.stages (
    job_id, run, stage_number, name, task_type, status, task_count, remaining, planned, group_first, group_last, created_at,
    updated_at)
select job_id, 1, 1, 'grown', 'grown', 'processing', 1, 1, true, 1, 1, now(), now()
from stageflow.jobs where job_type = 'grown';
insert into stageflow.ranges (
    stage_id, kind, work_type, first, last, state, token, lease_expires_at, not_before, announced_at, created_at)
select stage_id, 'task', 'grown/1/grown', 0, 1, state, case when state = 'leased' then stage_id end,
    case when state = 'leased' then now() + interval '1 day' end, case when state = 'waiting' then now() + interval '1 day' end,
    now(), now()
from (
    select stage_id, (array['ready', 'leased', 'waiting', 'held'])[1 + stage_id %% 4] as state
    from stageflow.stages where name = 'grown'
) grown;
insert into stageflow.tasks (stage_id, task_index, parameters) select 1, i, '{}' from generate_series(100, %(rows)s) i;
insert into stageflow.results (stage_id, task_index, generation, attempt, status, result, seconds, token, completed_at)
select 1, i, 1, 1, 'completed', '{}', 0, 1, now() from generate_series(100, %(rows)s) i;
insert into stageflow.partials (stage_id, generation, first, last, successful_tasks, value)
select 1, 1, i, i + 1, 1, '{}' from generate_series(100, %(rows)s) i;
"""


class _Watched:
    """A store on connections that tell the plan of each statement, nested ones included."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._plans: list[str] = []
        self.store = PostgresStore(self._connect, pool_size=1)

    def plans_of(self, call: Callable[[], object]) -> list[str]:
        """Return the plans of the statements that a call runs, with what each node really did."""
        self._plans.clear()
        call()
        return list(self._plans)

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._dsn, autocommit=True)
        connection.execute("load 'auto_explain'")
        for name, value in {
            "auto_explain.log_min_duration": "0",
            "auto_explain.log_nested_statements": "on",
            "auto_explain.log_analyze": "on",
            "auto_explain.log_timing": "off",
            "client_min_messages": "log",
        }.items():
            connection.execute("select set_config(%s, %s, false)", (name, value))
        connection.add_notice_handler(lambda notice: self._plans.append(notice.message_primary or ""))
        return connection


@pytest.fixture(params=["small when they were planned", "analysed since"])
def watched(postgres_dsn: str, request: pytest.FixtureRequest) -> Iterator[_Watched]:
    """Give a watched store, its plans made on small analysed tables, that have then grown; and one whose plans know that."""
    watched = _Watched(postgres_dsn)
    store = watched.store
    store.migrate()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        start(store, _WIDE, 100, range_count=8)
        connection.execute("analyze")
        for number in range(7):
            job = new_job(f"warm {number}", stages=2, priority=1)
            start(store, job, 3)
            advance(store, run_all(store, job), new_stage(2))
            claim_all(store, *all_types(job), max_leases=1)
        psycopg.ClientCursor(connection).execute(_GROW, {"rows": _ROWS})
        if request.param == "analysed since":
            connection.execute("analyze")
    yield watched
    store.close()


def _offences(plans: list[str]) -> list[str]:
    """Return what reads more than it should: a table from end to end, or many rows for few."""
    bad = [line for plan in plans for line in plan.splitlines() if "Seq Scan on" in line]
    for plan in plans:
        for line in plan.splitlines():
            read = re.search(r"(?:Scan.*actual rows|Rows Removed by (?:Index Recheck|Filter)[^0-9]*?)[=: ]*([0-9.]+)", line)
            if read is not None and float(read[1]) > _ENOUGH:
                bad.append(line)
    return bad


def test_claim_and_completion_stay_on_their_indexes(watched: _Watched) -> None:
    """What runs for every task reads a few rows, however large the tables are and however old the session is."""
    store = watched.store
    claim = watched.plans_of(lambda: ask(store, *all_types(_WIDE), "unknown/1/type", max_tasks=2, max_leases=3))
    assert any("ranges_ready" in plan for plan in claim), "the plans were not seen"
    assert _offences(claim) == []
    lease = claim_one(store, tasks_type(_WIDE), max_tasks=2)
    assert _offences(watched.plans_of(lambda: complete_one(store, complete_ok(lease)))) == []
    assert _offences(watched.plans_of(lambda: ask(store, "unknown/1/type"))) == []


def test_planning_and_advancing_stay_on_their_indexes(watched: _Watched) -> None:
    """What runs for every stage does not look at other jobs."""
    store = watched.store
    job = new_job("late", stages=2, priority=2)
    assert _offences(watched.plans_of(lambda: create(store, job))) == []
    plan = claim_plan(store, job)
    assert _offences(watched.plans_of(lambda: store.add_tasks(chunk(plan, 3)))) == []
    lease = run_all(store, job)
    assert _offences(watched.plans_of(lambda: advance(store, lease, new_stage(2)))) == []


def test_the_heartbeat_and_recovery_stay_on_their_indexes(watched: _Watched) -> None:
    """What runs every few seconds costs what there is to do, not what there is."""
    store = watched.store
    lease = claim_one(store, tasks_type(_WIDE), max_tasks=2)
    held = [HeldLease(range_id=lease.range_id, token=lease.token, current_index=lease.first)]
    assert _offences(watched.plans_of(lambda: store.extend_leases("ada", held, 30.0))) == []
    recover(store)
    plans = watched.plans_of(lambda: recover(store, limit=10))
    assert [line for line in _offences(plans) if "ranges_held" not in line] == []


def test_claims_pass_over_what_an_old_snapshot_keeps(postgres_dsn: str) -> None:
    """Dead entries that nobody can vacuum are hidden from claims for a while; urgent work is not, returned work comes later."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    job = new_job("returned")
    with psycopg.connect(postgres_dsn) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("select count(*) from stageflow.jobs")
        create(store, job, *(new_job(f"dead {number}") for number in range(2500)))
        early = claim_plan(store, job)
        claim_all(store, *all_types(job), max_leases=1000)
        claim_all(store, *all_types(job), max_leases=1000)
        claim_all(store, *all_types(job), max_leases=1000)
        create(store, new_job("late"))
        assert claim_plan(store, new_job("late")).job_id == new_job("late").job_id
        with psycopg.connect(postgres_dsn) as connection:
            assert connection.execute("select work_type from stageflow.horizons").fetchall() == [("demo/1",)]
        store.return_ranges([give_back(early)])
        create(store, new_job("urgent", priority=5), new_job("later"))
        order = [claim_one(store, *all_types(job)).job_id for _ in range(2)]
        assert order == [new_job("urgent").job_id, new_job("later").job_id]
        store.move_clock(60)
        assert claim_plan(store, job).job_id == job.job_id
    store.close()


def test_a_page_of_results_reads_a_page(watched: _Watched) -> None:
    """Planners and aggregates page by key: a page in the middle of a wide stage reads no more than itself."""
    store = watched.store
    page = watched.plans_of(lambda: store.list_result_rows(1, first_index=20_000, limit=40, failed_only=False))
    assert _offences(page) == []
    assert _offences(watched.plans_of(lambda: store.list_result_rows(1, first_index=0, limit=40, failed_only=True))) == []
    assert _offences(watched.plans_of(lambda: store.list_partials(1, first_index=20_000, limit=40))) == []
    tasks = watched.plans_of(lambda: store.list_tasks(_WIDE.job_id, 1, 1, first_index=20_000, limit=40))
    assert _offences(tasks) == []
    stages = [stage.stage_id for stage in store.list_stages(_WIDE.job_id, 1)]
    assert _offences(watched.plans_of(lambda: store.count_running_tasks(stages))) == []
