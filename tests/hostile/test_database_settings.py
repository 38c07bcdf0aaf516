"""A database whose defaults are not ours: a whole job is done, or the reason is told at the start, with what to do."""

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from stageflow import JobStatus, Stageflow, WorkerOptions
from stageflow.backends.postgres import PostgresStore
from stageflow.backends.postgres.migrations import functions
from stageflow.cli import main
from stageflow.cli.hello_world import Conversation, Hello, demo_registry
from stageflow.errors import StoreError, StoreUnsuitableError

APP = "stageflow.cli.hello_world:demo_registry"
QUICK = WorkerOptions(poll_seconds=0.05)
Alter = Callable[[str, str], None]
STRANGE = [
    ("default_transaction_isolation", "'repeatable read'"),
    ("default_transaction_isolation", "'serializable'"),
    ("default_transaction_deferrable", "on"),
    ("TimeZone", "'Asia/Kathmandu'"),
    ("DateStyle", "'German, DMY'"),
    ("IntervalStyle", "'sql_standard'"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "'escape'"),
    ("client_encoding", "'LATIN1'"),
    ("standard_conforming_strings", "off"),
    ("plpgsql.variable_conflict", "'use_column'"),
    ("idle_session_timeout", "'300ms'"),
    ("statement_timeout", "'1s'"),
    ("lock_timeout", "'50ms'"),
]
BUILTINS = [
    *("array_agg", "array_append", "array_length", "cardinality", "clock_timestamp", "count", "current_setting", "date_part"),
    *("extract", "generate_series", "hashtext", "length", "make_interval", "max", "md5", "min", "now", "pg_backend_pid"),
    *(
        "pg_is_in_recovery",
        "pg_notify",
        "pg_advisory_xact_lock",
        "random",
        "set_config",
        "sum",
        "to_timestamp",
        "unnest",
        "upper",
    ),
]


def _call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def _do_a_job(address: str) -> None:
    """Do a whole job, and read it in each way."""
    before = datetime.now(UTC)
    with Stageflow(address, registry=demo_registry) as app:
        app.repositories.store.migrate()
        with app.worker(QUICK):
            job_id = app.submit("hello_world", Hello(n=3, name="Zoë \\ 世界 '%s'")).job.job_id
            app.wait(job_id, timeout=60)
        job = app.job(job_id)
        assert job.status is JobStatus.COMPLETED
        assert app.result(job_id, Conversation) == Conversation(replies=3)
        assert before.timestamp() - 5 < job.created_at.timestamp() < datetime.now(UTC).timestamp() + 5
        assert job.parameters == {"n": 3, "name": "Zoë \\ 世界 '%s'"}
    for command in (["explain", job_id], ["tasks", job_id, "--stage", "1"], ["verify"], ["doctor"]):
        read = _call(*command, "--store", address, "--app", APP)
        assert read.exit_code == 0, (command, read.output)


@pytest.mark.parametrize(("name", "value"), STRANGE, ids=lambda text: text.strip("'"))
def test_a_strange_default_changes_nothing(address: str, alter: Alter, name: str, value: str) -> None:
    """Isolation, time zone, formats and timeouts that a database has for others do not reach the store's statements."""
    alter(name, value)
    _do_a_job(address)


def test_a_search_path_that_shadows_everything_changes_nothing(address: str, postgres_dsn: str, alter: Alter) -> None:
    """Tables, functions and operators of another schema that comes before PostgreSQL's own are never taken for ours."""
    with psycopg.connect(postgres_dsn, autocommit=True) as owner:
        owner.execute("create schema shadow")
        for table in ("jobs", "stages", "tasks", "results", "ranges", "migrations", "functions", "pg_class", "pg_proc"):
            owner.execute(f"create table shadow.{table} (trap integer)".encode())
        for name in functions():
            owner.execute(
                f"create function shadow.{name}() returns int language plpgsql as $$ begin assert false; end $$".encode()
            )
        owner.execute(_TRAPS.replace("BUILTINS", "', '".join(BUILTINS)).encode())
        trapped = owner.execute("select count(*) from pg_proc where pronamespace = 'shadow'::regnamespace").fetchone()
        assert trapped is not None
        assert trapped[0] > len(functions()) + 20
    alter("search_path", "shadow, pg_catalog, public")
    with psycopg.connect(postgres_dsn) as victim, pytest.raises(psycopg.errors.RaiseException, match="trapped"):
        victim.execute("select now()")
    _do_a_job(address)


_TRAPS = """
do $$
declare
    v_function record;
begin
    create function shadow.equal(text, text) returns boolean language plpgsql as
        'begin raise exception ''trapped: ='' using errcode = ''P0001''; end';
    create operator shadow.= (function = shadow.equal, leftarg = text, rightarg = text);
    create function shadow.step(bigint) returns bigint language plpgsql as
        'begin raise exception ''trapped: count'' using errcode = ''P0001''; end';
    create aggregate shadow.count(*) (sfunc = shadow.step, stype = bigint, initcond = '0');
    for v_function in
        select p.proname, pg_get_function_identity_arguments(p.oid) as arguments, pg_get_function_result(p.oid) as result
        from pg_proc p
        where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and p.provariadic = 0
            and p.proname = any (array['BUILTINS']) and pg_get_function_result(p.oid) not like '%internal%'
            and pg_get_function_identity_arguments(p.oid) !~ 'internal'
    loop
        execute format('create function shadow.%I(%s) returns %s language plpgsql as '
            '''begin raise exception ''''trapped: %s'''' using errcode = ''''P0001''''; end''',
            v_function.proname, v_function.arguments, v_function.result, v_function.proname);
    end loop;
end
$$
"""


