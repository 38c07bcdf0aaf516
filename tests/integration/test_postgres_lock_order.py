"""Who locks several rows of a table locks them by their ids: no two callers ever hold what the other one wants."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Final, LiteralString

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.lease import HeldLease, Lease
from stageflow.contracts.plan import FirstLease
from stageflow.testing.conformance.builders import (
    LEASE_SECONDS,
    advance,
    advance_of,
    ask,
    cancel,
    chunk,
    claim_all,
    closing_of,
    complete,
    complete_ok,
    control_type,
    create,
    give_back,
    new_job,
    new_stage,
    recover,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.bundles import run_in_step

_PATIENCE_SECONDS: Final = 30.0
_ONE_WAITS: Final = "select count(*) = 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
_RANGE: Final[LiteralString] = "select 1 from stageflow.ranges where range_id = %s for no key update"
_STAGE: Final[LiteralString] = "select 1 from stageflow.stages where stage_id = %s for no key update"
_JOB: Final[LiteralString] = "select 1 from stageflow.jobs where job_id = %s for no key update"

Call = Callable[[PostgresStore, list[Lease]], object]


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[PostgresStore]:
    """Give a migrated store."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    yield store
    store.close()


@contextmanager
def _waiting(
    dsn: str, lock: LiteralString, row: int | str, call: Callable[[], object]
) -> Iterator[Callable[[int | str], bool]]:
    """Let a call wait for a row that somebody else holds; gives what tells whether another row is free meanwhile."""
    with psycopg.connect(dsn) as rival, psycopg.connect(dsn, autocommit=True) as watcher, ThreadPoolExecutor(1) as threads:
        rival.execute(lock, (row,))
        called = threads.submit(call)
        deadline = monotonic() + _PATIENCE_SECONDS
        while watcher.execute(_ONE_WAITS).fetchone() != (True,):
            assert monotonic() < deadline, "the call does not wait"
            assert not called.done(), f"the call went through: {called.result()}"

        def is_free(other: int | str) -> bool:
            return watcher.execute(lock + " skip locked", (other,)).fetchone() == (1,)

        try:
            yield is_free
        finally:
            rival.rollback()
            called.result(_PATIENCE_SECONDS)


def _extend(store: PostgresStore, leases: list[Lease]) -> object:
    held = [HeldLease(range_id=lease.range_id, token=lease.token, current_index=lease.first) for lease in leases]
    return store.extend_leases("ada", held, LEASE_SECONDS)


def _complete(store: PostgresStore, leases: list[Lease]) -> object:
    return complete(store, *map(complete_ok, leases))


def _return(store: PostgresStore, leases: list[Lease]) -> object:
    return store.return_ranges([give_back(lease) for lease in leases])


def _recover(store: PostgresStore, leases: list[Lease]) -> object:
    assert leases
    store.move_clock(LEASE_SECONDS + 1)
    return recover(store, death_budget=1)


@pytest.mark.parametrize("call", [_complete, _extend, _return])
def test_ranges_are_locked_by_their_ids(store: PostgresStore, postgres_dsn: str, call: Call) -> None:
    """Whatever the order in which they are named: who waits for a lower one does not hold a higher one."""
    job = new_job()
    start(store, job, 2, range_count=2)
    low, high = sorted(claim_all(store, tasks_type(job)), key=lambda lease: lease.range_id)
    with _waiting(postgres_dsn, _RANGE, low.range_id, lambda: call(store, [high, low])) as is_free:
        assert is_free(high.range_id)


@pytest.mark.parametrize("call", [_complete, _recover])
def test_stages_are_locked_by_their_ids(store: PostgresStore, postgres_dsn: str, call: Call) -> None:
    """The later stage's work was leased first, so that its range comes first wherever the ranges' order is kept."""
    jobs = [new_job("one"), new_job("two", priority=1)]
    for job in jobs:
        start(store, job, 1)
    high, low = claim_all(store, tasks_type(jobs[0]))
    assert high.stage_id > low.stage_id
    with _waiting(postgres_dsn, _STAGE, low.stage_id, lambda: call(store, [high, low])) as is_free:
        assert is_free(high.stage_id)


def _plan(store: PostgresStore, leases: list[Lease]) -> object:
    wish = FirstLease(worker_id="ada", max_tasks=9, lease_seconds=LEASE_SECONDS)
    return store.add_tasks_and_lease([chunk(lease, 1) for lease in leases], [wish] * len(leases))


def _advance(store: PostgresStore, leases: list[Lease]) -> object:
    asked = [advance_of(store, lease, new_stage(2)) for lease in leases]
    return store.advance_job_stages(asked, worker_id="ada", lease_seconds=LEASE_SECONDS)


def _close(store: PostgresStore, leases: list[Lease]) -> object:
    return store.check_job_completions([closing_of(store, lease, new_stage(2, skipped=True)) for lease in leases])


