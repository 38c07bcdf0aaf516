"""What user code saw: an append-only file for each process, written through to the disk, which stageflow knows nothing of."""

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from stageflow import Contract


class Deed(StrEnum):
    """What was done."""

    START = "start"
    END = "end"
    PLAN = "plan"
    AGGREGATE = "aggregate"
    ANSWER = "answer"
    REFUSED = "refused"


class Line(Contract):
    """One thing that happened in user code.

    Attributes:
        at: Seconds of the machine's monotonic clock, which all its processes share.
        pid: The process.
        token: Unique to the call, and returned with its result; of a planner: the token of the stage result that it was given.
        seals: Of an answer: the tokens of the stage results that it was given.
    """

    deed: Deed
    at: float
    pid: int
    job_id: str = ""
    run: int = 0
    stage: int = 0
    index: int = 0
    token: str = ""
    seals: tuple[str, ...] = ()


class Ledger:
    """The file of this process. A line is there, whole, before :meth:`note` returns."""

    def __init__(self, folder: Path) -> None:
        name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._file: Final = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._pid: Final = os.getpid()
        self._lock = threading.Lock()

    def note(
        self, deed: Deed, job_id: str = "", run: int = 0, stage: int = 0, index: int = 0, token: str = "", *seals: str
    ) -> None:
        """Write a line through to the disk."""
        row = [deed.value, time.monotonic(), self._pid, job_id, run, stage, index, token, seals]
        with self._lock:
            os.write(self._file, f"{json.dumps(row)}\n".encode())
        os.fdatasync(self._file)


def read_ledger(folder: Path) -> Iterator[Line]:
    """Return every whole line of every process."""
    for file in sorted(folder.glob("*.jsonl")):
        for text in file.read_text().splitlines(keepends=True):
            if text.endswith("\n"):  # a kill may cut the last one short
                deed, at, pid, job_id, run, number, index, token, seals = json.loads(text)
                yield Line(
                    deed=Deed(deed),
                    at=at,
                    pid=pid,
                    job_id=job_id,
                    run=run,
                    stage=number,
                    index=index,
                    token=token,
                    seals=tuple(seals),
                )
