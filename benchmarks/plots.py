"""The plots of the page: throughput and memory against the width, and the distribution of latencies."""

from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measurement import Measurement

LABELS: Final = {
    "limit.ours": "stageflow",
    "limit.rows": "by hand, a row per task",
    "limit.ranges": "by hand, ranges",
    "idle": "stageflow",
    "idle.twin": "by hand",
}


def draw_plots(measurements: list[Measurement], folder: Path) -> list[tuple[str, str]]:
    """Draw what the measurements allow as SVG, and return title and file name of each plot."""
    mpl.rcParams["svg.hashsalt"] = "stageflow"  # the same figures give the same file
    on_server = [each for each in measurements if each.settings.get("store") != "sqlite"]
    plots = []
    for title, name, draw in (
        ("Throughput against the number of tasks a stage", "throughput.svg", _draw_throughput),
        ("Peak memory of a worker against the number of tasks a stage", "memory.svg", _draw_memory),
        ("Latency of one small job on an idle system", "latency.svg", _draw_latency),
    ):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        draw(axes, on_server)
        axes.set_title(title)
        axes.grid(visible=True, alpha=0.3)
        figure.savefig(folder / name, metadata={"Date": None})
        plots.append((title, name))
    return plots


def _draw_throughput(axes: Axes, measurements: list[Measurement]) -> None:
    for name in ("limit.ours", "limit.rows", "limit.ranges"):
        found = _by_width(measurements, name)
        middles = [each.median for each in found.values()]
        below = [each.median - each.smallest for each in found.values()]
        above = [each.largest - each.median for each in found.values()]
        axes.errorbar(list(found), middles, yerr=[below, above], marker="o", capsize=3, label=LABELS[name])
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tasks a stage")
    axes.set_ylabel("tasks/s (median, smallest, largest)")
    axes.legend()


def _draw_memory(axes: Axes, measurements: list[Measurement]) -> None:
    for name in ("limit.ours", "limit.rows", "limit.ranges"):
        found = {width: _largest_peak(each) for width, each in _by_width(measurements, name).items()}
        if name == "limit.ours":
            found |= {width: each.largest for width, each in _by_width(measurements, "wide.memory").items()}
        axes.plot(list(found), list(found.values()), marker="o", label=LABELS[name])
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tasks a stage")
    axes.set_ylabel("largest peak of a process, MiB")
    axes.legend()


def _draw_latency(axes: Axes, measurements: list[Measurement]) -> None:
    for name in ("idle", "idle.twin"):
        for measurement in measurements:
            if measurement.name == name:
                axes.ecdf(measurement.samples, label=LABELS[name])
    axes.set_xlim(left=0)
    axes.set_xlabel("ms from submission until the caller knows of the end")
    axes.set_ylabel("share of the jobs")
    axes.legend()


def _by_width(measurements: list[Measurement], name: str) -> dict[int, Measurement]:
    found = {each.settings["tasks"]: each for each in measurements if each.name == name}
    return {width: found[width] for width in sorted(width for width in found if isinstance(width, int))}


def _largest_peak(measurement: Measurement) -> float:
    peaks = measurement.details["peak_mb_workers"]
    return max(peak for peak in peaks if isinstance(peak, int | float)) if isinstance(peaks, list) else 0.0
