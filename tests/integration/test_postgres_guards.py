"""What the stored functions refuse by themselves, whoever calls them: workers of another release call them too."""

from collections.abc import Iterator

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.lease import SeenLease
from stageflow.contracts.repair import StageRepair
from stageflow.errors import StoreStateError
from stageflow.testing.conformance.builders import (
    advance,
    chunk,
    claim_all,
    claim_one,
    control_type,
    create,
    finish,
    new_job,
    new_stage,
    plan_all,
    run_all,
)

_JOB = new_job()
_END = "select stageflow.end_job(%s, %s, 'by hand', %s, %s, %s, null, null, null)"


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[PostgresStore]:
    """Give a migrated store with a job of which nothing is planned."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    create(store, _JOB)
    yield store
    store.close()


@pytest.fixture
def caller(postgres_dsn: str) -> Iterator[psycopg.Connection]:
    """Give a connection on which each statement is a transaction."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


def _stage_id(store: PostgresStore) -> int:
    return store.list_stages(_JOB.job_id, 1)[0].stage_id


def test_a_job_is_ended_as_failed_or_cancelled_alone(store: PostgresStore, caller: psycopg.Connection) -> None:
    """A job that completes has results to look at first."""
    with pytest.raises(psycopg.DatabaseError, match="ended as failed or cancelled, not as completed") as refused:
        caller.execute(_END, (_JOB.job_id, "completed", None, None, None))
    assert refused.value.sqlstate == "SF002"
    assert store.list_stages(_JOB.job_id, 1)[0].status == "pending"


def test_a_lease_that_was_renewed_meanwhile_does_not_fail_its_job(store: PostgresStore, caller: psycopg.Connection) -> None:
    """Recovery fails a job for a holder that it took for dead; one that was heard of since lives."""
    lease = claim_one(store, control_type(_JOB))
    (seen,) = store.list_leases(10)
    assert isinstance(seen, SeenLease)
    for beat, ended in ((seen.beat + 1, False), (seen.beat, True)):
        row = caller.execute(_END, (_JOB.job_id, "failed", lease.range_id, lease.token, beat)).fetchone()
        assert row == (ended,)


def test_a_stage_is_closed_by_a_status_that_closes(store: PostgresStore, caller: psycopg.Connection) -> None:
    """Nothing else ends it, and once it is closed nothing changes it."""
    close = "select stageflow.close_stage(%s, %s, %s)"
    for status in (None, "processing"):
        with pytest.raises(psycopg.DatabaseError, match="was to be closed as"):
            caller.execute(close, (_stage_id(store), status, "{}"))
    caller.execute(close, (_stage_id(store), "completed", '{"first":1}'))
    caller.execute(close, (_stage_id(store), "failed", '{"second":2}'))
    row = caller.execute("select status, stored_result from stageflow.stages").fetchone()
    assert row == ("completed", '{"first":1}')


@pytest.mark.parametrize("lock", ["ranges", "stages"])
def test_stages_of_which_somebody_holds_a_row_are_not_locked(
    store: PostgresStore, caller: psycopg.Connection, postgres_dsn: str, lock: str
) -> None:
    """A purge waits for nobody: what is in another's hand stays for the next one."""
    ask = "select stageflow.lock_stages(array[%s::bigint])"
    with psycopg.connect(postgres_dsn) as rival:
        if lock == "ranges":
            rival.execute("select 1 from stageflow.ranges for update")
        else:
            rival.execute("select 1 from stageflow.stages for update")
        assert caller.execute(ask, (_stage_id(store),)).fetchone() == (False,)
        rival.rollback()
    assert caller.execute(ask, (_stage_id(store),)).fetchone() == (True,)


def test_a_stage_whose_results_were_deleted_is_not_repaired(store: PostgresStore, caller: psycopg.Connection) -> None:
    """What is missing is not taken for what is to be run again."""
    plan_all(store, _JOB, 3)
    assert finish(store, run_all(store, _JOB)).job_updated
    caller.execute("delete from stageflow.results where task_index = 2")
    with pytest.raises(StoreStateError, match=r"results of 1 tasks of stage 1 .* are missing"):
        store.repair_stage(StageRepair(job_id=_JOB.job_id, former_run=1, stage=_JOB.first_stage, tasks=(0,)))


def test_a_job_advances_from_the_stage_at_which_it_stands(store: PostgresStore, caller: psycopg.Connection) -> None:
    """A row that somebody changed by hand is not made worse."""
    plan_all(store, _JOB, 1)
    lease = run_all(store, _JOB)
    caller.execute("update stageflow.jobs set stage = 2, total_stages = 3")
    with pytest.raises(StoreStateError, match="at stage 2 of run 1 and cannot advance from stage 1"):
        advance(store, lease, new_stage(2))


def test_a_skipped_stage_is_planned(store: PostgresStore, caller: psycopg.Connection) -> None:
    """Nothing of it is to come, which is what an audit reads."""
    plan_all(store, _JOB, 1)
    caller.execute("update stageflow.jobs set total_stages = 3")
    advance(store, run_all(store, _JOB), new_stage(2, skipped=True), new_stage(3))
    rows = caller.execute("select stage_number, planned from stageflow.stages order by stage_number").fetchall()
    assert rows == [(1, True), (2, True), (3, False)]


def test_a_stage_is_opened_once(store: PostgresStore, caller: psycopg.Connection) -> None:
    """A row that is there already, by whoever's hand, is not written over, and the error says what to do."""
    two = new_job("two stages", stages=2)
    create(store, two)
    plans = claim_all(store, control_type(two))
    plan = next(lease for lease in plans if lease.job_id == two.job_id)
    store.add_tasks(chunk(plan, 1))
    lease = run_all(store, two)
    caller.execute(
        "insert into stageflow.stages (job_id, run, stage_number, name, task_type, status, group_first, group_last, created_at,"
        " updated_at) values (%s, 1, 2, 'stray', 'work', 'pending', 2, 2, now(), now())",
        (two.job_id,),
    )
    with pytest.raises(StoreStateError, match="is open already; run `stageflow doctor`"):
        advance(store, lease, new_stage(2))
