"""A task type that is limited over all workers: how many ran at once, counted outside of the library."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, JsonValue

from benchmarks.crew import caller
from benchmarks.fleet import Fleet
from benchmarks.ledger import JOB_TYPE, TASK_TYPE, Calls, GuardedFlow, Ledger, work_guarded
from benchmarks.measurement import Measurement, rounds, say
from benchmarks.request import Request
from benchmarks.server import server_settings, server_version
from benchmarks.stopwatch import PATIENCE_SECONDS, WrongAnswerError, warm_up
from stageflow import Stageflow, WorkerOptions

_LOOK_SECONDS = 0.01


class LimitsRequest(Request):
    """The tasks, their limit, and whether a worker is killed in the middle."""

    tasks: int = Field(default=2000, ge=1, description="tasks of the one stage")
    workers: int = Field(default=4, ge=1, description="worker processes")
    slots: int = Field(default=4, ge=1, description="threads of each worker that run tasks")
    rounds: int = Field(default=1, ge=1, description="how often each figure is taken")
    limit: int = Field(default=5, ge=1, description="tasks that may run at once")
    rate: float | None = Field(default=None, gt=0, description="starts a second, in place of the limit")
    seconds: float = Field(default=0.05, gt=0, description="how long each task takes")
    kill: bool = Field(default=False, description="kill a worker with SIGKILL when a third of the tasks has run")

    def worker_options(self) -> WorkerOptions:
        """Return how the workers work; leases are short, so that a killed one's work comes back soon."""
        return WorkerOptions(slots=self.slots, lease_seconds=2.0, beat_seconds=0.5, recover_seconds=0.5)


def measure(request: LimitsRequest) -> Iterator[Measurement]:
    """Tasks of a type that is limited over all workers: the most and the mean that ran at once, by a ledger of their own.

    With a rate: the starts a second, and by how many the busiest window is above the burst and the rate's worth of its length.
    """
    ledgers = [_run(request) for _ in rounds(request.rounds, f"a limit of {request.limit}")]
    settings = request.settings() | server_settings(request.store)
    versions = server_version(request.store)
    details: dict[str, JsonValue] = {"killed_amid_a_task": [*(ledger.cut_off for ledger in ledgers)]}
    if request.rate is not None:
        starts = [ledger.starts_per_second() for ledger in ledgers]
        yield Measurement.of("limits.rate", "starts/s", starts, settings=settings, details=details, versions=versions)
        excess = [ledger.excess_over(request.rate, max(1.0, request.rate / 10)) for ledger in ledgers]
        yield Measurement.of("limits.excess", "starts", excess, settings=settings, details=details, versions=versions)
        return
    for name, values in (
        ("limits.peak", [float(ledger.peak()) for ledger in ledgers]),
        ("limits.mean", [ledger.mean() for ledger in ledgers]),
    ):
        yield Measurement.of(name, "tasks at once", values, settings=settings, details=details, versions=versions)


def _run(request: LimitsRequest) -> Ledger:
    with (
        tempfile.TemporaryDirectory() as folder,
        caller(request) as app,
        Fleet(request.workers, work_guarded, request.store, request.queue, request.worker_options()) as fleet,
    ):
        warm_up(app)
        limit = request.limit if request.rate is None else None
        app.limit_task_type(JOB_TYPE, TASK_TYPE, max_running=limit, max_per_second=request.rate)
        parameters = Calls(tasks=request.tasks, seconds=request.seconds, folder=folder)
        job_id = app.submit(GuardedFlow, parameters, new_run=True).job.job_id
        killed_at = _kill_one(app, fleet, job_id, request) if request.kill else None
        app.wait(job_id, timeout=PATIENCE_SECONDS)
        ledger = Ledger.read(Path(folder), killed_at)
    if sorted(set(ledger.task_indexes)) != list(range(request.tasks)):
        msg = f"{request.tasks} tasks should have run, the ledger has {len(set(ledger.task_indexes))} of them"
        raise WrongAnswerError(msg)
    if request.rate is None and ledger.peak() > request.limit:
        msg = f"{ledger.peak()} tasks ran at once, though the limit was {request.limit}; look for a claim that takes no slot"
        raise WrongAnswerError(msg)
    say(f"  at most {ledger.peak()} at once, {ledger.mean():.2f} on average")
    return ledger


def _kill_one(app: Stageflow, fleet: Fleet, job_id: str, request: LimitsRequest) -> int:
    """Kill a worker when a third of the tasks has run, and return when."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while app.progress(job_id).stages[0].completed * 3 < request.tasks:
        if time.monotonic() > deadline:
            msg = f"a third of the tasks had not run after {PATIENCE_SECONDS:.0f} s; look at the workers' errors"
            raise WrongAnswerError(msg)
        time.sleep(_LOOK_SECONDS)
    fleet.kill(0)
    return time.monotonic_ns()
