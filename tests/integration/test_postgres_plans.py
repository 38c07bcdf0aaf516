"""Plans: a session that was warmed on small tables keeps to the indexes when they have grown."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, Final, ParamSpec, Protocol, TypeVar

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.job import NewJob
from stageflow.contracts.lease import ClaimAnswer, HeldLease, Lease
from stageflow.contracts.limits import TaskTypeLimit
from stageflow.contracts.open_work import OpenState
from stageflow.contracts.plan import FirstLease
from stageflow.contracts.retention import PurgeBatch, PurgedBatch
from stageflow.contracts.status import JobStatus
from stageflow.testing.conformance.builders import (
    BAD,
    Again,
    advance,
    advance_of,
    all_types,
    ask,
    cancel,
    chunk,
    claim_all,
    claim_one,
    claim_plan,
    closing_of,
    complete_ok,
    complete_one,
    create,
    give_back,
    new_job,
    new_stage,
    recover,
    report,
    run_all,
    start,
    tasks_type,
)

_WIDE: Final = new_job("wide", job_type="wide")
_ROWS: Final = 10_000
_ENOUGH: Final = 100
"""Most rows that a node may look at for a call that moves a few."""
_Answer = TypeVar("_Answer")
_Given = ParamSpec("_Given")

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
insert into stageflow.checkpoints (stage_id, task_index, generation, attempt, value, saved_at)
select 1, i, 1, 1, '{}', now() from generate_series(100, %(rows)s) i;
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
            read = re.search(
                r"(?:Scan.*actual rows|Rows Removed by (?:Index Recheck|Filter)[^0-9]*?)[=: ]*([0-9.]+)(?: loops=([0-9]+))?",
                line,
            )
            if read is not None and float(read[1]) * int(read[2] or 1) > _ENOUGH:
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


def test_success_writes_no_history_and_failure_one_statement(watched: _Watched) -> None:
    """A claim and a report of successes never touch the events; a report in which tasks failed adds to them once."""
    store = watched.store
    claim = watched.plans_of(lambda: ask(store, tasks_type(_WIDE), max_tasks=2, max_leases=1))
    lease = claim_one(store, tasks_type(_WIDE), max_tasks=2)
    success = watched.plans_of(lambda: complete_one(store, complete_ok(lease)))
    assert any("Insert on results" in plan for plan in success), "the plans were not seen"
    assert not any("events" in plan for plan in [*claim, *success])
    failing = claim_one(store, tasks_type(_WIDE), max_tasks=2)
    failure = watched.plans_of(lambda: complete_one(store, report(failing, BAD, BAD)))
    assert sum("Insert on events" in plan for plan in failure) == 1
    assert _offences(failure) == []


def test_a_history_is_read_along_its_index(watched: _Watched, postgres_dsn: str) -> None:
    """A page of the history of a job reads that page, however long it is and however many events there are."""
    store = watched.store
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute(
            """
            insert into stageflow.events (job_id, run, kind, at)
            select j.job_id, 1, 'job_paused', now() from stageflow.jobs j where j.job_type = 'grown'
            union all
            select %s, 1, 'job_paused', now() from generate_series(1, 10000)
            """,
            (_WIDE.job_id,),
        )
    first = store.list_events(_WIDE.job_id, after=-2, limit=20)
    assert len(first) == 20
    for after in (-2, first[-1].event_id):
        page = watched.plans_of(partial(store.list_events, _WIDE.job_id, after=after, limit=20))
        assert any("events_of_a_job" in plan for plan in page), "the plan was not seen"
        assert _offences(page) == []


def test_checkpoints_stay_on_their_index(watched: _Watched) -> None:
    """Storing, reading and forgetting one reads no other, however many there are."""
    store = watched.store
    lease = claim_one(store, tasks_type(_WIDE), max_tasks=2)
    saved = watched.plans_of(lambda: store.save_checkpoint(lease.range_id, lease.token, lease.first, "{}"))
    assert _offences(saved) == []
    assert _offences(watched.plans_of(lambda: store.get_checkpoint(lease.stage_id, lease.first, 1))) == []
    forgotten = watched.plans_of(lambda: complete_one(store, complete_ok(lease)))
    assert any("checkpoints_pkey" in plan for plan in forgotten), "the plan was not seen"
    assert _offences(forgotten) == []


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


def test_a_purge_stays_on_its_indexes(watched: _Watched, postgres_dsn: str) -> None:
    """It reads the jobs that go, not those that stay: unfinished ones, and those that ended later."""
    store, job = watched.store, new_job("old", priority=2)
    start(store, job, 3)
    cancel(store, job)
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute(
            """
            update stageflow.jobs set
                status = 'cancelled', created_at = now() + interval '1 day', updated_at = now() + interval '1 day'
            where job_type = 'grown' and status = 'queued'
            """
        )
    batch = PurgeBatch(
        status=JobStatus.CANCELLED,
        before=store.now() + timedelta(hours=1),
        after=None,
        limit=10,
        max_tasks=100,
        dry_run=False,
    )
    purged: list[PurgedBatch] = []
    assert _offences(watched.plans_of(lambda: purged.append(store.purge_jobs(batch)))) == []
    assert [each.jobs for each in purged] == [1]


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
            # Hidden for longer than the claims below may take on a busy machine.
            longer = "update stageflow.horizons set valid_until = valid_until + interval '30 s' returning work_type"
            assert connection.execute(longer).fetchall() == [("demo/1",)]
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
    page = watched.plans_of(lambda: store.list_result_rows(1, first_index=5_000, limit=40, failed_only=False))
    assert _offences(page) == []
    assert _offences(watched.plans_of(lambda: store.list_result_rows(1, first_index=0, limit=40, failed_only=True))) == []
    assert _offences(watched.plans_of(lambda: store.list_partials(1, first_index=5_000, limit=40))) == []
    tasks = watched.plans_of(lambda: store.list_tasks(_WIDE.job_id, 1, 1, first_index=5_000, limit=40))
    assert _offences(tasks) == []
    stages = [stage.stage_id for stage in store.list_stages(_WIDE.job_id, 1)]
    assert _offences(watched.plans_of(lambda: store.count_running_tasks(stages))) == []


def test_explaining_and_examining_one_job_reads_that_job(watched: _Watched) -> None:
    """Why a job is late is asked while the store is full; an audit reads the results of the audited stage, of no other."""
    store, late = watched.store, new_job("late")
    stage_id = start(store, late, 10).stage_id
    stages = [stage.stage_id for stage in store.list_stages(_WIDE.job_id, 1)]
    assert _offences(watched.plans_of(lambda: store.list_open_work([*stages, stage_id], heads=5))) == []
    assert _offences(watched.plans_of(lambda: store.audit_stages([late.job_id]))) == []
    mending = (store.mend_movers, store.mend_counters, store.mend_control)
    assert _offences([plan for mend in mending for plan in watched.plans_of(partial(mend, stage_id))]) == []
    late_ones = watched.plans_of(lambda: store.list_late_ranges(OpenState.LEASED, late_seconds=60, limit=5))
    assert _offences(late_ones) == []


def test_a_page_of_tasks_reads_a_page_however_many_wait(watched: _Watched, postgres_dsn: str) -> None:
    """A stage in which thousands of tasks wait for another attempt, each as a range of its own, is listed page by page."""
    store, late = watched.store, new_job("late")
    stage_id = start(store, late, 10_000).stage_id
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("update stageflow.ranges set last = 1 where stage_id = %s", (stage_id,))
        connection.execute(
            """
            insert into stageflow.ranges (stage_id, kind, work_type, first, last, state, not_before, created_at)
            select %s, 'task', 'demo/1/work', i, i + 1, 'waiting', now() + interval '1 hour', now()
            from generate_series(1, 9999) i
            """,
            (stage_id,),
        )
    page = watched.plans_of(lambda: store.list_tasks(late.job_id, 1, 1, first_index=9_900, limit=40))
    assert _offences(page) == []


# Two stages of 450,000 tasks each, all but the first 100 done, one in a hundred failed; 20,000 of five; 100,000 ranges.
_MILLION: Final = """
insert into stageflow.jobs (job_id, job_type, workflow_version, status, total_stages, parameters, created_at, updated_at)
select encode(sha256(('many ' || i)::bytea), 'hex'), 'many', 1, (array['queued', 'processing'])[1 + i %% 2], 2, '{}',
    now(), now()
