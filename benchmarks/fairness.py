"""A small job beside a large one of the same task type, against the same job alone."""

import time
from collections.abc import Iterator
from typing import Final

from pydantic import Field

from benchmarks.crew import Crew
from benchmarks.measurement import Measurement, rounds, say
from benchmarks.request import Request
from benchmarks.server import server_settings, server_version
from benchmarks.stopwatch import WrongAnswerError
from benchmarks.timed_flow import Timed, TimedFlow, spans_of, timed_crew
from stageflow import JobStatus
from stageflow.insights import StageProgress

_LOOK_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 600.0


class FairnessRequest(Request):
    """A large job, a small one, and how long their tasks take."""

    tasks: int = Field(default=100_000, ge=1, description="tasks of the large job")
    rounds: int = Field(default=10, ge=1, description="small jobs, alone and then beside the large one")
    small: int = Field(default=10, ge=1, description="tasks of the small job")
    seconds: float = Field(default=0.01, gt=0, description="how long each task takes")


def measure(request: FairnessRequest) -> Iterator[Measurement]:
    """A small job of the same task type as a large one that runs: its time, alone and beside it, as the caller sees it."""
    with timed_crew(request) as crew:
        alone = [_time_small(crew, request) for _ in rounds(request.rounds, "a small job alone")]
        large = _start_large(crew, request)
        beside = [_time_small(crew, request) for _ in rounds(request.rounds, "a small job beside a large one")]
        left = _stop_large(crew, large)
    settings = request.settings() | server_settings(request.store)
    versions = server_version(request.store)
    ratios = [with_large / without for with_large, without in zip(beside, alone, strict=True)]
    yield Measurement.of("fairness.alone", "ms", alone, settings=settings, versions=versions)
    yield Measurement.of("fairness.beside", "ms", beside, settings=settings, versions=versions)
    yield Measurement.of(
        "fairness.beside_to_alone",
        "beside/alone",
        ratios,
        settings=settings,
        details={"tasks_left_of_the_large_job": left},
        versions=versions,
    )


def _time_small(crew: Crew, request: FairnessRequest) -> float:
    parameters = Timed.fresh(request.small, request.seconds, request.seconds)
    start = time.perf_counter()
    job_id = crew.app.submit(TimedFlow, parameters).job.job_id
    crew.app.wait(job_id, timeout=_PATIENCE_SECONDS)
    milliseconds = (time.perf_counter() - start) * 1000
    spans_of(crew.app, job_id, parameters)
    return milliseconds


def _start_large(crew: Crew, request: FairnessRequest) -> str:
    """Submit the large job, and return its id once it is planned and tasks of it have run."""
    parameters = Timed.fresh(request.tasks, request.seconds, request.seconds)
    job_id = crew.app.submit(TimedFlow, parameters).job.job_id
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not any(stage.planned and stage.completed for stage in _stages(crew, job_id)):
        if time.monotonic() > deadline:
            msg = f"no task of the large job had run after {_PATIENCE_SECONDS:.0f} s; look at the workers' errors above"
            raise WrongAnswerError(msg)
        time.sleep(_LOOK_SECONDS)
    return job_id


def _stop_large(crew: Crew, job_id: str) -> int:
    """Cancel the large job and return how many of its tasks were left.

    Raises:
        WrongAnswerError: None: it had ended before the last small job, which was alone then.
    """
    left = sum(stage.remaining for stage in _stages(crew, job_id))
    if not left:
        msg = "the large job ended before the last small one; give it more --tasks"
        raise WrongAnswerError(msg)
    crew.app.cancel(job_id)
    status = crew.app.wait(job_id, timeout=_PATIENCE_SECONDS).status
    if status is not JobStatus.CANCELLED:
        msg = f"the large job was cancelled with {left} tasks left, but is {status}"
        raise WrongAnswerError(msg)
    say(f"the large job had {left} tasks left")
    return left


def _stages(crew: Crew, job_id: str) -> list[StageProgress]:
    return crew.app.progress(job_id).stages
