"""Runs the benchmarks, each in a process of its own, and writes the page of the documentation that shows their figures."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import Field

from benchmarks.catalog import BENCHMARKS
from benchmarks.measurement import Measurement, say
from benchmarks.page import Section, write_page
from benchmarks.plots import draw_plots
from benchmarks.request import Request
from benchmarks.server import NO_STORE

NARROWEST: Final = 100
PAGE: Final = "performance.md"
FIGURES: Final = "_static/performance"
_FILE: Final = "sqlite:benchmark.db"


class ReportRequest(Request):
    """How much to run, and where the page goes."""

    uses_store: ClassVar[bool] = False

    store: str = Field(description="postgresql://…, empty; a throwaway durable PostgreSQL for each benchmark when left out")
    tasks: int = Field(default=1_000_000, ge=NARROWEST, description="tasks of each stage of the widest fan-out")
    widest_twin: int = Field(default=100_000, ge=NARROWEST, description="the widest fan-out that is also run by hand")
    jobs: int = Field(default=500, ge=1, description="small jobs submitted at once")
    idle_jobs: int = Field(default=50, ge=1, description="small jobs on an idle system")
    submissions: int = Field(default=10_000, ge=1, description="jobs of the bulk call")
    seconds: float = Field(default=300.0, gt=0, description="how long the steady load beside an old snapshot lasts")
    calls: int = Field(default=200_000, ge=1, description="checked calls of a round")
    output: str = Field(default="docs", description="the documentation's folder")


@dataclass(frozen=True)
class Part:
    """A benchmark of the report."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """What to type after ``python`` to take its figures; the store is left to who types."""
        given = [[f"--{name}"] if value is True else [f"--{name}", str(value)] for name, value in self.options.items()]
        return ["-m", "benchmarks", self.name, *(word for words in given for word in words)]

    @property
    def story(self) -> str:
        """What it does."""
        return str(import_module(BENCHMARKS[self.name]).measure.__doc__)

    def run(self, store: str | None) -> Section:
        """Take its figures in a process of its own, so that its memory is its own too.

        One that fails has the figures that it printed before; what went wrong is on standard error.
        """
        say(" ".join(["python", *self.words]))
        given = [] if store is None or "store" in self.options else ["--store", store]
        with tempfile.TemporaryDirectory(prefix="stageflow-benchmark-") as folder:
            words = [word.replace(_FILE, f"sqlite:{folder}/{_FILE.partition(':')[2]}") for word in self.words]
            command = [sys.executable, *words, *given]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603  of our own making
        if done.returncode:
            say(f"{self.name} FAILED with {done.returncode}; the page has what it measured before")
        measurements = [Measurement.from_line(line) for line in done.stdout.splitlines()]
        return Section(self.name, " ".join(["python", *self.words]), self.story, measurements)


def measure(request: ReportRequest) -> Iterator[Measurement]:
    """Run every benchmark and write docs/performance.md with its tables and plots; --tasks etc. make it smaller."""
    store = None if request.store == NO_STORE else request.store
    folder = Path(request.output)
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    sections = []
    for part in _parts(request):
        section = part.run(store)
        if section.measurements:
            sections.append(section)
        yield from section.measurements
    everything = [measurement for section in sections for measurement in section.measurements]
    (figures / "measurements.jsonl").write_text("".join(f"{each.json_line()}\n" for each in everything))
    plots = draw_plots(everything, figures)
    write_page(folder / PAGE, sections, [(title, f"{FIGURES}/{name}") for title, name in plots])
    say(f"wrote {folder / PAGE}")


def _parts(request: ReportRequest) -> list[Part]:
    """Return what to run; the submission last, because it leaves jobs behind."""
    often = {"rounds": request.rounds}
    team = {"workers": request.workers, "slots": request.slots}
    usual = min(10_000, request.tasks)
    widest_handover = min(100_000, request.tasks)
    return [
        *(Part("limit", {"tasks": width} | team | often) for width in _widths(min(request.widest_twin, request.tasks))),
        Part("limit", {"tasks": usual, "workers": 1, "store": _FILE} | often),
        Part("wide", {"tasks": request.tasks, "narrow": usual} | team),
        Part("wide", {"tasks": request.tasks, "kill": True} | team),
        Part("jobs", {"jobs": request.jobs} | team | often),
        Part("idle", {"jobs": request.idle_jobs, "rounds": 1} | team),
        Part("handover", {"tasks": widest_handover} | team | often),
        Part("commits", {"tasks": usual} | team | often),
        Part("contention", {"tasks": min(30_000, request.tasks)} | team | often),
        Part("long", {"tasks": min(480, request.tasks)}),
        Part("fairness", {"tasks": min(100_000, request.tasks)} | team),
        Part("horizon", {"seconds": request.seconds, "window": request.seconds / 5} | team),
        Part("azure", {"tasks": min(1_000, request.tasks)} | team | often),
        Part("peers", {"tasks": min(1_000, request.tasks), "workers": request.workers}),
        Part("contract", {"calls": request.calls} | often),
        Part("submit", {"jobs": request.submissions} | often),
    ]


def _widths(widest: int) -> Iterator[int]:
    width = NARROWEST
    while width <= widest:
        yield width
        width *= 10
