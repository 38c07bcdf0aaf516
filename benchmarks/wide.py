"""W4: a stage of a million tasks, in time, in memory, and with a worker killed in the middle."""

import os
import time
from collections.abc import Iterator
from typing import Final

from pydantic import Field

from benchmarks.crew import Crew, crew
from benchmarks.fleet import peak_memory_mb
from benchmarks.flows import FanOut, Width
from benchmarks.measurement import Measurement, rounds, say
from benchmarks.request import Request
from benchmarks.server import server_settings, server_version, settle
from benchmarks.stopwatch import PATIENCE_SECONDS, require_right, time_job
from stageflow import JobResult, Stageflow, WaitTimeoutError, WorkerOptions

LOOK_SECONDS: Final = 0.05


class WideRequest(Request):
    """A wide fan-out, and a narrow one to compare it with."""

    tasks: int = Field(default=1_000_000, ge=1, description="tasks of each stage of the wide job")
    narrow: int = Field(default=10_000, ge=1, description="tasks of each stage of the job that it is compared with")
    rounds: int = Field(default=1, ge=1, description="how often each figure is taken")
    kill: bool = Field(default=False, description="kill -9 one worker in the middle of the wide job instead")


def measure(request: WideRequest) -> Iterator[Measurement]:
    """W4: microseconds a task at N against a narrow job, peak memory of every process; or, with --kill, a job that survives."""
    if request.kill:
        yield _killed(request)
        return
    settings = request.settings() | server_settings(request.store)
    versions = server_version(request.store)
    narrow: list[float] = []
    wide: list[float] = []
    workers: dict[int, list[float]] = {request.narrow: [], request.tasks: []}
    callers: list[float] = []
    for _ in rounds(request.rounds, f"wide, {request.narrow} and {request.tasks} tasks"):
        for width, samples in ((request.narrow, narrow), (request.tasks, wide)):
            with crew(request) as team:
                settle(request.store)
                seconds = time_job(team.app, width).seconds
                samples.append(seconds / (2 * width) * 1_000_000)
                workers[width].append(max(team.fleet.peak_memory_mb()))
            say(f"  {width} tasks a stage: {seconds:.1f} s, peak memory of a worker {workers[width][-1]} MiB")
        callers.append(peak_memory_mb(os.getpid()))
    for name, samples in (("wide.narrow", narrow), ("wide", wide)):
        yield Measurement.of(name, "us/task", samples, settings=settings, versions=versions)
    growth = [many / few for many, few in zip(wide, narrow, strict=True)]
    yield Measurement.of("wide.growth", "wide/narrow", growth, settings=settings, versions=versions)
    for name, width in (("wide.narrow_memory", request.narrow), ("wide.memory", request.tasks)):
        # Of the largest worker process; one of them planned both stages and aggregated.
        yield Measurement.of(name, "MiB", workers[width], settings=settings, versions=versions)
    yield Measurement.of("wide.caller_memory", "MiB", callers, settings=settings, versions=versions)


def _killed(request: WideRequest) -> Measurement:
    seconds = []
    at: list[int] = []
    options = WorkerOptions(slots=request.slots, lease_seconds=5.0, beat_seconds=1.0, recover_seconds=1.0)
    for _ in rounds(request.rounds, f"wide, {request.tasks} tasks, one worker killed"):
        with crew(request, options=options) as team:
            start = time.perf_counter()
            job_id = team.app.submit(FanOut, Width.fresh(request.tasks)).job.job_id
            at.append(_kill_in_the_middle(team, job_id, request.tasks // 2))
            result = team.app.wait(job_id, timeout=PATIENCE_SECONDS)
            seconds.append(time.perf_counter() - start)
            require_right(result, request.tasks)
    return Measurement.of(
        "wide.killed",
        "s",
        seconds,
        settings=request.settings() | server_settings(request.store) | {"lease_seconds": options.lease_seconds},
        details={"tasks_of_the_first_stage_done_at_the_kill": [*at]},
        versions=server_version(request.store),
    )


def _kill_in_the_middle(team: Crew, job_id: str, middle: int) -> int:
    """Kill a worker once so many tasks of the first stage are done, and return how many were.

    Raises:
        RuntimeError: The job ended before.
    """
    while (done := _done_in_first(team.app, job_id)) < middle:
        if _ended_soon(team.app, job_id) is not None:
            msg = f"job {job_id} ended before a worker could be killed; ask for more --tasks"
            raise RuntimeError(msg)
    team.fleet.kill(0)
    say(f"  killed one worker when {done} tasks of the first stage were done")
    return done


def _done_in_first(app: Stageflow, job_id: str) -> int:
    return app.progress(job_id).stages[0].completed


def _ended_soon(app: Stageflow, job_id: str) -> JobResult | None:
    try:
        return app.wait(job_id, timeout=LOOK_SECONDS)
    except WaitTimeoutError:
        return None
