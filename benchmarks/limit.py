"""Ours beside the same work written by hand, in alternating rounds."""

import os
from collections.abc import Callable, Iterator
from typing import Final

from pydantic import Field

from benchmarks.crew import crew
from benchmarks.fleet import Fleet, peak_memory_mb
from benchmarks.measurement import Measurement, rounds, say
from benchmarks.request import Request
from benchmarks.server import is_postgres, server_settings, server_version, settle
from benchmarks.stopwatch import WARM_UP_TASKS, time_job
from benchmarks.twins.file import FileTwin
from benchmarks.twins.ranges import RangesTwin
from benchmarks.twins.rows import RowsTwin
from benchmarks.twins.scratch import PostgresTwin

OURS: Final = "ours"

Twin = PostgresTwin | FileTwin


class LimitRequest(Request):
    """The fan-out, and how many tasks a twin's transaction holds."""

    batch: int = Field(default=1000, ge=1, description="tasks of a twin's transaction")


def measure(request: LimitRequest) -> Iterator[Measurement]:
    """Ours beside hand-written twins in alternating rounds: tasks/s of each, and ours as a share of each twin, per round."""
    runs = {OURS: lambda: _run_ours(request)} | _twin_runs(request)
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, list[float]] = {}
    for number in rounds(request.rounds, f"limit of {request.tasks}"):
        for name in names if number % 2 else reversed(names):
            taken, peaks = runs[name]()
            seconds[name].append(taken)
            memory[name] = peaks
            say(f"  {name}: {2 * request.tasks / taken:,.0f} tasks/s")
    yield from _report(request, seconds, memory)


def _twin_runs(request: LimitRequest) -> dict[str, Callable[[], tuple[float, list[float]]]]:
    if is_postgres(request.store):
        return {
            "rows": lambda: _run_twin(RowsTwin(request.store, request.batch), request),
            "ranges": lambda: _run_twin(RangesTwin(request.store, request.batch), request),
        }
    path = f"{request.store.removeprefix('sqlite:')}.twin"
    return {"file": lambda: _run_twin(FileTwin(path, request.batch), request)}


def _run_ours(request: LimitRequest) -> tuple[float, list[float]]:
    with crew(request) as team:
        settle(request.store)
        return time_job(team.app, request.tasks).seconds, team.fleet.peak_memory_mb()


def _run_twin(twin: Twin, request: LimitRequest) -> tuple[float, list[float]]:
    with twin, Fleet(request.workers, twin.work, twin.dsn, twin.batch) as fleet:
        twin.time_job(WARM_UP_TASKS)
        settle(request.store)
        return twin.time_job(request.tasks), fleet.peak_memory_mb()


def _report(
    request: LimitRequest,
    seconds: dict[str, list[float]],
    memory: dict[str, list[float]],
) -> Iterator[Measurement]:
    settings = request.settings() | server_settings(request.store)
    versions = server_version(request.store)
    for name, taken in seconds.items():
        yield Measurement.of(
            f"limit.{name}",
            "tasks/s",
            [2 * request.tasks / each for each in taken],
            settings=settings,
            details={"peak_mb_workers": [*memory[name]], "peak_mb_caller": peak_memory_mb(os.getpid())},
            versions=versions,
        )
    for name, taken in seconds.items():
        if name != OURS:
            ratios = [twin / ours for twin, ours in zip(taken, seconds[OURS], strict=True)]
            yield Measurement.of(f"limit.ours_to_{name}", "ours/twin", ratios, settings=settings, versions=versions)
