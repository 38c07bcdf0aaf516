"""Two database sessions by hand: what each is told is what the page of the documentation prints."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any, Final

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.lease import Lease
from stageflow.testing.conformance.builders import (
    claim_one,
    let_leases_expire,
    new_job,
    run_all,
    start,
    tasks_type,
)

PAGE: Final = Path(__file__).parents[2] / "docs" / "two-sessions.md"
_JOB: Final = new_job(stages=2)
_WAITS: Final = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


class Psql:
    """Sessions that are called A and B, and a transcript of what they were asked and told."""

    def __init__(self, dsn: str, prepared: list[str]) -> None:
        self.lines: list[str] = []
        self._stack = ExitStack()
        self._watcher: psycopg.Connection[Any] = self._stack.enter_context(psycopg.connect(dsn, autocommit=True))
        self._sessions: dict[str, psycopg.Connection[Any]] = {}
        for name in ("A", "B"):
            session = self._stack.enter_context(psycopg.connect(dsn, autocommit=True))
            for statement in prepared:
                session.execute(statement.encode())
            self._sessions[name] = session
        self._waiting: tuple[str, Thread] | None = None

    def close(self) -> None:
        """Close the sessions."""
        self._stack.close()

    def ask(self, name: str, statement: str) -> None:
        """Let a session execute a statement."""
        self.lines.append(f"{name}=# {statement};")
        self.lines += self._run(name, statement)

    def ask_and_wait(self, name: str, statement: str) -> None:
        """Let a session execute a statement that has to wait for the other session."""
        self.lines += [f"{name}=# {statement};", f"({name} waits)"]
        told: list[str] = []
        thread = Thread(target=lambda: told.extend(self._run(name, statement)))
        thread.start()
        while self._watcher.execute(_WAITS).fetchone() == (0,):
            assert thread.is_alive(), f"{name} was to wait, and was told {told}"
        self._told, self._waiting = told, (name, thread)

    def see(self) -> None:
        """Note what the session that waited is told."""
        assert self._waiting is not None
        name, thread = self._waiting
        thread.join()
        self.lines += [f"({name} goes on)", *self._told]

    def _run(self, name: str, statement: str) -> list[str]:
        try:
            cursor = self._sessions[name].execute(statement.encode())
        except psycopg.Error as error:
            return [f"ERROR:  {error.sqlstate}: {error.diag.message_primary}"]
        if cursor.description is None:
            return [str(cursor.statusmessage)]
        heads = [column.name for column in cursor.description]
        rows = [["" if value is None else str(value) for value in row] for row in cursor.fetchall()]
        return [" | ".join(line).rstrip() for line in (heads, *rows)]


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[PostgresStore]:
    """Give a migrated store."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def psql(postgres_dsn: str, store: PostgresStore) -> Iterator[Psql]:
    """Give two sessions with the statements that the page prepares."""
    assert store.url
    (prepared,) = _blocks("postgresql")
    psql = Psql(postgres_dsn, [each for each in prepared.split(";") if each.strip()])
    yield psql
    psql.close()


def _complete(lease: Lease) -> str:
    return f"execute complete({lease.range_id}, {lease.token}, {lease.stage_id}, {lease.first})"


def _advance(lease: Lease) -> str:
    return f"execute advance({lease.range_id}, {lease.token}, {lease.stage_id})"


def _is_on_the_page(psql: Psql, place: int) -> None:
    assert "\n".join(psql.lines) + "\n" == _blocks("text")[place]


def test_the_same_task_completed_twice(store: PostgresStore, psql: Psql) -> None:
    """The repeat waits for the first, and is told that this very report was recorded."""
    start(store, _JOB, 2)
    lease = claim_one(store, tasks_type(_JOB), max_tasks=1)
    psql.ask("A", "begin")
    psql.ask("A", _complete(lease))
    psql.ask_and_wait("B", _complete(lease))
    psql.ask("A", "commit")
    psql.see()
    _is_on_the_page(psql, 0)


def test_a_task_completed_with_a_stale_token(store: PostgresStore, psql: Psql) -> None:
    """Who lost a lease to recovery changes nothing; who holds it now does."""
    start(store, _JOB, 2)
    lost = claim_one(store, tasks_type(_JOB), max_tasks=1)
    let_leases_expire(store)
    held = claim_one(store, tasks_type(_JOB), worker="bob", max_tasks=1)
    while held.first != lost.first:
        held = claim_one(store, tasks_type(_JOB), worker="bob", max_tasks=1)
    psql.ask("A", _complete(lost))
    psql.ask("B", _complete(held))
    _is_on_the_page(psql, 1)


def test_two_finishers_at_once(store: PostgresStore, psql: Psql) -> None:
    """The second waits for the counter, sees the first's count, and it alone is the last."""
    start(store, _JOB, 2)
    first, second = (claim_one(store, tasks_type(_JOB), max_tasks=1) for _ in range(2))
    psql.ask("A", "begin")
    psql.ask("A", _complete(first))
    psql.ask_and_wait("B", _complete(second))
    psql.ask("A", "commit")
    psql.see()
    _is_on_the_page(psql, 2)


def test_a_stage_advanced_twice(store: PostgresStore, psql: Psql) -> None:
    """The second finds that the stage is left, and opens nothing."""
    start(store, _JOB, 1)
    lease = run_all(store, _JOB)
    psql.ask("A", "begin")
    psql.ask("A", _advance(lease))
    psql.ask_and_wait("B", _advance(lease))
    psql.ask("A", "commit")
    psql.see()
    _is_on_the_page(psql, 3)


def test_a_failed_job_advanced(store: PostgresStore, psql: Psql) -> None:
    """A job that has ended is not revived by who still holds its advancement."""
    start(store, _JOB, 1)
    lease = run_all(store, _JOB)
    psql.ask("B", f"select stageflow.end_job('{_JOB.job_id}', 'failed', 'by hand', null, null, null, null, null, null)")
    psql.ask("A", _advance(lease))
    psql.ask("A", "select status, stage from stageflow.jobs")
    psql.lines[0] = psql.lines[0].replace(_JOB.job_id, "<job>")
    _is_on_the_page(psql, 4)


def test_a_completion_under_repeatable_read(store: PostgresStore, psql: Psql) -> None:
    """A snapshot from before the other's commit is refused before anything is read by it."""
    start(store, _JOB, 2)
    first, second = (claim_one(store, tasks_type(_JOB), max_tasks=1) for _ in range(2))
    psql.ask("A", "begin isolation level repeatable read")
    psql.ask("A", "select remaining from stageflow.stages")
    psql.ask("B", _complete(second))
    psql.ask("A", _complete(first))
    psql.ask("A", "rollback")
    psql.ask("A", _complete(first))
    _is_on_the_page(psql, 5)
