"""How much of the time goes into commits that wait for the disk."""

from collections.abc import Iterator
from typing import Final

from benchmarks.crew import crew
from benchmarks.measurement import Measurement, rounds
from benchmarks.request import Request
from benchmarks.server import is_postgres, server_settings, server_version, settle
from benchmarks.stopwatch import time_job
from stageflow.errors import InvalidValueError

MODES: Final = ("on", "off")


def measure(request: Request) -> Iterator[Measurement]:
    """W1 with synchronous_commit on and off in alternating rounds (PostgreSQL): tasks/s of both, and what off gains."""
    if not is_postgres(request.store):
        msg = f"synchronous_commit is a setting of PostgreSQL, and the store is {request.store.partition(':')[0]}"
        raise InvalidValueError(msg)
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in rounds(request.rounds, f"commits of a fanout of {request.tasks}"):
        for mode in MODES if number % 2 else reversed(MODES):
            with crew(request, store=_with_mode(request.store, mode)) as team:
                settle(request.store)
                rates[mode].append(2 * request.tasks / time_job(team.app, request.tasks).seconds)
    settings = request.settings() | server_settings(request.store)
    versions = server_version(request.store)
    for mode in MODES:
        given = settings | {"synchronous_commit": mode}
        yield Measurement.of(f"commits.{mode}", "tasks/s", rates[mode], settings=given, versions=versions)
    gains = [100 * (fast / full - 1) for full, fast in zip(rates["on"], rates["off"], strict=True)]
    yield Measurement.of("commits.gain", "% of on", gains, settings=settings, versions=versions)


def _with_mode(store: str, mode: str) -> str:
    """Return the store's address for sessions with this synchronous_commit."""
    if "options=" in store:
        msg = "the store's address has options of its own; leave them out, because this benchmark sets options"
        raise InvalidValueError(msg)
    return f"{store}{'&' if '?' in store else '?'}options=-csynchronous_commit%3D{mode}"
