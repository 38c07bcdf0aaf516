"""Runs the benchmarks one after the other and writes the page of the documentation that shows their figures."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import Field

from benchmarks import commits, contract, handover, idle, jobs, limit, submit, wide
from benchmarks.measurement import Measurement, say
from benchmarks.page import Section, write_page
from benchmarks.plots import draw_plots
from benchmarks.request import Request
from benchmarks.server import NO_STORE, given_or_throwaway

NARROWEST: Final = 100
PAGE: Final = "performance.md"
FIGURES: Final = "_static/performance"


class ReportRequest(Request):
    """How much to run, and where the page goes."""

    uses_store: ClassVar[bool] = False

    store: str = Field(description="postgresql://…, empty; a throwaway durable PostgreSQL for each benchmark when left out")
    tasks: int = Field(default=1_000_000, ge=NARROWEST, description="tasks of each stage of the widest fan-out")
    widest_twin: int = Field(default=100_000, ge=NARROWEST, description="the widest fan-out that is also run by hand")
    jobs: int = Field(default=500, ge=1, description="small jobs submitted at once")
    idle_jobs: int = Field(default=50, ge=1, description="small jobs on an idle system")
    submissions: int = Field(default=10_000, ge=1, description="jobs of the bulk call")
    calls: int = Field(default=200_000, ge=1, description="checked calls of a round")
    output: str = Field(default="docs", description="the documentation's folder")


@dataclass(frozen=True)
class Part:
    """A benchmark of the report."""

    name: str
    measure: Callable[[Any], Iterable[Measurement]]
    kind: type[Request]
    options: dict[str, Any] = field(default_factory=dict)
    on_file: bool = False

    @property
    def command(self) -> str:
        """What to type to take its figures again."""
        words = [f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in self.options.items()]
        words += ["--store sqlite:benchmark.db"] if self.on_file else []
        return " ".join(["python -m benchmarks", self.name, *words])

    def run(self, store: str | None) -> list[Measurement]:
        """Take its figures, on a store of its own where none is given."""
        say(self.command)
        with tempfile.TemporaryDirectory(prefix="stageflow-benchmark-") as folder:
            given = f"sqlite:{folder}/benchmark.db" if self.on_file else store
            wanted = given or (None if self.kind.uses_store else NO_STORE)
            with given_or_throwaway(wanted, self.kind.server_settings) as address:
                return list(self.measure(self.kind.from_options(self.options, address)))


def measure(request: ReportRequest) -> Iterator[Measurement]:
    """Run every benchmark and write docs/performance.md with its tables and plots; --tasks etc. make it smaller."""
    store = None if request.store == NO_STORE else request.store
    folder = Path(request.output)
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    sections = []
    for part in _parts(request):
        measurements = part.run(store)
        sections.append(Section(part.name, part.command, part.measure.__doc__ or "", measurements))
        yield from measurements
    everything = [measurement for section in sections for measurement in section.measurements]
    (figures / "measurements.jsonl").write_text("".join(f"{each.json_line()}\n" for each in everything))
    plots = draw_plots(everything, figures)
    write_page(folder / PAGE, sections, [(title, f"{FIGURES}/{name}") for title, name in plots])
    say(f"wrote {folder / PAGE}")


def _parts(request: ReportRequest) -> list[Part]:
    """Return what to run; the submission last, because it leaves jobs behind."""
    team = {"workers": request.workers, "slots": request.slots}
    often = {"rounds": request.rounds}
    ten_thousand = min(10_000, request.tasks)
    return [
        *(
            Part("limit", limit.measure, limit.LimitRequest, {"tasks": width} | team | often)
            for width in _widths(min(request.widest_twin, request.tasks))
        ),
        Part("limit", limit.measure, limit.LimitRequest, {"tasks": ten_thousand, "workers": 1} | often, on_file=True),
        Part("wide", wide.measure, wide.WideRequest, {"tasks": request.tasks, "narrow": ten_thousand} | team),
        Part("wide", wide.measure, wide.WideRequest, {"tasks": request.tasks, "kill": True} | team),
        Part("jobs", jobs.measure, jobs.JobsRequest, {"jobs": request.jobs} | team | often),
        Part("idle", idle.measure, idle.IdleRequest, {"jobs": request.idle_jobs} | team | {"rounds": 1}),
        Part(
            "handover",
            handover.measure,
            handover.HandoverRequest,
            {"tasks": min(request.tasks, 100_000)} | team | often,
        ),
        Part("commits", commits.measure, Request, {"tasks": ten_thousand} | team | often),
        Part("contract", contract.measure, contract.ContractRequest, {"calls": request.calls} | often),
        Part("submit", submit.measure, submit.SubmitRequest, {"jobs": request.submissions} | often),
    ]


def _widths(widest: int) -> Iterator[int]:
    width = NARROWEST
    while width <= widest:
        yield width
        width *= 10
