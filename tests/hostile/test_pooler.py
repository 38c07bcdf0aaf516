"""A pooler in transaction mode, which runs each transaction of a client in whichever session of the server is free."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from stageflow import JobStatus, Stageflow, WorkerOptions
from stageflow.backends.postgres import PostgresStore
from stageflow.cli import main
from stageflow.cli.hello_world import Conversation, Hello, demo_registry
from stageflow.testing.pgbouncer_server import PgBouncer

APP = "stageflow.cli.hello_world:demo_registry"
SETTINGS = ["search_path", "enable_seqscan", "plan_cache_mode", "jit", "statement_timeout", "default_transaction_isolation"]
QUICK = WorkerOptions(poll_seconds=0.05)
sys.path.insert(0, str(Path(__file__).parent))
pooled_work: Any = importlib.import_module("pooled_work")


@pytest.fixture
def pooled_dsn(pgbouncer: PgBouncer) -> str:
    """Give the address of an empty database behind the pooler."""
    return pgbouncer.dsn


@contextmanager
def _app(dsn: str, registry: Any = demo_registry) -> Iterator[Stageflow]:
    with Stageflow(dsn, registry=registry) as app:
        app.repositories.store.migrate()
        yield app


def _ask_all(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    """Ask both sessions that the pooler has, by two transactions at a time."""
    with ExitStack() as open_ones:
        sessions = [open_ones.enter_context(psycopg.connect(dsn)) for _ in range(2)]
        pids = {session.execute("select pg_backend_pid()").fetchone() for session in sessions}
        assert len(pids) == len(sessions)
        return [row for session in sessions for row in session.execute(statement.encode()).fetchall()]


def test_jobs_run_through_a_pooler(pooled_dsn: str) -> None:
    """Two workers of four slots share two sessions of the server, and every statement finds what it needs."""
    with _app(pooled_dsn) as app, app.worker(QUICK), app.worker(QUICK):
        jobs = [app.submit("hello_world", Hello(n=5, name=name)).job.job_id for name in "abcdef"]
        for job_id in jobs:
            app.wait(job_id, timeout=60)
            assert app.job(job_id).status is JobStatus.COMPLETED
            assert app.result(job_id, Conversation) == Conversation(replies=5)


def test_a_handlers_transaction_runs_through_a_pooler(pooled_dsn: str) -> None:
    """Statements of a handler are not prepared either, so that none meets another client's of the same name."""
    with _app(pooled_dsn, pooled_work.registry) as app:
        with psycopg.connect(pooled_dsn) as owner:
            owner.execute("create table public.ledger (number integer, line integer)")
        with app.worker(QUICK):
            job_id = app.submit("orders", pooled_work.Orders(count=6)).job.job_id
            app.wait(job_id, timeout=60)
        assert app.job(job_id).status is JobStatus.COMPLETED
        with psycopg.connect(pooled_dsn) as owner:
            counted = owner.execute("select count(*) from public.ledger").fetchone()
    assert counted == (6 * pooled_work.LINES_EACH,)


def test_nothing_is_left_in_a_shared_session(pooled_dsn: str) -> None:
    """Other clients of the pooler find the settings of the server, no statement of ours, and nobody who listens."""
    shown = "select " + ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    before = _ask_all(pooled_dsn, shown)
    with _app(pooled_dsn) as app, app.worker(QUICK):
        app.wait(app.submit("hello_world", Hello(n=5)).job.job_id, timeout=60)
        app.repositories.store.verify()
    assert sorted(_ask_all(pooled_dsn, shown)) == sorted(before)
    assert _ask_all(pooled_dsn, "select name from pg_prepared_statements") == []
    assert _ask_all(pooled_dsn, "select pg_listening_channels()") == []


def test_the_clock_of_one_store_is_moved_for_no_other(pooled_dsn: str) -> None:
    """A moved clock holds for the transactions of its own store, in whichever session they are."""
    moved, other = PostgresStore(pooled_dsn), PostgresStore(pooled_dsn)
    moved.migrate()
    moved.move_clock(3600)
    for _ in range(6):
        assert 3500 < (moved.now() - other.now()).total_seconds() < 3700
    moved.close()
    other.close()


@pytest.mark.parametrize("command", [["verify"], ["doctor"], ["check", "--app", APP], ["jobs", "--json"]], ids=" ".join)
def test_commands_run_through_a_pooler(pooled_dsn: str, command: list[str]) -> None:
    """The schema is compared, and the store examined, as on a connection of one's own."""
    with _app(pooled_dsn) as app:
        app.submit("hello_world", Hello(n=1))
    ran = CliRunner().invoke(main, [*command, "--store", pooled_dsn])
    assert ran.exit_code == 0, ran.output
    assert PgBouncer.PASSWORD not in ran.output


def test_a_pooler_in_session_mode_does_no_harm(postgres_dsn: str, pgbouncer: PgBouncer) -> None:
    """It cannot be told from the other mode, and is used in the same way."""
    assert pgbouncer.dsn
    with (
        PgBouncer(postgres_dsn, mode="session", server_connections=20) as pooler,
        _app(pooler.dsn) as app,
        app.worker(QUICK),
    ):
        job_id = app.submit("hello_world", Hello(n=3)).job.job_id
        app.wait(job_id, timeout=60)
        assert app.job(job_id).status is JobStatus.COMPLETED


def test_a_connection_factory_says_that_it_leads_to_a_pooler(postgres_dsn: str) -> None:
    """Psycopg's own mark is enough where a pooler hands on the server's process id: nothing of ours stays in the session."""
    made: list[psycopg.Connection[Any]] = []

    def connect() -> psycopg.Connection[Any]:
        made.append(psycopg.connect(postgres_dsn, prepare_threshold=None))
        return made[-1]

    store = PostgresStore(connect)
    store.migrate()
    store.now()
    with psycopg.connect(postgres_dsn) as plain:
        untouched = plain.execute("show search_path").fetchone()
    for connection in made:
        if not connection.closed:
            assert connection.execute("show search_path").fetchone() == untouched
            assert connection.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)
    assert not all(connection.closed for connection in made)
    store.close()
