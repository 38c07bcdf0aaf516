"""Many small jobs for a long time, while another session holds an old snapshot and nothing can be vacuumed."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import psycopg
from pydantic import Field, model_validator

from benchmarks.claim_plan import explain_claims
from benchmarks.crew import caller, crew
from benchmarks.flows import FanOut, Width
from benchmarks.measurement import Measurement, percentile
from benchmarks.request import Request
from benchmarks.sampler import Sampler, require_postgres
from benchmarks.server import server_settings, server_version
from benchmarks.steady_load import SteadyLoad
from benchmarks.stopwatch import WrongAnswerError
from stageflow.contracts.base import JsonObject

_SAMPLES_A_WINDOW: Final = 6
_CLAIMS: Final = 3
_TABLES: Final = """
select relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid) from pg_stat_user_tables
where schemaname = 'stageflow' and relname in ('jobs', 'stages', 'ranges', 'tasks', 'results')
"""
_COUNT: Final = "select count(*) from stageflow.jobs"


class HorizonRequest(Request):
    """How long, how many jobs at a time, and by which windows the end is compared with the beginning."""

    tasks: int = Field(default=3, ge=1, description="tasks of each stage of a job")
    seconds: float = Field(default=600.0, gt=0, description="how long the load lasts")
    window: float = Field(default=60.0, gt=0, description="seconds of a window; the last is compared with the first")
    in_flight: int = Field(default=200, ge=1, description="jobs that are open at any time")
    released: bool = Field(default=False, description="hold no old snapshot: what the same load does without one")

    @model_validator(mode="after")
    def _has_two_windows(self) -> "HorizonRequest":
        if self.seconds < 2 * self.window:
            msg = f"{self.seconds} s of load have no two windows of {self.window} s; lengthen the load or shorten the window"
            raise ValueError(msg)
        return self


def measure(request: HorizonRequest) -> Iterator[Measurement]:
    """Steady small jobs beside an old snapshot; jobs/s and p95 latency of each window, dead rows, the claim's plan."""
    require_postgres(request.store)
    load = SteadyLoad(request.store, tasks=request.tasks, in_flight=request.in_flight, window=request.window)
    with caller(request):
        pass  # makes the schema, which the old snapshot has to see
    with nullcontext() if request.released else _old_snapshot(request.store):
        interval = request.window / _SAMPLES_A_WINDOW
        with crew(request) as team, Sampler(request.store, interval, _tables) as sampler:
            load.run(team.app, request.seconds)
        claims = _claims(request)
    yield from _report(request, load, sampler, claims)


@contextmanager
def _old_snapshot(store: str) -> Iterator[None]:
    """Hold a snapshot until the block ends.

    Raises:
        WrongAnswerError: It was not held: it saw what was committed after it.
    """
    with psycopg.connect(store) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        before = connection.execute(_COUNT).fetchone()
        yield
        if (after := connection.execute(_COUNT).fetchone()) != before:
            msg = f"the old snapshot saw {before} jobs and then {after}, so it was not held; nothing of this run counts"
            raise WrongAnswerError(msg)


def _tables(connection: psycopg.Connection[Any]) -> JsonObject:
    rows = connection.execute(_TABLES).fetchall()
    return {name: {"live": live, "dead": dead, "bytes": size} for name, live, dead, size in rows}


def _claims(request: HorizonRequest) -> JsonObject:
    """Return how claims are carried out now, without workers: where there is nothing to do, and where there is one job."""
    with caller(request) as app:
        empty = [plan.as_json() for plan in explain_claims(request.store, _CLAIMS)]
        job_id = app.submit(FanOut, Width.fresh(request.tasks)).job.job_id
        ready = [plan.as_json() for plan in explain_claims(request.store, 1)]
        app.cancel(job_id)
    return {"claims_when_empty": [*empty], "claims_with_work": [*ready]}


def _report(
    request: HorizonRequest, load: SteadyLoad, sampler: Sampler[JsonObject], claims: JsonObject
) -> Iterator[Measurement]:
    settings = request.settings() | server_settings(request.store)
    versions = server_version(request.store)
    windows = load.windows(request.seconds)
    throughput = [len(window) / request.window for window in windows]
    p95 = [percentile(window, 0.95) * 1000 for window in windows]
    start = sampler.samples[0][0]
    tables: list[JsonObject] = [{"seconds": moment - start, **sizes} for moment, sizes in sampler.samples]
    details = claims | {"tables": [*tables], "jobs": load.completed}
    yield Measurement.of("horizon", "jobs/s", throughput, settings=settings, details=details, versions=versions)
    yield Measurement.of("horizon.p95_latency", "ms", p95, settings=settings, versions=versions)
    for name, samples in (("jobs_last_to_first", throughput), ("p95_last_to_first", p95)):
        yield Measurement.of(f"horizon.{name}", "last/first", [samples[-1] / samples[0]], settings=settings, versions=versions)
