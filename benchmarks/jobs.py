"""W2: many small jobs, submitted at once."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from benchmarks.crew import Crew, crew
from benchmarks.fleet import Fleet
from benchmarks.flows import FanOut, Width
from benchmarks.measurement import Measurement, percentile, rounds
from benchmarks.request import Request
from benchmarks.server import is_postgres, server_settings, server_version, settle
from benchmarks.stopwatch import PATIENCE_SECONDS, WARM_UP_TASKS, require_right
from benchmarks.twins.rows import RowsTwin
from stageflow.contracts.base import JsonObject


class JobsRequest(Request):
    """Many small jobs."""

    tasks: int = Field(default=3, ge=1, description="tasks of each stage")
    jobs: int = Field(default=500, ge=1, description="jobs submitted at once")
    batch: int = Field(default=1000, ge=1, description="tasks of a twin's transaction")


@dataclass(frozen=True)
class Drain:
    """How a round went, by the store's clock: from before the submission to the last job's end, and each job's latency."""

    seconds: float
    latencies: list[float]


def measure(request: JobsRequest) -> Iterator[Measurement]:
    """W2: many small jobs in one bulk call; jobs/s from before the call to the last end, latencies, by the store's clock.

    On PostgreSQL beside the same jobs by hand, in alternating rounds.
    """
    drains = []
    twins = []
    for _ in rounds(request.rounds, f"{request.jobs} jobs of 2 x {request.tasks}"):
        with crew(request) as team:
            settle(request.store)
            drains.append(_drain(team, request))
            memory = team.fleet.peak_memory_mb()
        if is_postgres(request.store):
            twins.append(_time_twin(request))
    settings = request.settings() | server_settings(request.store)
    versions = server_version(request.store)
    details: JsonObject = {"seconds": [drain.seconds for drain in drains], "peak_mb_workers": [*memory]}
    rates = [request.jobs / drain.seconds for drain in drains]
    yield Measurement.of("jobs", "jobs/s", rates, settings=settings, details=details, versions=versions)
    for name, share in (("median", 0.5), ("p95", 0.95)):
        samples = [percentile(drain.latencies, share) * 1000 for drain in drains]
        yield Measurement.of(f"jobs.{name}_latency", "ms", samples, settings=settings, versions=versions)
    if twins:
        by_hand = [request.jobs / seconds for seconds in twins]
        yield Measurement.of("jobs.twin", "jobs/s", by_hand, settings=settings, versions=versions)
        ratios = [ours / twin for ours, twin in zip(rates, by_hand, strict=True)]
        yield Measurement.of("jobs.ours_to_twin", "ours/twin", ratios, settings=settings, versions=versions)


def _time_twin(request: JobsRequest) -> float:
    with RowsTwin(request.store, request.batch) as twin, Fleet(request.workers, twin.work, twin.dsn, twin.batch):
        twin.time_job(WARM_UP_TASKS)
        settle(request.store)
        return twin.time_jobs(request.jobs, request.tasks)


def _drain(team: Crew, request: JobsRequest) -> Drain:
    requests = [Width.fresh(request.tasks) for _ in range(request.jobs)]
    start = team.app.repositories.store.now()
    ids = [submission.job.job_id for submission in team.app.submit_many(FanOut, requests)]
    # The last first: when it has ended most others have, and asking for each while they run would take their time.
    results = [team.app.wait(job_id, timeout=PATIENCE_SECONDS) for job_id in reversed(ids)]
    for result in results:
        require_right(result, request.tasks)
    return Drain(
        seconds=(max(result.completed_at for result in results) - start).total_seconds(),
        latencies=[(result.completed_at - result.created_at).total_seconds() for result in results],
    )
