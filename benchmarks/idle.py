"""W2-idle: how long one small job takes while nothing else is to be done, ours and by hand."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from pydantic import Field

from benchmarks.crew import crew
from benchmarks.fleet import Fleet
from benchmarks.measurement import Measurement, percentile, rounds
from benchmarks.request import Request
from benchmarks.server import is_postgres, server_settings, server_version
from benchmarks.stopwatch import WARM_UP_TASKS, time_job
from benchmarks.twins.file import FileTwin
from benchmarks.twins.rows import RowsTwin
from stageflow.contracts.base import JsonObject

IDLE_SECONDS: Final = 0.05
"""Between two jobs, so that each finds every worker waiting."""


class IdleRequest(Request):
    """Small jobs, one after the other."""

    tasks: int = Field(default=3, ge=1, description="tasks of each stage")
    jobs: int = Field(default=50, ge=1, description="jobs of a round")
    batch: int = Field(default=1000, ge=1, description="tasks of a twin's transaction")


def measure(request: IdleRequest) -> Iterator[Measurement]:
    """W2-idle: milliseconds from before submission until the caller knows of the end, a job at a time, ours and by hand."""
    ours: list[float] = []
    twins: list[float] = []
    for _ in rounds(request.rounds, f"{request.jobs} jobs on an idle system"):
        ours += _ours(request)
        twins += _twins(request)
    settings: JsonObject = request.settings() | server_settings(request.store) | {"idle_seconds": IDLE_SECONDS}
    versions = server_version(request.store)
    for name, samples in (("idle", ours), ("idle.twin", twins)):
        details: JsonObject = {"p95": percentile(samples, 0.95)}
        yield Measurement.of(name, "ms", samples, settings=settings, details=details, versions=versions)


def _ours(request: IdleRequest) -> list[float]:
    with crew(request) as team:
        return _latencies(lambda: time_job(team.app, request.tasks).seconds, request.jobs)


def _twins(request: IdleRequest) -> list[float]:
    twin = (
        RowsTwin(request.store, request.batch)
        if is_postgres(request.store)
        else FileTwin(f"{request.store.removeprefix('sqlite:')}.twin", request.batch)
    )
    with twin, Fleet(request.workers, twin.work, twin.dsn, twin.batch):
        twin.time_job(WARM_UP_TASKS)
        return _latencies(lambda: twin.time_job(request.tasks), request.jobs)


def _latencies(run: Callable[[], float], count: int) -> list[float]:
    samples = []
    for _ in range(count):
        time.sleep(IDLE_SECONDS)
        samples.append(run() * 1000)
    return samples
