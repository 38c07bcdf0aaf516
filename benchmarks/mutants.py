"""Mutants of the stores: each guard, lock, fence and counter left out once; which of them a test notices."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import ClassVar, Final

from pydantic import Field

from benchmarks.measurement import Measurement, say
from benchmarks.request import Request
from stageflow.contracts.base import JsonObject
from stageflow.testing.postgres_server import PostgresServer
from tests.mutants.lists import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.run import Verdict, judge, remember

_SERVER: Final = "STAGEFLOW_TEST_POSTGRES_DSN"
"""A server to make databases on, for the tests too; one of our own where it is not set."""


class MutantsRequest(Request):
    """Which mutants, and how far to look for a test that notices."""

    uses_store: ClassVar[bool] = False

    only: str = Field(default="", description="parts of titles, between semicolons, such as 'count_down:'; all if left out")
    backend: str = Field(default="", description="postgres or sqlite; both when left out")
    narrow: bool = Field(default=False, description="stop at the tests that look at the function, which is quicker")
    remember: bool = Field(default=False, description="write down who noticed, to be asked first the next time")


def measure(request: MutantsRequest) -> Iterator[Measurement]:
    """Judge mutants, one line for each store: how many, how many a test killed, and the names of those that survived."""
    for backend in ("postgres", "sqlite"):
        chosen = _chosen(request, backend)
        if chosen and request.backend in {"", backend}:
            yield _measure(request, backend, chosen)


def _chosen(request: MutantsRequest, backend: str) -> list[Mutant]:
    parts = [part.strip() for part in request.only.split(";")]
    mutants = [mutant for title, mutant in MUTANTS.items() if any(part in title for part in parts)]
    return [mutant for mutant in mutants if mutant.file.startswith(f"backends/{backend}/") and not mutant.equivalent]


def _measure(request: MutantsRequest, backend: str, mutants: list[Mutant]) -> Measurement:
    verdicts: list[Verdict] = []

    def tell(verdict: Verdict) -> None:
        verdicts.append(verdict)
        say(f"{len(verdicts)}: {verdict.mutant.title}: {verdict.killer or 'SURVIVED'}, {verdict.seconds:.1f} s")

    with ExitStack() as stack:
        if _SERVER not in os.environ:
            os.environ[_SERVER] = stack.enter_context(PostgresServer()).dsn("postgres")
            stack.callback(os.environ.pop, _SERVER)
        judge(mutants, tell, os.environ[_SERVER])
        survived = [verdict.mutant for verdict in verdicts if verdict.killer is None]
        if survived and not request.narrow:
            verdicts = [verdict for verdict in verdicts if verdict.killer is not None]
            judge(survived, tell, os.environ[_SERVER], wide=True)
    if request.remember:
        remember(verdicts)
    details: JsonObject = {
        "mutants": len(verdicts),
        "killed": sum(verdict.killer is not None for verdict in verdicts),
        "survived": [verdict.mutant.title for verdict in verdicts if verdict.killer is None],
        "equivalent": sum(bool(mutant.equivalent) for mutant in MUTANTS.values()),
        "killers": {verdict.mutant.title: verdict.killer for verdict in verdicts if verdict.killer is not None},
    }
    seconds = [verdict.seconds for verdict in verdicts]
    return Measurement.of(f"mutants.{backend}", "s", seconds, settings=request.settings(), details=details)
