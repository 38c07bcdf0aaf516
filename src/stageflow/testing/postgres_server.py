"""A PostgreSQL server of one's own, and throwaway databases on any server."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from stageflow.testing.child_process import (
    ScratchFolder,
    ServerFailedError,
    await_ready,
    children_of,
    has_ended,
    launcher,
    log_tail,
    start_child,
)
from stageflow.testing.postgres_binaries import find_postgres

SUPERUSER = "postgres"
SOCKET_PORT = 5432
START_SECONDS = 60
STOP_SECONDS = 60
CONNECT_SECONDS = 5

NOT_DURABLE = {
    # Safe against a killed server, not against a lost machine. Not `synchronous_commit=off`: a kill would lose commits.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "5s",
}
STILL_HELD = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')
"""What a new server says while a session of its killed predecessor is still running."""


class PostgresDatabases:
    """Throwaway databases on a PostgreSQL server, each known by its DSN.

    Args:
        admin_dsn: A ``postgresql://`` address of a role that may create databases.

    Raises:
        ValueError: The address is no URL, or fixes the database in its query part.
    """

    def __init__(self, admin_dsn: str) -> None:
        self._admin_dsn = admin_dsn
        self._created: set[str] = set()
        probe = "stageflow_probe"
        if not admin_dsn.startswith(("postgresql://", "postgres://")) or _database_of(self.dsn(probe)) != probe:
            msg = "A test server's address must be a URL, postgresql://user@host/database, with the database in its path."
            raise ValueError(msg)

    @property
    def version(self) -> str:
        """The server's version, e.g. ``"18.6"``."""
        with psycopg.connect(self._admin_dsn, connect_timeout=CONNECT_SECONDS) as connection:
            return connection.info.parameter_status("server_version") or str(connection.info.server_version)

    def dsn(self, database: str) -> str:
        """Return the address of a database on this server, there or not."""
        url = urlsplit(self._admin_dsn)
        # By hand, because urlunsplit drops the two slashes that an address without a host still needs.
        return f"{url.scheme}://{url.netloc}/{quote(database, safe='')}{'?' if url.query else ''}{url.query}"

    def create_database(self, template: str | None = None) -> str:
        """Create an empty UTF-8 database under a new name, or a copy of another.

        Args:
            template: The DSN of the database to copy; nobody may be connected to it.

        Returns:
            Its DSN.
        """
        name = f"stageflow_{uuid.uuid4().hex[:16]}"
        source = "template0" if template is None else _database_of(template)
        statement = sql.SQL("create database {} template {} encoding 'UTF8'")
        self._administer(statement.format(sql.Identifier(name), sql.Identifier(source)))
        self._created.add(name)
        return self.dsn(name)

    def drop_database(self, dsn: str) -> None:
        """Drop a database with its connections; one that is gone already is no error.

        Raises:
            ValueError: It was not created here. Somebody may need it.
        """
        name = _database_of(dsn)
        if name not in self._created:
            msg = f"The database {name} was not created by this object, so it is not dropped."
            raise ValueError(msg)
        self._administer(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        self._created.remove(name)

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._admin_dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute(statement)


class PostgresServer(PostgresDatabases):
    """A PostgreSQL server in a temporary folder, for this process only. POSIX systems only.

    It listens on a unix socket in its folder, trusts everybody who can open it, and is gone with the process: by the
    context manager, and on Linux also after a SIGKILL (see :func:`~stageflow.testing.child_process.launcher`). As root
    it runs in a user namespace, or as an unprivileged user.

    Args:
        folder: Where ``postgres`` and ``initdb`` are; by default the first that is found.
        durable: Flush to the disk as a production server does. Off for tests: quicker, and still safe against
            :meth:`kill`.
        tcp: Listen on a free port of 127.0.0.1 too, and name that in every DSN.
        settings: Server settings, e.g. ``{"shared_buffers": "1GB"}``.
        run_as: The user that root becomes, in place of the user namespace.

    Raises:
        ServerNotFoundError: No PostgreSQL, or nobody to run it as.
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        durable: bool = False,
        tcp: bool = False,
        settings: Mapping[str, str] | None = None,
        run_as: str | None = None,
    ) -> None:
        self._binaries = find_postgres(folder, run_as=run_as)
        self._durable = durable
        self._scratch = ScratchFolder()
        self._data = self._scratch.path / "data"
        self._log = self._scratch.path / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port() if tcp else SOCKET_PORT
        listen = {"listen_addresses": "127.0.0.1" if tcp else "", "port": str(self._port)}
        self._settings = listen | ({} if durable else NOT_DURABLE) | dict(settings or {})
        by_socket = f"postgresql://{SUPERUSER}@/postgres?host={quote(str(self._scratch.path), safe='')}&port={self._port}"
        self._socket_dsn = by_socket
        super().__init__(f"postgresql://{SUPERUSER}@127.0.0.1:{self._port}/postgres" if tcp else by_socket)

    @property
    def version(self) -> str:
        """The server's version, e.g. ``"18.6"``; known without starting it."""
        return self._binaries.version

    @property
    def binaries(self) -> Path:
        """The folder of its programs (``psql``, ``pg_dump``, ...)."""
        return self._binaries.folder

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._log

    @property
    def pid(self) -> int:
        """The process id of the running server.

        Raises:
            ServerFailedError: It does not run.
        """
        return self._running().pid

    def start(self) -> None:
        """Start the server, on the data of its last run if there was one, and wait until it answers.

        Raises:
            ServerFailedError: It runs already, or did not answer within a minute.
        """
        if self._process is not None:
            msg = "This PostgreSQL server runs already; stop() it first."
            raise ServerFailedError(msg)
        if not self._data.exists():
            self._initialise()
        deadline = time.monotonic() + START_SECONDS
        while not self._start_once(deadline):
            if time.monotonic() >= deadline or not any(reason in log_tail(self._log) for reason in STILL_HELD):
                msg = f"PostgreSQL {self.version} did not start; its log ends:\n{log_tail(self._log)}"
                raise ServerFailedError(msg)

    def stop(self) -> None:
        """Stop the server as its operator would: connections are cut, everything committed is on the disk."""
        process = self._running()
        process.send_signal(signal.SIGINT)
        if not has_ended(process, STOP_SECONDS):
            process.kill()
            process.wait()
            msg = f"PostgreSQL did not stop within {STOP_SECONDS} s and was killed; its log ends:\n{log_tail(self._log)}"
            raise ServerFailedError(msg)
        self._process = None

    def restart(self) -> None:
        """Stop the server and start it again, on the same data and address."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kill the server as a crash does; :meth:`start` recovers what was committed.

        On Linux its sessions are killed with it; elsewhere they end by themselves when they next wait for something.
        """
        process = self._running()
        process.send_signal(signal.SIGSTOP)  # so that no session starts between the list and the kill
        sessions = children_of(process.pid)
        process.kill()
        process.wait()
        for session in sessions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(session, signal.SIGKILL)
        self._process = None

    def close(self) -> None:
        """Stop the server if it runs and remove its folder."""
        try:
            if self._process is not None:
                self.stop()
        finally:
            self._scratch.remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            msg = "This PostgreSQL server does not run; start() it first."
            raise ServerFailedError(msg)
        return self._process

    def _command(self, program: str, *arguments: str) -> list[str]:
        runner = self._binaries.runner
        return [*launcher(signal.SIGINT, runner.user), *runner.prefix, self._binaries.program(program), *arguments]

    def _initialise(self) -> None:
        if self._binaries.runner.user:
            self._scratch.give_to(self._binaries.runner.user)
        words = [f"--pgdata={self._data}", f"--username={SUPERUSER}", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        if not self._durable:
            words.append("--no-sync")
        process = start_child(self._command("initdb", *words), self._log)
        if not has_ended(process, START_SECONDS):
            process.kill()
        if process.wait() != 0:
            msg = f"initdb failed as {self._binaries.runner}; it said:\n{log_tail(self._log)}"
            raise ServerFailedError(msg)

    def _start_once(self, deadline: float) -> bool:
        self._log.write_bytes(b"")
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        words = ["-D", str(self._data), "-k", str(self._scratch.path), *settings]
        process = start_child(self._command("postgres", *words), self._log)
        if await_ready(process, self._answers, deadline):
            self._process = process
            return True
        process.kill()
        process.wait()
        return False

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._socket_dsn, connect_timeout=CONNECT_SECONDS).close()
        except psycopg.OperationalError:
            return False
        return True


def _database_of(dsn: str) -> str:
    return str(conninfo_to_dict(dsn)["dbname"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
