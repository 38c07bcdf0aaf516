"""``python -m tests.model [WALKS]``: covering schedules and many walks, on SQLite and a throwaway PostgreSQL."""

import sys
from contextlib import closing

from stageflow.backends.postgres import PostgresStore
from stageflow.backends.sqlite import SqliteStore
from stageflow.testing.conformance.builders import MovableStore
from stageflow.testing.postgres_server import PostgresServer
from tests.model.configurations import EVERYTHING, SMALL
from tests.model.schedules import cover, follow, walk
from tests.model.sessions import PostgresSessions, SqliteSessions
from tests.model.twin import Sessions

_WALKS = 1000
_STEPS = 40


def drive(kind: str, store: MovableStore, sessions: Sessions, walks: int) -> None:
    """Take all of it in one store, and say how much that was; what differs is raised, with the steps up to it."""
    for name, bounds in SMALL.items():
        ways = cover(bounds)
        taken = sum(follow(store, sessions, bounds, way, f"{name}{number}") for number, way in enumerate(ways))
        print(f"{kind}: {len(ways)} schedules cover {name!r}, {taken} steps", flush=True)  # noqa: T201
    taken = 0
    for seed in range(walks):
        taken += walk(store, sessions, EVERYTHING._replace(fail_fast=seed % 2 == 1), seed, _STEPS)
    print(f"{kind}: {walks} walks, {taken} steps", flush=True)  # noqa: T201


def main() -> None:
    """Drive both stores."""
    walks = int(sys.argv[1]) if len(sys.argv) > 1 else _WALKS
    with closing(SqliteStore(":memory:")) as embedded:
        embedded.migrate()
        drive("sqlite", embedded, SqliteSessions(embedded), walks)
    with PostgresServer(durable=False) as server:
        dsn = server.create_database()
        with closing(PostgresStore(dsn)) as store, closing(PostgresSessions(dsn, 2)) as sessions:
            store.migrate()
            drive("postgres", store, sessions, walks)


if __name__ == "__main__":
    main()
