"""W1 over Azure Storage Queue, beside the messages alone."""

import multiprocessing
import os
import signal
import statistics
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Final, Protocol

from pydantic import Field

from benchmarks.crew import caller, crew
from benchmarks.fleet import Fleet, await_end
from benchmarks.flows import registry
from benchmarks.measurement import Measurement, rounds, say
from benchmarks.request import Request
from benchmarks.server import server_settings, server_version, settle
from benchmarks.stopwatch import time_job, warm_up
from benchmarks.twins.messages import BareMessages
from stageflow import Stageflow, WorkerOptions
from stageflow.contracts.base import JsonObject
from stageflow.errors import InvalidValueError
from stageflow.telemetry import Event
from stageflow.testing.azurite_server import AzuriteServer

OURS: Final = "ours"
SAME: Final = "same"
EACH: Final = "each"
DATABASE: Final = "database"


class Count(Protocol):
    """A number that several processes share."""

    value: int

    def get_lock(self) -> "multiprocessing.synchronize.RLock":
        """Return what makes adding to it safe."""
        ...


class AzureRequest(Request):
    """The fan-out over a queue; two stages of 1,000 tasks unless told otherwise."""

    tasks: int = Field(default=1000, ge=1, description="tasks of each stage")


@dataclass
class _Samples:
    seconds: dict[str, list[float]] = field(default_factory=lambda: {OURS: [], DATABASE: [], SAME: [], EACH: []})
    messages: list[int] = field(default_factory=list)


def measure(request: AzureRequest) -> Iterator[Measurement]:
    """W1 over Azure Storage Queue beside the bare SDK (the same number of messages; one a task) and the database queue."""
    samples = _Samples()
    with ExitStack() as stack:
        queue = request.queue
        if queue is None:
            queue = f"azure:{stack.enter_context(AzuriteServer()).connection_string}"
            say("a throwaway Azurite runs, in memory")
        for number in rounds(request.rounds, f"azure of {request.tasks}"):
            _take_round(request, queue, samples, ours_first=number % 2 == 1)
    yield from _report(request, samples)


def _take_round(request: AzureRequest, queue: str, samples: _Samples, *, ours_first: bool) -> None:
    """Take a sample of each; the messages of ours are counted first, in the first round by a run that is not timed."""
    if not samples.messages:
        samples.messages.append(_run_ours(request, queue)[1])
    names = [OURS, DATABASE, SAME, EACH]
    for name in names if ours_first else reversed(names):
        if name == DATABASE:
            with crew(request.model_copy(update={"queue": None})) as team:
                settle(request.store)
                seconds = time_job(team.app, request.tasks).seconds
        elif name == OURS:
            seconds, sent = _run_ours(request, queue)
            samples.messages.append(sent)
        else:
            per_stage = request.tasks if name == EACH else max(1, (samples.messages[-1] - 1) // 2)
            seconds = _run_bare(request, queue, per_stage)
        samples.seconds[name].append(seconds)
        say(f"  {name}: {seconds:.3f} s")


def _run_ours(request: AzureRequest, queue: str) -> tuple[float, int]:
    """Return the seconds that a job takes, and how many messages were sent for it."""
    named = request.model_copy(update={"queue": queue})
    sent = multiprocessing.get_context("spawn").Value("q", 0)
    with (
        caller(named) as app,
        Fleet(request.workers, work, request.store, queue, request.worker_options(), sent),
    ):
        warm_up(app)
        settle(request.store)
        before = sent.value
        seconds = time_job(app, request.tasks).seconds
        return seconds, sent.value - before


def _run_bare(request: AzureRequest, queue: str, per_stage: int) -> float:
    connection_string, _, _ = queue.removeprefix("azure:").partition("?prefix=")
    if "=" not in connection_string:
        msg = "the bare SDK is measured with a connection string; give --queue azure:CONNECTION_STRING, or leave it out"
        raise InvalidValueError(msg)
    bare = BareMessages(connection_string, f"bare-{uuid.uuid4().hex}", request.workers)
    with bare.consumed() as time_messages:
        time_messages([1, 10, 10])  # opens every connection
        return time_messages([1, per_stage, per_stage])


def work(ready: Connection, store: str, queue: str, options: WorkerOptions, sent: Count) -> None:
    """Be a worker process over a queue until SIGTERM, and count the messages that it sends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before any thread: only await_end takes it

    def count(event: Event) -> None:
        if event.name == "work_announced":
            with sent.get_lock():
                sent.value += int(str(event.details["messages"]))

    with (
        Stageflow(store, registry=registry, queue=queue, options=options) as app,
        app.telemetry.listening(count),
        app.worker(),
    ):
        ready.send(os.getpid())
        await_end()


def _report(request: AzureRequest, samples: _Samples) -> Iterator[Measurement]:
    settings = request.settings() | server_settings(request.store) | {"queue": "azure"}
    versions = server_version(request.store) | {"azure-storage-queue": version("azure-storage-queue")}
    for name, taken in samples.seconds.items():
        yield Measurement.of(f"azure.{name}", "s", taken, settings=settings, versions=versions)
    medians = {name: statistics.median(taken) for name, taken in samples.seconds.items()}
    ratios = {f"ours_to_{name}": medians[OURS] / medians[name] for name in (SAME, EACH, DATABASE)}
    ratios["added_to_same"] = (medians[OURS] - medians[DATABASE]) / medians[SAME]
    for name, ratio in ratios.items():
        yield Measurement.of(f"azure.{name}", "ratio of medians", [ratio], settings=settings, versions=versions)
    per_task = [count / (2 * request.tasks) for count in samples.messages]
    details: JsonObject = {"messages": [*samples.messages]}
    yield Measurement.of("azure.messages", "messages/task", per_task, settings=settings, details=details, versions=versions)