from generate_series(1, 20000) i;
insert into stageflow.stages (
    job_id, run, stage_number, name, task_type, status, task_count, remaining, successful_tasks, planned, group_first,
    group_last, created_at, updated_at)
select job_id, 1, 1, 'many', 'many', 'processing', 10, 5, 5, true, 1, 1, now(), now()
from stageflow.jobs where job_type = 'many';
insert into stageflow.ranges (
    stage_id, kind, work_type, first, last, state, token, lease_expires_at, not_before, announced_at, created_at)
select stage_id, 'task', 'many/1/many', first, first + 1, state, case when state = 'leased' then stage_id end,
    case when state = 'leased' then now() + interval '1 day' end, case when state = 'waiting' then now() + interval '1 day' end,
    now(), now()
from (
    select s.stage_id, f.first, (array['ready', 'leased', 'waiting', 'held'])[1 + (s.stage_id + f.first) %% 4] as state
    from stageflow.stages s cross join generate_series(0, 4) f (first) where s.name = 'many'
) many;
create temporary table wide on commit drop as
select s.stage_id, 100 as first, 449999 as last from stageflow.stages s where s.stage_id = any (%(wide)s)
union all select s.stage_id, 5, 9 from stageflow.stages s where s.name = 'many';
insert into stageflow.tasks (stage_id, task_index, parameters)
select w.stage_id, i, '{}' from wide w cross join generate_series(w.first, w.last) i;
insert into stageflow.results (
    stage_id, task_index, generation, attempt, status, result, error_details, seconds, token, completed_at)