def _control(store: PostgresStore, call: Call) -> list[Lease]:
    """Return the leases that a call takes: of two jobs, whose rows all have the same order but for the jobs' ids."""
    jobs = sorted((new_job(f"job {number}", stages=2) for number in range(2)), key=lambda job: job.job_id, reverse=True)
    if call is _plan:
        create(store, *jobs)
        return sorted(claim_all(store, control_type(jobs[0])), key=lambda lease: lease.range_id)
    return run_in_step(store, *jobs, count=1)


@pytest.mark.parametrize("call", [_plan, _advance, _close])
@pytest.mark.parametrize("lock", [_RANGE, _STAGE])
def test_a_bundle_locks_ranges_and_stages_by_their_ids(
    store: PostgresStore, postgres_dsn: str, call: Call, lock: LiteralString
) -> None:
    """Whatever the order in which the work is named, and before any of it is done."""
    leases = _control(store, call)
    low, high = sorted(lease.range_id if lock == _RANGE else lease.stage_id for lease in leases)
    with _waiting(postgres_dsn, lock, low, lambda: call(store, leases[::-1])) as is_free:
        assert is_free(high)


@pytest.mark.parametrize("call", [_advance, _close])
def test_a_bundle_locks_jobs_by_their_ids(store: PostgresStore, postgres_dsn: str, call: Call) -> None:
    """The ids of its jobs have the order in which the jobs were not made."""
    leases = _control(store, call)
    low, high = sorted(lease.job_id for lease in leases)
    with _waiting(postgres_dsn, _JOB, low, lambda: call(store, leases)) as is_free:
        assert is_free(high)


def test_a_bundle_locks_the_whole_groups(store: PostgresStore, postgres_dsn: str) -> None:
    """The advancing of a stage locks its siblings too; who reports their tasks takes them by their ids."""
    jobs = [new_job(f"job {number}", stages=3) for number in range(2)]
    group = [new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3))]
    firsts = run_in_step(store, *jobs, count=1)
    store.advance_job_stages(
        [advance_of(store, lease, *group) for lease in firsts], worker_id="ada", lease_seconds=LEASE_SECONDS
    )
    store.move_clock(LEASE_SECONDS + 1)
    recover(store)
    plans = sorted(claim_all(store, control_type(jobs[0])), key=lambda plan: plan.stage_id)
    wish = FirstLease(worker_id="ada", max_tasks=9, lease_seconds=LEASE_SECONDS)
    started = store.add_tasks_and_lease([chunk(plan, 1) for plan in plans], [wish] * len(plans))
    tasks = [answer.lease for answer in started if answer.lease is not None]
    done = complete(store, *[complete_ok(lease) for lease in tasks if lease.stage_number == 2])
    advances = [answer.advance for answer in done if answer.advance is not None]
    siblings = sorted(lease.stage_id for lease in tasks if lease.stage_number == 3)
    asked = [advance_of(store, lease) for lease in advances]
    call = partial(store.advance_job_stages, asked[::-1], worker_id="ada", lease_seconds=LEASE_SECONDS)
    with _waiting(postgres_dsn, _STAGE, siblings[0], call) as is_free:
        assert is_free(siblings[1])


def test_a_claim_of_several_plans_locks_stages_by_their_ids(store: PostgresStore, postgres_dsn: str) -> None:
    """It claims by priority and settles by id."""
    jobs = [new_job("one"), new_job("two", priority=1)]
    create(store, *jobs)
    stages = sorted(store.list_stages(job.job_id, 1)[0].stage_id for job in jobs)
    with _waiting(postgres_dsn, _STAGE, stages[0], lambda: ask(store, control_type(jobs[0]), max_leases=2)) as is_free:
        assert is_free(stages[1])


def test_a_claim_of_several_plans_locks_jobs_by_their_ids(store: PostgresStore, postgres_dsn: str) -> None:
    """Queued jobs become processing in one order, whoever claims."""
    jobs = [new_job("one"), new_job("two")]
    create(store, *jobs)
    low, high = sorted(job.job_id for job in jobs)
    with _waiting(postgres_dsn, _JOB, low, lambda: ask(store, control_type(jobs[0]), max_leases=2)) as is_free:
        assert is_free(high)


def test_the_end_of_a_job_locks_its_stages_by_their_ids(store: PostgresStore, postgres_dsn: str) -> None:
    """Those who finish tasks of several stages take them in the same order."""
    job = new_job(stages=3)
    start(store, job, 1)
    advance(store, run_all(store, job), new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3)))
    low, high = sorted(stage.stage_id for stage in store.list_stages(job.job_id, 1) if stage.stage_number > 1)
    with _waiting(postgres_dsn, _STAGE, low, lambda: cancel(store, job)) as is_free:
        assert is_free(high)
