"""W1 in other libraries: each in its own environment, on the same PostgreSQL (or a Redis), with its own worker processes."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from benchmarks.measurement import Measurement, say
from benchmarks.peers.driving import ADDRESS, program
from benchmarks.peers.environment import PEERS, Peer, PeerNotInstalledError, python_of
from benchmarks.peers.redis_server import NOT_DURABLE, redis_server
from benchmarks.request import Request
from benchmarks.sampler import require_postgres
from benchmarks.server import server_settings, server_version, settle
from stageflow.contracts.base import JsonObject
from stageflow.testing.child_process import ServerFailedError, ServerNotFoundError
from stageflow.testing.postgres_server import PostgresDatabases

_ROOT: Final = Path(__file__).parents[2]
_ERROR_LINES: Final = 30


class PeerFailedError(RuntimeError):
    """Peers did not do the work; what they said is on standard error."""


class PeersRequest(Request):
    """Which peers, and how long each may take."""

    tasks: int = Field(default=1000, ge=1, description="tasks of each stage")
    rounds: int = Field(default=1, ge=1, description="how often each peer does the work, within its time")
    only: str = Field(default=",".join(PEERS), description="names of peers, with commas between")
    peer_seconds: float = Field(
        default=120.0, gt=0, description="how long each peer may take, from its start to its last round"
    )


@dataclass(frozen=True)
class _Run:
    """What a peer's program printed, and how it ended."""

    setup: JsonObject
    rounds: list[dict[str, Any]]
    timed_out: bool
    exit_code: int
    errors: str


def measure(request: PeersRequest) -> Iterator[Measurement]:
    """W1 in other libraries, each written as its documentation recommends for throughput; tasks/s as the caller sees it."""
    require_postgres(request.store)
    failed = []
    for peer in [_peer(name) for name in request.only.split(",")]:
        try:
            measurement = _measure(peer, request)
        except (PeerFailedError, PeerNotInstalledError, ServerFailedError, ServerNotFoundError) as error:
            say(f"{peer.name}: {error}")
            failed.append(peer.name)
        else:
            yield measurement
    if failed:
        msg = f"{', '.join(failed)} did not do the work; the errors are above"
        raise PeerFailedError(msg)


def _measure(peer: Peer, request: PeersRequest) -> Measurement:
    python = python_of(peer)
    say(f"{peer.name}: {request.tasks} tasks a stage, {request.workers} workers")
    with _server(peer, python, request) as (address, told):
        run = _run(peer, python, address, request)
    if run.exit_code != 0 and not run.timed_out:
        msg = f"it ended with exit code {run.exit_code}:\n{run.errors}"
        raise PeerFailedError(msg)
    return _measurement(peer, run, request, told)


def _peer(name: str) -> Peer:
    if name not in PEERS:
        msg = f"there is no peer {name!r}; there are {', '.join(PEERS)}"
        raise PeerFailedError(msg)
    return PEERS[name]


@contextmanager
def _server(peer: Peer, python: str, request: PeersRequest) -> Iterator[tuple[str, JsonObject]]:
    """Give the address of an empty server for a peer, and what to say of it."""
    if peer.server == "redis":
        with redis_server(python) as address:
            yield address, {"redis": json.dumps(NOT_DURABLE)}
        return
    databases = PostgresDatabases(request.store)
    address = databases.create_database()
    settle(address)
    try:
        yield address, server_settings(address)
    finally:
        databases.drop_database(address)


def _run(peer: Peer, python: str, address: str, request: PeersRequest) -> _Run:
    """Run a peer's program; when its time is over, its whole process group is killed."""
    options = ["--tasks", str(request.tasks), "--workers", str(request.workers), "--rounds", str(request.rounds)]
    environment = os.environ | {ADDRESS: address, "PYTHONPATH": str(_ROOT)}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603  our own words
            [*program(python, peer.module), *options],
            stdout=output,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        try:
            process.wait(request.peer_seconds)
            timed_out = False
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        errors.seek(0)
        said = "".join(errors.readlines()[-_ERROR_LINES:])
        setup, *lines = [json.loads(line) for line in output] or [{}]
    return _Run(setup=setup, rounds=lines, timed_out=timed_out, exit_code=process.returncode, errors=said)


def _measurement(peer: Peer, run: _Run, request: PeersRequest, told: JsonObject) -> Measurement:
    settings: JsonObject = {"tasks": request.tasks, "workers": request.workers, "rounds": request.rounds, "store": peer.server}
    details: JsonObject = {"timed_out": run.timed_out, "seconds": [line["seconds"] for line in run.rounds]}
    if "style" in run.setup:
        details["style"] = run.setup["style"]
    if run.rounds:
        details["peak_mb_workers"] = run.rounds[-1]["peak_mb_workers"]
    else:
        say(f"{peer.name} finished no round in {request.peer_seconds:.0f} s; its sample is the most that it can have reached")
        details["at_most"] = True
    versions = run.setup["versions"] if "versions" in run.setup else {}
    return Measurement.of(
        f"peers.{peer.name}",
        "tasks/s",
        [2 * request.tasks / line["seconds"] for line in run.rounds] or [2 * request.tasks / request.peer_seconds],
        settings=settings | told,
        details=details,
        versions=(server_version(request.store) if peer.server == "postgres" else {}) | dict(versions),  # type: ignore[arg-type]
    )
