"""Throwaway servers as direct children: started, awaited, and gone with the process that holds them. POSIX only."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Self

from stageflow.testing import launch

PROBE_SECONDS = 0.02
LOG_TAIL_LINES = 20


class ServerNotFoundError(RuntimeError):
    """A server's programs are not on this machine; the message says where they were looked for and how to get them."""


class ServerFailedError(RuntimeError):
    """A server's programs are there, but it did not start or stop; the message ends with its log."""


def launcher(death_signal: signal.Signals, run_as: str = "") -> list[str]:
    """Return the words to put before a command so that it gets ``death_signal`` when we die.

    Linux delivers the signal when the *thread* that starts the command ends: start servers from a thread that outlives
    them. Other systems have no such signal; there a server is stopped by its context manager only.

    Args:
        death_signal: What the kernel sends.
        run_as: An existing user to become first; empty to stay who we are.
    """
    return [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(death_signal.value), run_as]


def start_child(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command with no input, all its output appended to ``log``, out of reach of the terminal's Ctrl-C."""
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - an argument list of our own making, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def await_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], deadline: float) -> bool:
    """Ask ``ready`` until it says yes; waiting for the process to end is the pause between two questions.

    Returns:
        Whether it is ready. ``False`` when the process ended or ``time.monotonic()`` passed the deadline.
    """
    while time.monotonic() < deadline:
        if ready():
            return True
        if has_ended(process, PROBE_SECONDS):
            return False
    return False


def has_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait so long at most for a child to end, and say whether it has."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children; on systems without Linux's ``/proc``, none."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []


def log_tail(log: Path) -> str:
    """Return the last lines of a log for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


class ScratchFolder:
    """A temporary folder with a short path, swept by the next one made when its owner was killed.

    The owner holds a file lock, which the kernel gives back at its death. A folder whose lock is free is rubbish.
    """

    PREFIX = "stageflow-"
    LOCK = "owner.lock"
    LONGEST_BASE = 60
    """A unix socket's whole path may have about 100 bytes."""

    def __init__(self) -> None:
        base = Path(tempfile.gettempdir())
        if len(str(base)) > self.LONGEST_BASE:
            base = Path("/tmp")  # noqa: S108 - mkdtemp below makes a private folder in it
        self._sweep(base)
        self.path = Path(tempfile.mkdtemp(prefix=self.PREFIX, dir=base))
        # Locked under another name and then renamed: a sweeper looks at `LOCK` only, and never sees it free.
        fresh = self.path / "owner.new"
        self._lock: IO[bytes] = fresh.open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        fresh.rename(self.path / self.LOCK)

    @classmethod
    def _sweep(cls, base: Path) -> None:
        for lock in base.glob(f"{cls.PREFIX}*/{cls.LOCK}"):
            try:
                with lock.open("rb") as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent)
            except (BlockingIOError, FileNotFoundError, PermissionError):
                continue  # in use, swept by another process just now, or another user's

    def give_to(self, user: str) -> None:
        """Make an unprivileged user the owner of the folder; root only."""
        shutil.chown(self.path, user)

    def remove(self) -> None:
        """Remove the folder with all that is in it; a second time does nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
