"""Many workers on one stage against few."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from pydantic import Field

from benchmarks.crew import caller
from benchmarks.fleet import Fleet, work
from benchmarks.measurement import Measurement, rounds, say
from benchmarks.request import Request
from benchmarks.sampler import Sampler, require_postgres
from benchmarks.server import server_settings, server_version, settle
from benchmarks.stopwatch import time_job, warm_up
from stageflow import Stageflow
from stageflow.contracts.base import JsonObject

LONG_WAIT_MS: Final = 50.0
_LOOK_SECONDS: Final = 0.01
_WAITERS: Final = """
select pid, left(query, 120) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()
"""
_WAITED: Final = """
select pid, extract(epoch from clock_timestamp() - waitstart)::float8 * 1000 from pg_locks
where not granted and waitstart is not null and pid = any(%s)
"""


class ContentionRequest(Request):
    """Few and many workers."""

    tasks: int = Field(default=30_000, ge=1, description="tasks of each stage")
    workers: int = Field(default=2, ge=1, description="the few worker processes")
    many: int = Field(default=8, ge=1, description="the many worker processes")


@dataclass(frozen=True)
class LockWait:
    """A session that waits for a lock: for how long already, and with which statement."""

    milliseconds: float
    statement: str


@dataclass(frozen=True)
class _Run:
    """A job with so many workers: its rate, and the waits that were seen."""

    tasks_per_second: float
    looks: int
    waits: list[LockWait]


def measure(request: ContentionRequest) -> Iterator[Measurement]:
    """The fan-out with few and with many workers, alternating: tasks/s, lock waits; PostgreSQL only."""
    require_postgres(request.store)
    few: list[_Run] = []
    many: list[_Run] = []
    with caller(request) as app:
        for number in rounds(request.rounds, f"{request.tasks} tasks with {request.workers} and with {request.many} workers"):
            turns = [(request.workers, few), (request.many, many)]
            for workers, runs in turns if number % 2 else reversed(turns):
                runs.append(_run(app, request, workers))
                say(f"  {workers} workers: {runs[-1].tasks_per_second:,.0f} tasks/s")
    settings = request.settings() | server_settings(request.store)
    versions = server_version(request.store)
    for name, workers, runs in (("few", request.workers, few), ("many", request.many, many)):
        yield Measurement.of(
            f"contention.{name}",
            "tasks/s",
            [run.tasks_per_second for run in runs],
            settings=settings | {"workers": workers},
            details=_waits_of(runs),
            versions=versions,
        )
    ratios = [run.tasks_per_second / other.tasks_per_second for run, other in zip(many, few, strict=True)]
    yield Measurement.of("contention.many_to_few", "many/few", ratios, settings=settings, versions=versions)


def lock_waits(connection: psycopg.Connection[Any]) -> list[LockWait]:
    """Return who waits for a lock right now in this database. The second question is only asked where somebody does."""
    statements = dict(connection.execute(_WAITERS).fetchall())
    if not statements:
        return []
    waited = connection.execute(_WAITED, (list(statements),))
    return [LockWait(milliseconds=milliseconds, statement=statements[pid]) for pid, milliseconds in waited]


def _run(app: Stageflow, request: ContentionRequest, workers: int) -> _Run:
    with Fleet(workers, work, request.store, request.queue, request.worker_options()):
        warm_up(app)
        settle(request.store)
        with Sampler(request.store, _LOOK_SECONDS, lock_waits) as sampler:
            seconds = time_job(app, request.tasks).seconds
    waits = [wait for _, waits in sampler.samples for wait in waits]
    return _Run(tasks_per_second=2 * request.tasks / seconds, looks=len(sampler.samples), waits=waits)


def _waits_of(runs: list[_Run]) -> JsonObject:
    waits = [wait for run in runs for wait in run.waits]
    long = [wait for wait in waits if wait.milliseconds > LONG_WAIT_MS]
    return {
        "looks": sum(run.looks for run in runs),
        "look_seconds": _LOOK_SECONDS,
        "lock_waits_seen": len(waits),
        "lock_waits_above_50_ms": len(long),
        "longest_lock_wait_ms": max((wait.milliseconds for wait in waits), default=0.0),
        "statements_that_waited_long": [*sorted({wait.statement for wait in long})],
    }
