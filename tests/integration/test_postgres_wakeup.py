"""NOTIFY and LISTEN: who is woken, when nobody is, and what happens when the listener's connection goes away."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.testing.conformance.builders import (
    ask,
    cancel,
    chunk,
    claim_plan,
    complete_ok,
    complete_one,
    control_type,
    create,
    new_job,
    start,
    tasks_type,
)

_JOB = new_job()
_SOON = 20.0
_LISTENERS = "select pid from pg_stat_activity where application_name = 'stageflow' and query ilike 'listen%'"


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[PostgresStore]:
    """Give a migrated store."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    yield store
    store.close()


def test_one_notification_goes_out_while_work_waits(store: PostgresStore, postgres_dsn: str) -> None:
    """Notifying serialises commits: a type that has ready work already is not announced again, and a completion never is."""
    with psycopg.connect(postgres_dsn, autocommit=True) as listener:
        listener.execute("listen stageflow_work")
        create(store, _JOB)
        create(store, new_job("second"))
        assert len(list(listener.notifies(timeout=1, stop_after=2))) == 1
        plan = claim_plan(store, _JOB)
        store.add_tasks(chunk(plan, 4, final=False))
        assert len(list(listener.notifies(timeout=_SOON, stop_after=1))) == 1
        store.add_tasks(chunk(plan, 4, first_index=4))
        lease = ask(store, tasks_type(_JOB), max_tasks=2, max_leases=1).leases[0]
        complete_one(store, complete_ok(lease))
        assert list(listener.notifies(timeout=0)) == []


def test_work_that_a_rival_is_about_to_take_does_not_silence_the_notification(store: PostgresStore, postgres_dsn: str) -> None:
    """The last ready range is being leased while new work commits: idle workers must hear of the new."""
    create(store, _JOB)
    with psycopg.connect(postgres_dsn, autocommit=True) as listener, psycopg.connect(postgres_dsn) as rival:
        listener.execute("listen stageflow_work")
        rival.execute("select 1 from stageflow.ranges where state = 'ready' for update")
        create(store, new_job("second"))
        assert len(list(listener.notifies(timeout=_SOON, stop_after=1))) == 1


def test_a_listener_whose_connection_was_cut_comes_back(store: PostgresStore, postgres_dsn: str) -> None:
    """A lost connection counts as news at once, and later work is heard again."""
    wakeup = store.work_wakeup()
    with psycopg.connect(postgres_dsn, autocommit=True) as operator:
        ((pid,),) = operator.execute(_LISTENERS).fetchall()
        operator.execute("select pg_terminate_backend(%s)", (pid,))
        assert wakeup.wait(_SOON), "the loss was not noticed"
        assert wakeup.wait(_SOON), "it did not listen again"
        assert len(operator.execute(_LISTENERS).fetchall()) == 1
    create(store, _JOB)
    assert wakeup.wait(_SOON)
    wakeup.close()


def test_a_server_that_is_away_only_makes_wait_time_out() -> None:
    """Without LISTEN a worker still polls."""
    wakeup = PostgresStore("postgresql://127.0.0.1:1/nowhere").work_wakeup()
    assert not wakeup.wait(0.01)
    wakeup.interrupt()
    assert wakeup.wait(_SOON)
    wakeup.close()


def test_a_signal_handler_interrupts_the_wait(store: PostgresStore) -> None:
    """SIGTERM in mid-wait: the handler may interrupt, and the thread that waits returns at once."""
    wakeup = store.work_wakeup()
    before = signal.signal(signal.SIGUSR1, lambda *_: wakeup.interrupt())
    try:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(os.kill, os.getpid(), signal.SIGUSR1)
            started = monotonic()
            assert wakeup.wait(_SOON)
            assert monotonic() - started < _SOON / 2
    finally:
        signal.signal(signal.SIGUSR1, before)
        wakeup.close()


def test_closing_from_another_thread_ends_the_wait(store: PostgresStore) -> None:
    """A worker that shuts down does not wait for its wakeup."""
    wakeup = store.work_wakeup()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wakeup.wait, _SOON)
        wakeup.close()
        waiting.result(_SOON / 2)
    wakeup.close()


def test_only_the_end_of_the_job_itself_wakes_its_waiter(store: PostgresStore) -> None:
    """Another job's end is heard and passed over."""
    start(store, _JOB, 1)
    create(store, new_job("other"))
    wakeup = store.job_wakeup(_JOB.job_id)
    cancel(store, new_job("other"))
    assert not wakeup.wait(0.2)
    cancel(store, _JOB)
    assert wakeup.wait(_SOON)
    assert not ask(store, control_type(_JOB)).leases
    wakeup.close()
