"""How long a stage's end takes to become the next stage's beginning."""

from collections.abc import Iterator
from typing import Any, ClassVar, Final, LiteralString

import psycopg
from pydantic import Field

from benchmarks.crew import crew
from benchmarks.measurement import Measurement, rounds
from benchmarks.request import Request
from benchmarks.server import ask, is_postgres, server_settings, server_version, settle
from benchmarks.stopwatch import time_job
from stageflow.contracts.base import JsonObject
from stageflow.errors import InvalidValueError

NARROWEST: Final = 100
CLAIMABLE_SHARE: Final = 0.9
# Rows of results and tasks are written once and never changed, so xmin is the transaction that wrote them.
_TIMES: Final[LiteralString] = """
with one as (select stage_id from stageflow.stages where job_id = %(job)s and stage_number = 1),
two as (select stage_id from stageflow.stages where job_id = %(job)s and stage_number = 2),
ended as (
    select max(pg_xact_commit_timestamp(r.xmin)) as at from stageflow.results r where r.stage_id = (select stage_id from one)
),
begun as (
    select min(r.completed_at - make_interval(secs => r.seconds)) as at
    from stageflow.results r where r.stage_id = (select stage_id from two)
),
claimable as (
    select max(pg_xact_commit_timestamp(t.xmin)) as at
    from stageflow.tasks t where t.stage_id = (select stage_id from two) and t.task_index < %(most)s
)
select extract(epoch from begun.at - ended.at)::float8 * 1000, extract(epoch from claimable.at - ended.at)::float8 * 1000
from ended, begun, claimable
"""


class HandoverRequest(Request):
    """Fan-outs of growing width."""

    server_settings: ClassVar[dict[str, str]] = {"track_commit_timestamp": "on"}

    tasks: int = Field(default=100_000, ge=NARROWEST, description="the widest stage; the others are 100, 1,000, ... below it")


def measure(request: HandoverRequest) -> Iterator[Measurement]:
    """P8: ms from stage 1's last commit to stage 2's first handler, and until 90 % of stage 2 is claimable, for growing widths.

    The end of the first stage and the claimable tasks are the server's commit timestamps, so it must track them; the first
    start is the handler's own time as stored with its result, by the worker's clock: keep both on one machine.
    """
    _require_commit_timestamps(request.store)
    settings = request.settings() | server_settings(request.store) | {"track_commit_timestamp": "on"}
    versions = server_version(request.store)
    width = NARROWEST
    while width <= request.tasks:
        first: list[float] = []
        most: list[float] = []
        with crew(request) as team:
            for _ in rounds(request.rounds, f"handover at {width}"):
                settle(request.store)
                job_id = time_job(team.app, width).result.job_id
                started, claimable = _read_times(request.store, job_id, width)
                first.append(started)
                most.append(claimable)
        given: JsonObject = settings | {"tasks": width}
        yield Measurement.of("handover.first", "ms", first, settings=given, versions=versions)
        yield Measurement.of("handover.claimable", "ms", most, settings=given, versions=versions)
        width *= 10


def _read_times(store: str, job_id: str, width: int) -> tuple[float, float]:
    with psycopg.connect(store) as connection:
        parameters: dict[str, Any] = {"job": job_id, "most": max(1, int(width * CLAIMABLE_SHARE))}
        row: tuple[float, float] | None = connection.execute(_TIMES, parameters).fetchone()
    if row is None:
        msg = f"job {job_id} is not in the store any more"
        raise RuntimeError(msg)
    return row


def _require_commit_timestamps(store: str) -> None:
    if not is_postgres(store):
        msg = "handover is measured by PostgreSQL's commit timestamps; leave --store out, or name a PostgreSQL"
        raise InvalidValueError(msg)
    with psycopg.connect(store) as connection:
        if ask(connection, "track_commit_timestamp") != "on":
            msg = "the server does not track commit timestamps; set track_commit_timestamp = on, or leave --store out"
            raise InvalidValueError(msg)
