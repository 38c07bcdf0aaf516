"""W3: many jobs through the bulk call."""

import os
import time
from collections.abc import Iterator

from pydantic import Field

from benchmarks.crew import caller
from benchmarks.fleet import peak_memory_mb
from benchmarks.flows import FanOut, Width
from benchmarks.measurement import Measurement, rounds, say
from benchmarks.request import Request
from benchmarks.server import server_settings, server_version, settle
from benchmarks.stopwatch import WrongAnswerError


class SubmitRequest(Request):
    """Jobs that nobody works on."""

    tasks: int = Field(default=3, ge=1, description="tasks that each stage would have")
    workers: int = Field(default=0, ge=0, le=0, description="none: submission is measured alone")
    jobs: int = Field(default=10_000, ge=1, description="jobs of a call")


def measure(request: SubmitRequest) -> Iterator[Measurement]:
    """W3: jobs/s of one bulk call while no worker runs; the jobs stay queued, so give it a database of its own."""
    seconds = []
    with caller(request) as app:
        app.submit_many(FanOut, [Width.fresh(request.tasks)])
        for _ in rounds(request.rounds, f"submission of {request.jobs} jobs"):
            requests = [Width.fresh(request.tasks) for _ in range(request.jobs)]
            settle(request.store)
            start = time.perf_counter()
            submissions = app.submit_many(FanOut, requests)
            seconds.append(time.perf_counter() - start)
            if len({submission.job.job_id for submission in submissions}) != request.jobs:
                msg = f"{request.jobs} requests made another number of jobs"
                raise WrongAnswerError(msg)
    say(f"{request.jobs * request.rounds + 1} jobs stay queued")
    yield Measurement.of(
        "submit",
        "jobs/s",
        [request.jobs / each for each in seconds],
        settings=request.settings() | server_settings(request.store),
        details={"seconds": [*seconds], "peak_mb_caller": peak_memory_mb(os.getpid())},
        versions=server_version(request.store),
    )
