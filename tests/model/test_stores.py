"""The real stores take the steps of the model: after each, they answer and hold what the model says."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.backends.sqlite import SqliteStore
from stageflow.testing.conformance.builders import MovableStore
from tests.model.configurations import EVERYTHING, SMALL
from tests.model.schedules import cover, follow, walk
from tests.model.sessions import PostgresSessions, SqliteSessions
from tests.model.state import Bounds, State
from tests.model.twin import Sessions

_STEPS: Final = 40
_WALKS: Final = {"memory": 60, "file": 20, "postgres": 40}
_COVERS: Final = {"memory": 60, "file": 20, "postgres": 40}
"""How many of the covering schedules of each configuration are taken, evenly; ``python -m tests.model`` takes all of them."""


@pytest.fixture(scope="module", params=["memory", "file", "postgres"])
def store_and_sessions(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, MovableStore, Sessions]]:
    """Give a migrated store, and the sessions of its workers."""
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        dsn = server.create_database()
        with closing(PostgresStore(dsn)) as store:
            store.migrate()
            with closing(PostgresSessions(dsn, 2)) as sessions:
                yield request.param, store, sessions
        server.drop_database(dsn)
        return
    path: Path | str = ":memory:" if request.param == "memory" else tmp_path_factory.mktemp("model") / "stageflow.db"
    with closing(SqliteStore(path)) as embedded:
        embedded.migrate()
        yield request.param, embedded, SqliteSessions(embedded)


@pytest.fixture(scope="module", params=SMALL)
def ways(request: pytest.FixtureRequest) -> tuple[str, Bounds, list[list[State]]]:
    """Give the shortest ways to every kind of step within small bounds."""
    return request.param, SMALL[request.param], cover(SMALL[request.param])


def test_a_store_takes_every_kind_of_step_as_the_model_does(
    store_and_sessions: tuple[str, MovableStore, Sessions], ways: tuple[str, Bounds, list[list[State]]]
) -> None:
    """The schedules cover what the model can do; the store's answers and rows are the model's after each step."""
    kind, store, sessions = store_and_sessions
    name, bounds, schedules = ways
    chosen = schedules[:: max(1, len(schedules) // _COVERS[kind])]
    taken = [follow(store, sessions, bounds, way, f"{name}{number}") for number, way in enumerate(chosen)]
    assert sum(taken) > len(taken)


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_store_walks_beside_the_model(store_and_sessions: tuple[str, MovableStore, Sessions], *, fail_fast: bool) -> None:
    """Walks by dice, through more than can be explored; each seed is the same walk every time."""
    kind, store, sessions = store_and_sessions
    bounds = EVERYTHING._replace(fail_fast=fail_fast)
    for seed in range(_WALKS[kind]):
        assert walk(store, sessions, bounds, seed + 1000 * fail_fast, _STEPS)
