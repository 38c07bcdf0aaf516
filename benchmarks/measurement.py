"""One measurement: what was done, where, with what, and every sample."""

import json
import os
import platform
import sqlite3
import statistics
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self

from pydantic import Field, computed_field

from stageflow import Contract, UtcDatetime, __version__
from stageflow.contracts.base import JsonObject


class Machine(Contract):
    """What it ran on.

    Attributes:
        cores: Processors that this process may use.
        memory_mb: Main memory, in MiB.
    """

    system: str
    processor: str
    cores: int
    memory_mb: int

    @classmethod
    def this(cls) -> Self:
        """Return the machine on which this process runs (Linux)."""
        return cls(
            system=platform.platform(),
            processor=_processor(),
            cores=len(os.sched_getaffinity(0)),
            memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        )


class Measurement(Contract):
    """A figure, with all its samples and everything needed to take it again.

    Attributes:
        name: What was measured, such as ``fanout``.
        unit: Of the samples: ``tasks/s``, ``ms``, ``ours/twin``.
        settings: How: tasks, workers, slots, store, and the settings of the server that matter.
        versions: Of Python, stageflow, the drivers and the server.
        samples: One a round, in the order in which they were taken; nothing is left out.
        details: What was seen beside it, such as the peak memory of each process.
    """

    name: str
    unit: str
    settings: JsonObject
    machine: Machine
    versions: dict[str, str]
    samples: list[float] = Field(min_length=1)
    details: JsonObject = Field(default_factory=dict)
    taken_at: UtcDatetime

    @computed_field  # type: ignore[prop-decorator]  # pydantic documents this order; mypy cannot type it
    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @computed_field(alias="min")  # type: ignore[prop-decorator]
    @property
    def smallest(self) -> float:
        """The smallest sample."""
        return min(self.samples)

    @computed_field(alias="max")  # type: ignore[prop-decorator]
    @property
    def largest(self) -> float:
        """The largest sample."""
        return max(self.samples)

    @classmethod
    def of(
        cls,
        name: str,
        unit: str,
        samples: list[float],
        *,
        settings: JsonObject,
        details: JsonObject | None = None,
        versions: dict[str, str] | None = None,
    ) -> Self:
        """Return a measurement taken just now on this machine.

        Args:
            versions: What to say beside the versions of Python, stageflow, psycopg and SQLite: the server's, a peer's.
        """
        return cls(
            name=name,
            unit=unit,
            settings=settings,
            machine=Machine.this(),
            versions=library_versions() | (versions if versions is not None else {}),
            samples=samples,
            details=details if details is not None else {},
            taken_at=datetime.now(UTC),
        )

    def json_line(self) -> str:
        """Return it as one line of JSON."""
        return self.model_dump_json(by_alias=True)

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Return the measurement that :meth:`json_line` wrote."""
        written = json.loads(line)
        for name in ("median", "min", "max"):
            del written[name]
        return cls.from_json(json.dumps(written))


def library_versions() -> dict[str, str]:
    """Return the versions of what runs in this process."""
    return {
        "python": platform.python_version(),
        "stageflow": __version__,
        "psycopg": version("psycopg"),
        "sqlite": sqlite3.sqlite_version,
    }


def say(text: str) -> None:
    """Tell the person who waits how it goes; the measurements alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


def percentile(samples: list[float], share: float) -> float:
    """Return the smallest sample that at least this share of the samples does not exceed (nearest rank)."""
    rank = max(1, -(-len(samples) * share // 1))
    return sorted(samples)[int(rank) - 1]


def rounds(count: int, what: str) -> Iterator[int]:
    """Count the rounds of a benchmark from 1, and say which one begins."""
    for number in range(1, count + 1):
        say(f"{what}: round {number} of {count}")
        yield number


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
