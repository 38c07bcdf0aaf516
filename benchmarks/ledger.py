"""A ledger outside of the library: tasks that write when they begin and end, and what that says of how many ran at once."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from pydantic import Field

from benchmarks.fleet import work
from benchmarks.flows import registry
from benchmarks.stopwatch import WrongAnswerError
from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)

JOB_TYPE: Final = "guarded"
TASK_TYPE: Final = "call"


class Calls(Contract):
    """How many tasks, how long each takes, and the folder of the ledger."""

    tasks: int = Field(ge=1)
    seconds: float = Field(gt=0)
    folder: str


class Call(Contract):
    """One task."""

    seconds: float
    folder: str


@task(TASK_TYPE)
def call(parameters: Call, context: TaskExecutionContext) -> None:
    """Note the begin, take the time, note the end; each process has a file of its own, and each line is one write."""
    path = Path(parameters.folder) / f"{os.getpid()}.ledger"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"begin {context.task_index} {time.monotonic_ns()}\n".encode())
        time.sleep(parameters.seconds)
        os.write(descriptor, f"end {context.task_index} {time.monotonic_ns()}\n".encode())
    finally:
        os.close(descriptor)


@workflow(JOB_TYPE, registry=registry)
class GuardedFlow(BaseController[Calls]):
    """One stage of calls to what must not be called too often."""

    calls = stage(1, "calls", task=call)

    @calls.plan
    def plan_calls(self, job: JobExecutionContext[Calls]) -> Iterator[Call]:
        """So many equal tasks."""
        for _ in range(job.parameters.tasks):
            yield Call(seconds=job.parameters.seconds, folder=job.parameters.folder)


def work_guarded(ready: Connection, store: str, queue: str | None, options: WorkerOptions) -> None:
    """Be a worker process that knows the calls too, until SIGTERM."""
    work(ready, store, queue, options)


@dataclass(frozen=True)
class Ledger:
    """What the processes wrote: begins and ends in nanoseconds of the machine's monotonic clock.

    Attributes:
        cut_off: Tasks that began and did not end, because their process was killed.
    """

    spans: list[tuple[int, int]]
    begins: list[int]
    task_indexes: list[int]
    cut_off: int

    @classmethod
    def read(cls, folder: Path, killed_at: int | None = None) -> "Ledger":
        """Read a folder. Spans of a killed process end when it was killed.

        Raises:
            WrongAnswerError: A task did not end, and no process was killed.
        """
        spans: list[tuple[int, int]] = []
        indexes: list[int] = []
        cut_off = 0
        for path in folder.glob("*.ledger"):
            began: dict[int, int] = {}
            for line in path.read_text().splitlines():
                what, index, moment = line.split()
                if what == "begin":
                    began[int(index)] = int(moment)
                else:
                    spans.append((began.pop(int(index)), int(moment)))
                    indexes.append(int(index))
            if began and killed_at is None:
                msg = f"tasks {sorted(began)} began and did not end, though no process was killed; look at the workers' errors"
                raise WrongAnswerError(msg)
            cut_off += len(began)
            spans += [(moment, killed_at or moment) for moment in began.values()]
        return cls(spans=spans, begins=sorted(begin for begin, _ in spans), task_indexes=sorted(indexes), cut_off=cut_off)

    def peak(self) -> int:
        """Return the most tasks that ran at one moment."""
        events = sorted([(begin, 1) for begin, _ in self.spans] + [(end, -1) for _, end in self.spans])
        running = most = 0
        for _, change in events:
            running += change
            most = max(most, running)
        return most

    def mean(self) -> float:
        """Return how many tasks ran on average, from the first begin to the last."""
        first, last = self.begins[0], self.begins[-1]
        return sum(min(end, last) - begin for begin, end in self.spans) / max(1, last - first)

    def starts_per_second(self) -> float:
        """Return how many tasks began in a second, from the first begin to the last."""
        return (len(self.begins) - 1) / max(1, self.begins[-1] - self.begins[0]) * 1e9

    def excess_over(self, per_second: float, burst: float) -> float:
        """Return by how many starts the busiest window is above burst + rate x its length; below zero where none is."""
        worst = float("-inf")
        lowest = float("inf")
        for place, begin in enumerate(self.begins):
            owed = place - begin / 1e9 * per_second
            lowest = min(lowest, owed)
            worst = max(worst, owed - lowest + 1 - burst)
        return worst