select w.stage_id, i, 1, 1, case when i %% 100 = 50 then 'failed' else 'completed' end,
    case when i %% 100 <> 50 then '{}' end, case when i %% 100 = 50 then 'it failed' end, 0, 1, now()
from wide w cross join generate_series(w.first, w.last) i;
update stageflow.stages s set
    task_count = 450000, successful_tasks = 450000 - 100 - r.failed, failed_tasks = r.failed
from (
    select r.stage_id, count(*) filter (where r.status = 'failed') as failed from stageflow.results r
    where r.stage_id = any (%(wide)s) group by r.stage_id
) r
where s.stage_id = r.stage_id;
"""


class _Look(Protocol):
    """Makes a call and returns its answer."""

    def __call__(self, call: Callable[_Given, _Answer], *args: _Given.args, **kwargs: _Given.kwargs) -> _Answer: ...


def _at_once(call: Callable[_Given, _Answer], *args: _Given.args, **kwargs: _Given.kwargs) -> _Answer:
    return call(*args, **kwargs)


def _looking_at(watched: _Watched) -> _Look:
    def look(call: Callable[_Given, _Answer], *args: _Given.args, **kwargs: _Given.kwargs) -> _Answer:
        answers: list[_Answer] = []
        plans = watched.plans_of(lambda: answers.append(call(*args, **kwargs)))
        assert plans, "the plans were not seen"
        # Recovery alone asks for all held ranges: those of paused jobs, and of stages that are planned atomically.
        assert _offences([plan for plan in plans if "ranges_held" not in plan]) == []
        return answers[0]

    return look


def _live(store: PostgresStore, job: NewJob, look: _Look) -> None:
    """Take a job whose first stage is planned through the rest of its life, looking at each call."""
    leases = look(ask, store, tasks_type(job), "many/1/many", "unknown/1/type", max_tasks=2, max_leases=3).leases
    held = next(lease for lease in leases if lease.job_id == job.job_id)
    beat = HeldLease(range_id=held.range_id, token=held.token, current_index=held.first)
    look(store.extend_leases, "ada", [beat], 30.0)
    look(complete_one, store, report(held, Again()))
    look(complete_one, store, report(held, BAD, first=held.first + 1))
    look(store.return_ranges, [give_back(lease) for lease in leases if lease is not held])
    look(recover, store, limit=10)
    advance_lease = _count_down(store, job, look)
    # Each by the bundle, in which the same is asked twice: the second is refused.
    twice = [advance_of(store, advance_lease, new_stage(2))] * 2
    plan = look(store.advance_job_stages, twice, worker_id="ada", lease_seconds=30.0)[0].plan
    assert plan is not None
    wish = FirstLease(worker_id="ada", max_tasks=2, lease_seconds=30.0)
    started = look(store.add_tasks_and_lease, [chunk(plan, 3)] * 2, [wish] * 2)[0].lease
    assert started is not None
    look(complete_one, store, complete_ok(started))
    ended = look(store.check_job_completions, [closing_of(store, run_all(store, job))] * 2)
    assert ended[0].job_updated


def _count_down(store: PostgresStore, job: NewJob, look: _Look) -> Lease:
    """Complete what is left of a stage, and return the lease that the last report gave."""
    while True:
        (lease,) = look(ask, store, tasks_type(job), max_tasks=40, max_leases=1).leases
        answer = look(complete_one, store, complete_ok(lease))
        if answer.advance is not None:
            return answer.advance


def _read(store: PostgresStore, job: NewJob, look: _Look) -> None:
    """Read a job as the engine and the front doors do, at the start of its first stage and in its middle."""
    stage_id = look(store.get_job_states, [job.job_id])[0].stages[0].stage_id
    look(store.get_jobs, [job.job_id])
    look(store.list_stages, job.job_id, 1)
    look(store.get_stage, stage_id)
    look(store.count_running_tasks, [stage_id])
    look(store.list_jobs, status=None, job_type=None, id_prefix="", limit=20, after=None)
    look(store.list_leases, 20)
    look(store.list_unannounced, older_than_seconds=60.0, limit=20)
    for first in (0, 200_000):
        look(store.list_result_rows, stage_id, first_index=first, limit=40, failed_only=False)
        look(store.list_result_rows, stage_id, first_index=first, limit=40, failed_only=True)
        look(store.list_task_results, stage_id, first_index=first, limit=40)
        look(store.list_tasks, job.job_id, 1, 1, first_index=first, limit=40)
        look(store.list_failed_tasks, job.job_id, 1, 1, first_index=first, limit=40)


def test_a_million_tasks_cost_no_more_than_a_few(postgres_dsn: str) -> None:
    """Every call of a job's life and every read keeps to its index at a million tasks and results and 100,000 ranges.

    In a session whose plans were made while the tables were empty, and in one that begins when they are full and analysed.
    """
    old, new = _Watched(postgres_dsn), _Watched(postgres_dsn)
    wide = [new_job(f"wide {name}", job_type=f"wide-{name}", stages=2) for name in ("old", "new")]
    warm = new_job("warm", job_type="warm", stages=2)
    old.store.migrate()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        # Nobody analyses by itself: the old session would plan again.
        for table in ("jobs", "stages", "tasks", "results", "ranges"):
            connection.execute(f"alter table stageflow.{table} set (autovacuum_enabled = false)")
        connection.execute("vacuum analyze")
        start(old.store, warm, 100, range_count=8)
        _read(old.store, warm, _at_once)
        _live(old.store, warm, _at_once)
        stage_ids = [start(old.store, job, 100, range_count=8).stage_id for job in wide]
        psycopg.ClientCursor(connection).execute(_MILLION, {"wide": stage_ids})
        _read(old.store, wide[0], _looking_at(old))
        _live(old.store, wide[0], _looking_at(old))
        connection.execute("analyze")
    _read(new.store, wide[1], _looking_at(new))
    _live(new.store, wide[1], _looking_at(new))
    old.store.close()
    new.store.close()


def test_claims_under_limits_stay_on_their_indexes(watched: _Watched, postgres_dsn: str) -> None:
    """What a limited type or job costs is its own slots, however many other scopes there are."""
    store = watched.store
    store.limit_task_type(TaskTypeLimit(job_type="wide", task_type="work", max_running=3, max_per_second=1000.0))
    start(store, new_job("full", job_type="wide", priority=3).model_copy(update={"max_running": 1}), 10)
    for _ in range(7):
        complete_one(store, complete_ok(claim_one(store, tasks_type(_WIDE), max_tasks=1)))
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        psycopg.ClientCursor(connection).execute(
            "insert into stageflow.limits (scope, max_running) select 'grown ' || i, 1 from generate_series(1, %(rows)s) i;"
            "insert into stageflow.slots (scope, number, range_id, token)"
            " select 'grown ' || i, 1, i, i from generate_series(1, %(rows)s) i",
            {"rows": _ROWS},
        )
    store.move_clock(1)
    answers: list[ClaimAnswer] = []
    plans = watched.plans_of(lambda: answers.append(ask(store, *all_types(_WIDE), max_tasks=1, max_leases=2)))
    assert any("slots_pkey" in plan for plan in plans), "the plans were not seen"
    assert _offences(plans) == []
    assert [len(answer.leases) for answer in answers] == [2]
