"""The page that shows the figures: a table a benchmark, the plots, the machine, and the commands to take them again."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.measurement import Measurement

NOTES = "performance-notes.md"
"""What people say of the figures; the page includes it where it is there."""

_HEAD = "| figure | tasks a stage | median | smallest | largest | unit | samples |\n|---|--:|--:|--:|--:|---|--:|\n"


@dataclass(frozen=True)
class Section:
    """A benchmark that was run.

    Attributes:
        command: How to run it again.
        story: What it does; the first paragraph is shown.
    """

    name: str
    command: str
    story: str
    measurements: list[Measurement]


def write_page(path: Path, sections: list[Section], plots: list[tuple[str, str]]) -> None:
    """Write the page, in MyST Markdown.

    Args:
        plots: Title and address of each, the address relative to the page.
    """
    parts = [_opening(sections)]
    if (path.parent / NOTES).exists():
        parts.append(f"```{{include}} {NOTES}\n```\n")
    parts += [f"![{title}]({address})\n" for title, address in plots]
    parts += [_section(name, [each for each in sections if each.name == name]) for name in _names(sections)]
    path.write_text("\n".join(parts))


def _opening(sections: list[Section]) -> str:
    first = sections[0].measurements[0]
    machine = first.machine
    versions = ", ".join(f"{name} {version}" for name, version in first.versions.items())
    return (
        "# Performance\n\n"
        f"Measured on {first.taken_at:%Y-%m-%d} by `python -m benchmarks report`, on one machine: {machine.processor}, "
        f"{machine.cores} cores, {machine.memory_mb:,} MiB, {machine.system}; {versions}. Absolute figures move with the "
        "machine; ratios were taken side by side, in alternating rounds. PostgreSQL commits to the disk (`fsync` and "
        "`synchronous_commit` on) unless a row says otherwise. Every sample is in `measurements.jsonl` beside the plots.\n"
    )


def _section(name: str, sections: list[Section]) -> str:
    story = " ".join(sections[0].story.split("\n\n", maxsplit=1)[0].split())
    rows = "".join(_row(measurement) for section in sections for measurement in section.measurements)
    commands = "\n".join(section.command for section in sections)
    return f"## {name}\n\n{story}\n\n{_HEAD}{rows}\n```console\n{_prompted(commands)}\n```\n"


def _row(measurement: Measurement) -> str:
    store = " (SQLite)" if measurement.settings.get("store") == "sqlite" else ""
    tasks = measurement.settings.get("tasks")
    width = f"{tasks:,}" if isinstance(tasks, int) else ""
    numbers = " | ".join(_rounded(each) for each in (measurement.median, measurement.smallest, measurement.largest))
    return f"| `{measurement.name}`{store} | {width} | {numbers} | {measurement.unit} | {len(measurement.samples)} |\n"


def _rounded(number: float) -> str:
    """Return a number with three significant digits or all those before the point."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"  # noqa: PLR2004  three digits


def _prompted(commands: str) -> str:
    return "\n".join(f"$ {command}" for command in commands.splitlines())


def _names(sections: list[Section]) -> list[str]:
    return list(dict.fromkeys(section.name for section in sections))
