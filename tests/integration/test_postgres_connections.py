"""The way to the server: refusals that say what to do and no secret, restarts, factories, clocks."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from stageflow.backends.postgres import PostgresStore
from stageflow.backends.postgres.failures import translated
from stageflow.backends.postgres.pool import require_suitable
from stageflow.contracts.job import JobUpdate
from stageflow.errors import InvalidValueError, StoreError, StoreUnreachableError, StoreUnsuitableError
from stageflow.testing.child_process import ServerNotFoundError
from stageflow.testing.conformance.builders import (
    all_types,
    ask,
    claim_plan,
    complete_ok,
    complete_one,
    create,
    new_job,
    start,
)
from stageflow.testing.postgres_server import PostgresServer

_SECRET = "correct horse battery staple"
_JOB = new_job()


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[PostgresStore]:
    """Give a migrated store."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    yield store
    store.close()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """Give a server that a test may stop and start."""
    try:
        server = PostgresServer(tcp=True)
    except ServerNotFoundError as error:
        pytest.fail(str(error))
    with server:
        yield server


@pytest.mark.parametrize("state", ["53100", "53200"])
def test_a_server_without_room_is_not_said_to_be_away(postgres_dsn: str, state: str) -> None:
    """A full disk or memory is tried again like an outage, and the advice is to make room."""
    with psycopg.connect(postgres_dsn) as connection, pytest.raises(psycopg.OperationalError) as caught:
        connection.execute(f"do $$ begin raise exception 'no room' using errcode = '{state}'; end $$".encode())
    error = translated(caught.value, "postgresql://store")
    assert isinstance(error, StoreUnreachableError)
    assert str(error).startswith("PostgreSQL at postgresql://store has no room left (no room")
    assert str(error).endswith("; free disk space or memory there, then try again")


def _refused(dsn: str, kind: type[StoreError]) -> str:
    store = PostgresStore(dsn)
    with pytest.raises(kind) as caught:
        store.now()
    store.close()
    chain: BaseException | None = caught.value
    while chain is not None:
        assert _SECRET not in str(chain), chain
        chain = chain.__cause__
    return str(caught.value)


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    """The message has the address and what to check, never the secret."""
    with socket.socket() as closed_port:
        closed_port.bind(("127.0.0.1", 0))
        port = closed_port.getsockname()[1]
    message = _refused(
        make_conninfo(host="127.0.0.1", port=port, user="ada", password=_SECRET, dbname="d"), StoreUnreachableError
    )
    assert f"postgresql://ada@127.0.0.1:{port}/d" in message
    assert "check that it runs" in message


def test_wrong_credentials_are_refused_without_the_password(postgres_dsn: str) -> None:
    """A role that may not come in is told so, and the secret stays out of the log."""
    message = _refused(make_conninfo(postgres_dsn, user="nobody_by_this_name", password=_SECRET), StoreUnreachableError)
    assert "nobody_by_this_name" in message
    assert "credentials" in message


def test_an_address_that_cannot_be_read_is_not_quoted() -> None:
    """A typo in an address must not print the password beside it."""
    with pytest.raises(InvalidValueError, match="postgresql://user@host:port/database") as caught:
        PostgresStore(f"host=127.0.0.1 password='{_SECRET}' nonsense")
    assert _SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_url_has_no_secret() -> None:
    """What is printed and logged is the address alone."""
    store = PostgresStore(f"postgresql://ada:{_SECRET.replace(' ', '%20')}@db.example.org:5433/app?sslmode=require")
    assert store.url == "postgresql://ada@db.example.org:5433/app"


def test_nothing_is_opened_before_the_first_call() -> None:
    """A store can be made where its server is not there yet."""
    PostgresStore("postgresql://127.0.0.1:1/nowhere").close()


def test_a_sql_ascii_database_is_refused(postgres_dsn: str) -> None:
    """A database that checks no text cannot promise to give it back."""
    name = "ascii_" + psycopg.conninfo.conninfo_to_dict(postgres_dsn)["dbname"]  # type: ignore[operator]
    statement = sql.SQL("create database {} encoding 'SQL_ASCII' locale 'C' template template0").format(sql.Identifier(name))
    with psycopg.connect(postgres_dsn, autocommit=True) as operator:
        operator.execute(statement)
        try:
            assert "encoding UTF8" in _refused(make_conninfo(postgres_dsn, dbname=name), StoreUnsuitableError)
        finally:
            operator.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.mark.parametrize(
    ("version", "encoding", "replica", "advice"),
    [
        (140_011, "UTF8", False, "version 14; stageflow needs 15 or newer"),
        (150_001, "SQL_ASCII", False, "create it with encoding UTF8"),
        (180_000, "UTF8", True, "connect to the primary"),
    ],
)
def test_an_unsuitable_server_is_refused_with_advice(version: int, encoding: str, replica: bool, advice: str) -> None:  # noqa: FBT001
    """Too old, no encoding, a replica: refused at start, not found out later."""
    with pytest.raises(StoreUnsuitableError, match=advice):
        require_suitable(version=version, encoding=encoding, replica=replica, url="postgresql://server/d")


