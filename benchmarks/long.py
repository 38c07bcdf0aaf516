"""Long tasks of mixed durations, against the ideal schedule."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import psycopg
from pydantic import Field

from benchmarks.crew import Crew
from benchmarks.measurement import Measurement, rounds
from benchmarks.request import Request
from benchmarks.sampler import Sampler, require_postgres
from benchmarks.schedule import Held, ideal_makespan, idleness, makespan, makespan_in_order
from benchmarks.server import server_settings, server_version
from benchmarks.stopwatch import PATIENCE_SECONDS
from benchmarks.timed_flow import Timed, TimedFlow, spans_of, timed_crew
from stageflow.contracts.base import JsonObject

_LOOK_SECONDS: Final = 0.05
_LEASED: Final = "select worker_id, first, last from stageflow.ranges where state = 'leased' and kind = 'task'"


class LongRequest(Request):
    """Long tasks, and how long they are."""

    tasks: int = Field(default=480, ge=1, description="tasks of the stage")
    rounds: int = Field(default=1, ge=1, description="how often each figure is taken")
    slots: int = Field(default=8, ge=1, description="threads of each worker that run tasks")
    shortest: float = Field(default=0.5, gt=0, description="seconds of the shortest task")
    longest: float = Field(default=5.0, gt=0, description="seconds of the longest task")


def measure(request: LongRequest) -> Iterator[Measurement]:
    """Long tasks of mixed durations; the ideal schedule's share of the time that their handlers took, PostgreSQL only."""
    require_postgres(request.store)
    shares: list[float] = []
    seen: list[JsonObject] = []
    with timed_crew(request) as crew:
        for _ in rounds(request.rounds, f"{request.tasks} tasks of {request.shortest} to {request.longest} s"):
            share, details = _run(crew, request)
            shares.append(share)
            seen.append(details)
    yield Measurement.of(
        "long",
        "ideal/ours",
        shares,
        settings=request.settings() | server_settings(request.store),
        details={"rounds": [*seen]},
        versions=server_version(request.store),
    )


def _run(crew: Crew, request: LongRequest) -> tuple[float, JsonObject]:
    parameters = Timed.fresh(request.tasks, request.shortest, request.longest)
    start = time.perf_counter()
    with Sampler(request.store, _LOOK_SECONDS, _leased) as sampler:
        job_id = crew.app.submit(TimedFlow, parameters).job.job_id
        crew.app.wait(job_id, timeout=PATIENCE_SECONDS)
    seconds = time.perf_counter() - start
    spans = spans_of(crew.app, job_id, parameters)
    slots = request.workers * request.slots
    durations = parameters.durations()
    ideal, taken = ideal_makespan(durations, slots), makespan(spans)
    idle = idleness(spans, sampler.samples, request.slots)
    return ideal / taken, {
        "makespan_seconds": taken,
        "ideal_seconds": ideal,
        "in_order_seconds": makespan_in_order(durations, slots),
        "bound_seconds": max(sum(durations) / slots, *durations),
        "seconds": seconds,
        "workers_seen": len({span.worker_id for span in spans}),
        "looks": idle.looks,
        "idle_beside_claims_looks": idle.idle_looks,
        "idle_beside_claims_longest_seconds": idle.longest_seconds,
    }


def _leased(connection: psycopg.Connection[Any]) -> Held:
    held: Held = defaultdict(list)
    for worker_id, first, last in connection.execute(_LEASED):
        held[worker_id].append((first, last))
    return held
