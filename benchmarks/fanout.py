"""W1: one job of N tasks, a barrier, N tasks, a barrier and a sum."""

import os
from collections.abc import Iterator

from benchmarks.crew import crew
from benchmarks.fleet import peak_memory_mb
from benchmarks.measurement import Measurement, rounds
from benchmarks.request import Request
from benchmarks.server import server_settings, server_version, settle
from benchmarks.stopwatch import time_job


def measure(request: Request) -> Iterator[Measurement]:
    """W1: one job of N tasks, a barrier, N tasks, a barrier and a sum; tasks/s from submission to the caller's knowing."""
    seconds = []
    with crew(request) as team:
        for _ in rounds(request.rounds, f"fanout of {request.tasks}"):
            settle(request.store)
            seconds.append(time_job(team.app, request.tasks).seconds)
        memory = team.fleet.peak_memory_mb()
    yield Measurement.of(
        "fanout",
        "tasks/s",
        [2 * request.tasks / each for each in seconds],
        settings=request.settings() | server_settings(request.store),
        details={"seconds": [*seconds], "peak_mb_workers": [*memory], "peak_mb_caller": peak_memory_mb(os.getpid())},
        versions=server_version(request.store),
    )
