"""The two kinds of sessions that the schedules are run in."""

from collections.abc import Callable
from typing import Any

import psycopg

from stageflow.backends.postgres.rows import lease_from_row
from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.lease import CompletionOutcome, Lease, RangeCompletion, TaskCompletionResult
from stageflow.testing.conformance.builders import LEASE_SECONDS, complete_one
from tests.model.twin import Rows

_JOB = "select status, run, stage from {0}jobs where job_id = {1}"
_STAGES = (
    "select stage_id, run, stage_number, generation, status, planned, halted, remaining, task_count,"
    " coalesce(taken_from, stage_id) from {0}stages where job_id = {1} order by run, stage_number"
)
_RESULTS = (
    "select t.stage_id, t.task_index, t.generation, t.status from {0}results t join {0}stages s on s.stage_id = t.stage_id"
    " where s.job_id = {1}"
)
_RANGES = (
    "select r.stage_id, r.kind, r.first, r.last, r.state, r.token, r.attempt, r.suspect, r.deaths, r.range_id, r.beat"
    " from {0}ranges r join {0}stages s on s.stage_id = r.stage_id where s.job_id = {1} order by r.first"
)
_QUERIES = (_JOB, _STAGES, _RESULTS, _RANGES)
_LOCK_ONE = "select 1 from stageflow.ranges where range_id = %s and token = %s for update"
_LOCK_ALL = "select 1 from stageflow.ranges where state <> 'leased' for update"
COMPLETE = """
select outcome, is_last, job_id, stage_number, remaining, halted, advance_range_id
from stageflow.complete_tasks(
    %s::bigint[], %s::bigint[], %s::bigint[], %s::integer[], %s::integer[], %s::text[], %s::text[], %s::text[],
    %s::double precision[], %s::double precision[], %s::double precision[],
    '{}', '{}', '{}', '{}', '{}', %s, %s::double precision)
"""


class SqliteSessions:
    """SQLite has one writer at a time: a report begins and commits at once, in the step of its commit."""

    misses = False

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def read(self, job_id: str) -> Rows:
        """Return the job's rows, past the port."""
        with self._store._database.reading() as transaction:  # noqa: SLF001  the rows, not what the port makes of them
            job, *others = (transaction.rows(text.format("stageflow_", "?"), (job_id,)) for text in _QUERIES)
        return Rows(tuple(job[0]), *([tuple(row) for row in rows] for rows in others))

    def begin(self, worker: int, lease: Lease) -> None:
        """Begin nothing."""

    def commit(self, worker: int, completion: RangeCompletion, name: str) -> TaskCompletionResult:
        """Report."""
        assert worker >= 0
        return complete_one(self._store, completion, worker=name)

    def roll_back(self, worker: int) -> None:
        """Lose nothing."""

    def amid_a_claim(self, act: Callable[[], None]) -> None:
        """There is no such moment."""
        raise NotImplementedError


class PostgresSessions:
    """One database session for each worker, whose transaction stays open between two steps, and one to look."""

    misses = True

    def __init__(self, dsn: str, workers: int) -> None:
        self._workers = [psycopg.connect(dsn) for _ in range(workers)]
        self._looker: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)
        self._claimer: psycopg.Connection[Any] = psycopg.connect(dsn)

    def close(self) -> None:
        """Close the sessions."""
        for connection in (*self._workers, self._looker, self._claimer):
            connection.close()

    def read(self, job_id: str) -> Rows:
        """Return the job's rows, as a session sees them that is in no transaction of the others."""
        job, *others = (self._looker.execute(text.format("stageflow.", "%s"), (job_id,)).fetchall() for text in _QUERIES)
        return Rows(tuple(job[0]), *others)

    def begin(self, worker: int, lease: Lease) -> None:
        """Begin the transaction: it locks the range, as the function's first statement does."""
        assert self._workers[worker].execute(_LOCK_ONE, (lease.range_id, lease.token)).fetchone() == (1,)

    def commit(self, worker: int, completion: RangeCompletion, name: str) -> TaskCompletionResult:
        """Report within the transaction, and commit it."""
        connection = self._workers[worker]
        answer = complete_in(connection, completion, name)
        connection.commit()
        return answer

    def roll_back(self, worker: int) -> None:
        """Lose the transaction."""
        self._workers[worker].rollback()

    def amid_a_claim(self, act: Callable[[], None]) -> None:
        """Do something while another session holds every range that is not leased, then roll that one back."""
        self._claimer.execute(_LOCK_ALL)
        try:
            act()
        finally:
            self._claimer.rollback()


def complete_in(connection: psycopg.Connection[Any], completion: RangeCompletion, name: str) -> TaskCompletionResult:
    """Call ``complete_tasks`` in a session's open transaction."""
    delays = dict.fromkeys(range(len(completion.statuses)), None) | {
        retry.task_index - completion.first: retry.delay_seconds for retry in completion.retries
    }
    row = connection.execute(
        COMPLETE,
        (
            [completion.range_id], [completion.token], [completion.stage_id], [completion.first], [len(completion.statuses)],
            [status.value for status in completion.statuses], completion.results, completion.errors, list(delays.values()),
            completion.seconds, completion.completed_at, name, LEASE_SECONDS,
        ),
    ).fetchone()  # fmt: skip
    assert row is not None
    advance = None
    if row[6] is not None:
        lease = connection.execute("select * from stageflow.read_lease(%s)", (row[6],)).fetchone()
        assert lease is not None
        advance = lease_from_row(lease)
    return TaskCompletionResult(
        outcome=CompletionOutcome(row[0]),
        task_updated=row[0] == CompletionOutcome.RECORDED,
        is_last_task_in_stage=row[1],
        job_id=row[2],
        stage_number=row[3],
        remaining_tasks=row[4],
        stage_halted=row[5],
        advance=advance,
    )