def test_a_suitable_server_is_accepted() -> None:
    """The oldest supported version passes."""
    require_suitable(version=150_000, encoding="UTF8", replica=False, url="postgresql://server/d")


def test_a_store_takes_a_connection_factory(postgres_dsn: str) -> None:
    """For credentials that expire: each new connection is asked of the application, with whatever row factory it likes."""
    made: list[psycopg.Connection[Any]] = []

    def connect() -> psycopg.Connection[Any]:
        made.append(psycopg.connect(postgres_dsn, row_factory=dict_row))
        return made[-1]

    store = PostgresStore(connect)
    assert store.url.startswith("postgresql://")
    store.migrate()
    create(store, _JOB)
    assert claim_plan(store, _JOB).job_id == _JOB.job_id
    assert len(made) >= 2
    store.close()
    assert all(connection.closed for connection in made)


def test_a_factory_that_fails_is_an_unreachable_store() -> None:
    """The application's own connect error is translated like ours."""

    def connect() -> psycopg.Connection[Any]:
        msg = "the token expired"
        raise psycopg.OperationalError(msg)

    with pytest.raises(StoreUnreachableError, match="the token expired"):
        PostgresStore(connect).now()


def test_a_closed_store_says_so(store: PostgresStore) -> None:
    """A call after close is a bug that is named."""
    store.now()
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.now()


def test_more_threads_than_connections_take_turns(postgres_dsn: str) -> None:
    """A small pool makes callers wait, not fail."""
    from stageflow.testing.conformance.crowd import crowd  # noqa: PLC0415

    store = PostgresStore(postgres_dsn, pool_size=2)
    store.migrate()
    assert len(crowd(12, lambda _: [store.now() for _ in range(20)])) == 12
    with psycopg.connect(postgres_dsn) as connection:
        statement = (
            "select count(*) from pg_stat_activity where application_name = 'stageflow' and datname = current_database()"
        )
        ((count,),) = connection.execute(statement).fetchall()
    store.close()
    assert count <= 2


@pytest.mark.faults
def test_f08_a_restart_of_the_database_is_survived(own_server: PostgresServer) -> None:
    """F8: reads are tried again on a fresh connection; a write that met the restart raises, and repeated it succeeds once."""
    dsn = own_server.create_database()
    store = PostgresStore(dsn)
    store.migrate()
    start(store, _JOB, 3)
    lease = ask(store, *all_types(_JOB)).leases[0]
    own_server.restart()
    assert [job.job_id for job in store.get_jobs([_JOB.job_id])] == [_JOB.job_id]
    own_server.restart()
    with pytest.raises(StoreUnreachableError, match="cannot be reached"):
        complete_one(store, complete_ok(lease))
    assert complete_one(store, complete_ok(lease)).is_last_task_in_stage
    own_server.stop()
    with pytest.raises(StoreUnreachableError):
        store.update_job(_JOB.job_id, JobUpdate(error_details="x"))
    own_server.start()
    assert store.update_job(_JOB.job_id, JobUpdate(error_details="x"))
    store.close()


@pytest.mark.faults
def test_f07_a_cut_connection_costs_a_read_nothing(store: PostgresStore, postgres_dsn: str) -> None:
    """An administrator who terminates our sessions is not seen by a reader."""
    before = store.now()
    with psycopg.connect(postgres_dsn, autocommit=True) as operator:
        operator.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'stageflow'")
    assert store.now() >= before


def test_times_keep_their_microseconds(store: PostgresStore) -> None:
    """A result's time comes back as it was reported."""
    plan = start(store, _JOB, 1)
    report = complete_ok(ask(store, *all_types(_JOB)).leases[0])
    moment = datetime(2026, 5, 17, 8, 30, microsecond=999_999, tzinfo=UTC)
    complete_one(store, report.model_copy(update={"completed_at": [moment.timestamp()]}))
    (result,) = store.list_task_results(plan.stage_id, first_index=0, limit=10)
    assert result.completed_at == moment


def test_the_moved_clock_belongs_to_one_store(store: PostgresStore, postgres_dsn: str) -> None:
    """Moving one store's time moves no other's, on whatever connection its calls run."""
    other = PostgresStore(postgres_dsn)
    store.move_clock(3600)
    assert 3500 < (store.now() - other.now()).total_seconds() < 3700
    store.move_clock(-7200)
    assert -3700 < (store.now() - other.now()).total_seconds() < -3500
    other.close()