def test_a_reader_of_a_read_only_database_reads_and_nobody_else_starts(address: str, alter: Alter) -> None:
    """Who only reads is not locked out; a worker or a submitter is told at the start what to change."""
    with Stageflow(address, registry=demo_registry) as app:
        app.repositories.store.migrate()
        job_id = app.submit("hello_world", Hello(n=1)).job.job_id
    alter("default_transaction_read_only", "on")
    for command in (["status", job_id], ["explain", job_id], ["jobs"], ["verify"], ["doctor"]):
        read = _call(*command, "--store", address, "--app", APP)
        assert read.exit_code == 0, (command, read.output)
    for command in (["worker"], ["submit", "hello_world", "--parameters", '{"n": 2}'], ["cancel", job_id]):
        refused = _call(*command, "--store", address, "--app", APP)
        assert refused.exit_code == 3, (command, refused.output)
        assert "takes no writes from this user" in refused.output
        assert "default_transaction_read_only off" in refused.output
    with (
        Stageflow(address, registry=demo_registry) as app,
        pytest.raises(StoreUnsuitableError, match="default_transaction_read_only"),
        app.worker(QUICK),
    ):
        pass


_WAITING = (
    "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    " and application_name = 'stageflow' and clock_timestamp() - query_start > %s * interval '1 millisecond'"
)


@pytest.mark.parametrize("name", ["lock_timeout", "statement_timeout"])
def test_a_timeout_for_others_does_not_cut_a_write_that_waits(address: str, postgres_dsn: str, alter: Alter, name: str) -> None:
    """A write behind a lock waits for it, longer than the database's default would let it."""
    store = PostgresStore(address)
    store.migrate()
    alter(name, "'100ms'")
    store.close()
    jobs: list[str] = []

    def submit() -> None:
        with Stageflow(address, registry=demo_registry) as app:
            jobs.append(app.submit("hello_world", Hello(n=1)).job.job_id)

    thread = Thread(target=submit)
    with psycopg.connect(postgres_dsn, autocommit=True) as watcher, psycopg.connect(postgres_dsn) as blocker:
        blocker.execute("lock table stageflow.jobs in access exclusive mode")
        thread.start()
        while watcher.execute(_WAITING, (400,)).fetchone() is None:
            assert thread.is_alive()
    thread.join(60)
    assert len(jobs) == 1


def test_a_statement_that_an_administrator_cancels_is_told_to_be_rolled_back(address: str, postgres_dsn: str) -> None:
    """It took no effect, which is known; the server did not go away."""
    store = PostgresStore(address)
    store.migrate()
    errors: list[StoreError] = []

    def submit() -> None:
        with Stageflow(address, registry=demo_registry) as app:
            try:
                app.submit("hello_world", Hello(n=1))
            except StoreError as error:
                errors.append(error)

    thread = Thread(target=submit)
    with psycopg.connect(postgres_dsn, autocommit=True) as watcher, psycopg.connect(postgres_dsn) as blocker:
        blocker.execute("lock table stageflow.jobs in access exclusive mode")
        thread.start()
        while (waiting := watcher.execute(_WAITING, (0,)).fetchone()) is None:
            assert thread.is_alive()
        watcher.execute("select pg_cancel_backend(%s)", waiting)
        thread.join(60)
    (error,) = errors
    assert type(error) is StoreError
    assert "rolled the transaction back" in str(error)
    assert "nothing was written, call again" in str(error)
    store.close()


_IDLE = (
    "select pid, clock_timestamp() - state_change > interval '1 second' from pg_stat_activity"
    " where datname = current_database() and application_name = 'stageflow'"
)


def _idle_sessions(watcher: psycopg.Connection[Any]) -> dict[int, bool]:
    """Return the store's sessions, each with whether it was idle for long."""
    return {row[0]: row[1] for row in watcher.execute(_IDLE)}


def test_an_idle_session_is_not_ended(postgres_dsn: str, alter: Alter) -> None:
    """Sessions that wait for the next statement, or for news, outlive what the database allows others."""
    alter("idle_session_timeout", "'200ms'")
    store = PostgresStore(postgres_dsn)
    store.migrate()
    wakeup = store.work_wakeup()
    store.now()
    with psycopg.connect(postgres_dsn, autocommit=True) as watcher:
        watcher.execute("set idle_session_timeout = 0")
        before = _idle_sessions(watcher)
        assert len(before) >= 2
        while not all((now := _idle_sessions(watcher)).values()):
            assert before.keys() <= now.keys()
    assert before.keys() <= now.keys()
    wakeup.close()
    store.close()
