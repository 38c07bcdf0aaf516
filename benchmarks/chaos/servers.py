"""The servers that a chaos run may take away: of its own, or those that it was given a way to restart."""

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from benchmarks.server import DURABLE, NO_STORE, is_postgres
from stageflow.errors import InvalidValueError
from stageflow.testing.azurite_server import AzuriteServer
from stageflow.testing.postgres_binaries import find_runner
from stageflow.testing.postgres_server import PostgresServer

OWN: Final = "auto"
NAPTIME: Final = "10s"
"""As recommended. A crash makes PostgreSQL forget what is to be vacuumed: crashed oftener than this, it would never vacuum."""
_RESTART_SECONDS: Final = 120
_CUT: Final = """
select count(*) filter (where cut) from (
    select pg_terminate_backend(pid) as cut from pg_stat_activity
    where application_name = 'stageflow' and datname = current_database() and pid <> pg_backend_pid() and random() < {}
) as sessions
"""


@dataclass(frozen=True)
class Place:
    """A store or a queue.

    Attributes:
        address: Where it is.
        outages: Ways to take it away and bring it back, taken in turn; each returns once it answers again.
    """

    address: str
    outages: list[Callable[[], None]] = field(default_factory=list)

    def taking_turns(self) -> Iterator[Callable[[], None]]:
        """Return the ways, again and again."""
        return cycle(self.outages)


@contextmanager
def store_place(store: str, command: str | None) -> Iterator[Place]:
    """Give the store; a durable PostgreSQL of our own where none is named."""
    if store in (NO_STORE, OWN):
        # From one thread that outlives it: a server dies with the thread that started it.
        settings = DURABLE | {"autovacuum_naptime": NAPTIME}
        with ThreadPoolExecutor(1) as keeper, PostgresServer(durable=True, settings=settings) as server:

            def crash() -> None:
                server.kill()
                server.start()

            yield Place(
                server.create_database(),
                [lambda: keeper.submit(server.restart).result(), lambda: keeper.submit(crash).result()],
            )
    elif not is_postgres(store):
        yield Place(store)
    elif command is not None:
        yield Place(store, [lambda: _run(shlex.split(command))])
    else:
        yield Place(store, [_local_restart(store)])


@contextmanager
def queue_place(queue: str | None, command: str | None) -> Iterator[Place | None]:
    """Give the queue; an Azurite of our own for ``auto``, which loses all it holds with each restart."""
    if queue is None:
        yield None
    elif queue == OWN:
        with ThreadPoolExecutor(1) as keeper, AzuriteServer() as server:

            def lose_everything() -> None:
                server.stop()
                server.start()

            address = f"azure:{server.connection_string}?prefix=chaos-{os.urandom(4).hex()}"
            yield Place(address, [lambda: keeper.submit(lose_everything).result()])
    else:
        yield Place(queue, [] if command is None else [lambda: _run(shlex.split(command))])


def cut_sessions(store: str, share: float) -> int:
    """End about this share of the library's sessions as an administrator does, and return how many."""
    with psycopg.connect(store, autocommit=True) as connection:
        row = connection.execute(sql.SQL(_CUT).format(sql.Literal(share))).fetchone()
    return 0 if row is None else int(row[0])


def _local_restart(store: str) -> Callable[[], None]:
    """Return what restarts the server of this machine that a store is on, by its ``pg_ctl``.

    Raises:
        InvalidValueError: It is not on this machine, or its files are out of our reach.
    """
    with psycopg.connect(store) as connection:
        row = connection.execute("select setting from pg_settings where name = 'data_directory'").fetchone()
    try:
        folder = Path(str(row[0] if row is not None else ""))
        postmaster = int((folder / "postmaster.pid").read_text().split()[0])
        control = Path(f"/proc/{postmaster}/exe").resolve().with_name("pg_ctl")
        owner = folder.stat().st_uid
    except (OSError, ValueError, IndexError) as error:
        msg = f"this server cannot be restarted from here ({error}); say how with --restart-command, or leave --store out"
        raise InvalidValueError(msg) from error
    words = [str(control), "restart", "--wait", "--mode=fast", f"--pgdata={folder}", f"--log={folder / 'chaos.log'}"]
    if owner == 0:
        return lambda: _run([*find_runner().prefix, *words])
    return lambda: _run(words, user=None if owner == os.geteuid() else owner)


def _run(words: list[str], user: int | None = None) -> None:
    subprocess.run(  # noqa: S603  what the person who runs this named, or pg_ctl
        words,
        user=user,
        check=True,
        timeout=_RESTART_SECONDS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
