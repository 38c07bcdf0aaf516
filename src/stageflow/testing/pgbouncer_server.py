"""A PgBouncer in front of a PostgreSQL server, for this process only. POSIX systems only."""

import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from stageflow.testing.child_process import (
    ScratchFolder,
    ServerFailedError,
    ServerNotFoundError,
    await_ready,
    has_ended,
    launcher,
    log_tail,
    start_child,
)
from stageflow.testing.postgres_binaries import find_runner

_SYSTEM_FOLDER: Final = "/usr/sbin"
"""Debian's place for it, which is not on everybody's search path."""
_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 30
_HOW_TO_GET_IT: Final = "Install Debian's package with `apt-get install pgbouncer`, or put the program on the search path."


def find_pgbouncer() -> Path:
    """Return where the program is: on the search path, or in the system's own folder.

    Raises:
        ServerNotFoundError: It is in neither.
    """
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path=_SYSTEM_FOLDER)
    if found is None:
        msg = f"No PgBouncer to start: it is neither on the search path nor in {_SYSTEM_FOLDER}. {_HOW_TO_GET_IT}"
        raise ServerNotFoundError(msg)
    return Path(found)


def describe_pgbouncer() -> str:
    """Return the version and the place of the program.

    Raises:
        ServerNotFoundError: There is none, or it does not say.
    """
    program = find_pgbouncer()
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - found above
    number = re.search(r"\d+(\.\d+)+", answer.stdout)
    if number is None:
        msg = f"{program} says {answer.stdout.strip()!r} where its version was expected. {_HOW_TO_GET_IT}"
        raise ServerNotFoundError(msg)
    return f"{number.group()} from {program}"


class PgBouncer:
    """A pooler between clients on 127.0.0.1 and one database of a server that trusts us.

    It checks passwords by a list of users (``auth_type = plain``, so that no server has to), and is gone with the process.

    Args:
        dsn: The address of the database behind it.
        mode: ``transaction`` or ``session``.
        server_connections: How many it has to the server; fewer than the clients, so that these share them.

    Raises:
        ServerNotFoundError: There is no PgBouncer, or nobody to run it as.
    """

    USER: Final = "pooled"
    PASSWORD: Final = "through-the-pooler"  # noqa: S105  of nobody but the tests

    def __init__(self, dsn: str, *, mode: str = "transaction", server_connections: int = 2) -> None:
        self._program: Final = find_pgbouncer()
        self._runner: Final = find_runner()
        self._scratch: Final = ScratchFolder()
        self._log: Final = self._scratch.path / "pgbouncer.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port: Final = _free_port()
        self._database: Final = str(conninfo_to_dict(dsn)["dbname"])
        self._write_configuration(dsn, mode, server_connections)

    @property
    def dsn(self) -> str:
        """The address of the database through the pooler."""
        return f"postgresql://{self.USER}:{self.PASSWORD}@127.0.0.1:{self._port}/{self._database}"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            ServerFailedError: It did not answer in time.
        """
        if self._runner.user:
            self._scratch.give_to(self._runner.user)
        command = [*self._runner.prefix, str(self._program), str(self._scratch.path / "pgbouncer.ini")]
        words = [*launcher(signal.SIGINT, self._runner.user), *command]
        process = start_child(words, self._log)
        if not await_ready(process, self._answers, time.monotonic() + _START_SECONDS):
            process.kill()
            process.wait()
            msg = f"PgBouncer did not start; its log ends:\n{log_tail(self._log)}"
            raise ServerFailedError(msg)
        self._process = process

    def close(self) -> None:
        """Stop it if it runs, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            if not has_ended(process, _STOP_SECONDS):
                process.kill()
                process.wait()
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

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _write_configuration(self, dsn: str, mode: str, server_connections: int) -> None:
        parts = {
            name: str(value) for name, value in conninfo_to_dict(dsn).items() if name in {"host", "port", "user", "password"}
        }
        target = " ".join(f"{name}={value}" for name, value in (parts | {"dbname": self._database}).items())
        users = self._scratch.path / "users.txt"
        users.write_text(f'"{self.USER}" "{self.PASSWORD}"\n')
        lines = [
            "[databases]",
            f"{self._database} = {target}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self._port}",
            "unix_socket_dir =",
            "auth_type = plain",
            f"auth_file = {users}",
            f"pool_mode = {mode}",
            f"default_pool_size = {server_connections}",
            "server_round_robin = 1",
        ]
        (self._scratch.path / "pgbouncer.ini").write_text("\n".join(lines) + "\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
