"""A server that checks passwords: wrong ones are refused with what to do, right ones are seen by nobody."""

import importlib
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from stageflow import JobStatus, Stageflow
from stageflow.backends.postgres import PostgresStore
from stageflow.cli import main
from stageflow.errors import StoreUnreachableError
from stageflow.testing.child_process import ServerNotFoundError
from stageflow.testing.postgres_server import PostgresServer

RIGHT = "hunter2Zx9right"
WRONG = "swordfish7Qwrong"
ROLE = "ada"
sys.path.insert(0, str(Path(__file__).parent))
waiting_work: Any = importlib.import_module("waiting_work")


@pytest.fixture(scope="module")
def strict_server() -> Iterator[PostgresServer]:
    """Give a server that asks one role for its password."""
    try:
        server = PostgresServer(tcp=True)
    except ServerNotFoundError as error:
        pytest.fail(str(error))
    with server:
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as owner:
            owner.execute("set password_encryption = 'scram-sha-256'")
            owner.execute(f"create role {ROLE} login superuser password '{RIGHT}'".encode())
            (rules,) = owner.execute("show hba_file").fetchall()[0]
        path = Path(rules)
        path.write_text(f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n" + path.read_text())
        server.restart()
        yield server


@pytest.fixture
def addresses(strict_server: PostgresServer) -> Iterator[tuple[str, str]]:
    """Give the address of a migrated database with the right password, and with a wrong one."""
    dsn = strict_server.create_database()
    right = dsn.replace("postgres@", f"{ROLE}:{RIGHT}@")
    store = PostgresStore(right)
    store.migrate()
    store.close()
    yield right, right.replace(RIGHT, WRONG)
    strict_server.drop_database(dsn)


def _hides(*texts: str) -> None:
    for text in texts:
        assert RIGHT not in text, text
        assert WRONG not in text, text


def test_a_wrong_password_is_refused_with_what_to_do(addresses: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """The server's own refusal is told, with what to check, and the password neither there nor in any cause."""
    _, wrong = addresses
    store = PostgresStore(wrong)
    with pytest.raises(StoreUnreachableError, match="password authentication failed") as caught:
        store.now()
    store.close()
    assert "check that it runs, the address and the credentials" in str(caught.value)
    _hides("".join(traceback.format_exception(caught.value)), repr(caught.value), caplog.text)


@pytest.mark.parametrize("command", ["check", "jobs", "migrate", "worker", "doctor"])
def test_a_command_with_a_wrong_password_says_so(addresses: tuple[str, str], command: str, tmp_path: Path) -> None:
    """Given by the environment: one sentence, and the exit code for a store that cannot be reached."""
    _, wrong = addresses
    words = ["--app", "stageflow.cli.hello_world:demo_registry"]
    environment = {"STAGEFLOW_STORE": wrong, "PGPASSFILE": str(tmp_path / "none")}
    refused = CliRunner().invoke(main, [command, *(words if command != "migrate" else [])], env=environment)
    assert refused.exit_code == 3, refused.output
    assert "password authentication failed" in refused.output
    assert "the credentials" in refused.output
    _hides(refused.output)


def _family(pid: int) -> list[int]:
    """Return a process and all that came from it."""
    children = [child for thread in Path(f"/proc/{pid}/task").iterdir() for child in _children(pid, thread.name)]
    return [pid, *(each for child in children for each in _family(child))]


def _children(pid: int, thread: str) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]


def test_no_process_of_a_worker_shows_its_password(addresses: tuple[str, str], tmp_path: Path) -> None:
    """Everybody on a machine can read what its processes were called with: the worker, its children, and what starts them."""
    right, _ = addresses
    os.mkfifo(tmp_path / "pid")
    os.mkfifo(tmp_path / "end")
    environment = os.environ | {"STAGEFLOW_STORE": right, "STAGEFLOW_APP": "waiting_work:registry"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    words = [sys.executable, "-m", "stageflow", "worker"]
    with Stageflow(right, registry=waiting_work.registry) as app:
        job_id = app.submit("waiting", waiting_work.Place(folder=str(tmp_path))).job.job_id
        with subprocess.Popen(  # noqa: S603  our own command
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
        ) as worker:
            child = int((tmp_path / "pid").read_text())
            family = _family(worker.pid)
            lines = [Path(f"/proc/{each}/cmdline").read_text() for each in family]
            (tmp_path / "end").write_text("now")
            app.wait(job_id, timeout=60)
            worker.terminate()
            output, _ = worker.communicate(timeout=60)
        assert app.job(job_id).status is JobStatus.COMPLETED
    assert child in family
    assert child != worker.pid
    _hides(output, *lines)
