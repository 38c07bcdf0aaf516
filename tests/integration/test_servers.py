"""The throwaway servers that all other tests stand on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from stageflow.testing.azurite_server import AzuriteServer
from stageflow.testing.child_process import ScratchFolder, ServerFailedError, ServerNotFoundError
from stageflow.testing.postgres_binaries import find_postgres
from stageflow.testing.postgres_server import PostgresDatabases, PostgresServer

HOLDER = """
import signal, sys
from stageflow.testing.azurite_server import AzuriteServer
from stageflow.testing.postgres_server import PostgresServer

with {server} as server:
    print({pid}, flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Give a PostgreSQL that a test may stop and kill."""
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


def words(dsn: str) -> list[str]:
    """Return what the table holds."""
    with psycopg.connect(dsn) as connection:
        return [str(row[0]) for row in connection.execute("select word from kept")]


def setting(dsn: str, name: str) -> str:
    """Return a setting of the server."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, a zombie that nobody has reaped yet included."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def await_gone(pid: int, seconds: float = 20) -> bool:
    """Wait until a process that is no child of ours has ended."""
    deadline = time.monotonic() + seconds
    handle = os.pidfd_open(pid)
    try:
        while not is_gone(pid) and time.monotonic() < deadline:
            # Readable at its end; the pause covers a parent that reaps late.
            signal.sigtimedwait([], 0.02)
    finally:
        os.close(handle)
    return is_gone(pid)
