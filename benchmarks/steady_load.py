"""A steady load of small jobs: as soon as some have ended, as many new ones are submitted."""

import time
from array import array
from collections import defaultdict
from typing import Any, Final

import psycopg

from benchmarks.flows import FanOut, Width, expected_total
from benchmarks.stopwatch import PATIENCE_SECONDS, WrongAnswerError
from stageflow import JobStatus, Stageflow

_LOOK_SECONDS: Final = 0.01
# By primary key, so that the question costs the same however many dead entries other indexes have.
_ENDED: Final = """
select job_id, status, result_data::jsonb, extract(epoch from updated_at - %s)::float8,
    extract(epoch from updated_at - created_at)::float8
from stageflow.jobs where job_id = any(%s) and status <> all(%s)
"""
_OPEN: Final = [JobStatus.QUEUED.value, JobStatus.PROCESSING.value]


class SteadyLoad:
    """Keeps so many jobs open, and remembers by window of their end how long each took, by the store's clock.

    Args:
        tasks: Tasks of each stage of a job.
        in_flight: Jobs that are open at any time.
        window: Seconds of a window.
    """

    def __init__(self, store: str, *, tasks: int, in_flight: int, window: float) -> None:
        self._store = store
        self._tasks = tasks
        self._in_flight = in_flight
        self._window = window
        self._open: set[str] = set()
        self._latencies: dict[int, array[float]] = defaultdict(lambda: array("d"))
        self.completed = 0

    def run(self, app: Stageflow, seconds: float) -> None:
        """Submit for so many seconds, then wait for the last.

        Raises:
            WrongAnswerError: A job did not complete with the right sum, or none ended any more.
        """
        start = app.repositories.store.now()
        end = time.monotonic() + seconds
        with psycopg.connect(self._store, autocommit=True) as connection:
            connection.execute("set enable_seqscan = off")
            while time.monotonic() < end:
                missing = self._in_flight - len(self._open)
                if missing:
                    submissions = app.submit_many(FanOut, [Width.fresh(self._tasks) for _ in range(missing)])
                    self._open.update(submission.job.job_id for submission in submissions)
                time.sleep(_LOOK_SECONDS)
                self._collect(connection, start)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while self._open:
                self._collect(connection, start)
                time.sleep(_LOOK_SECONDS)
                if time.monotonic() > deadline:
                    msg = f"{len(self._open)} jobs had not ended {PATIENCE_SECONDS:.0f} s after the last was submitted"
                    raise WrongAnswerError(msg)

    def windows(self, seconds: float) -> list[list[float]]:
        """Return the latencies of each whole window of the load, in seconds.

        Raises:
            WrongAnswerError: No job ended in one of them.
        """
        count = int(seconds // self._window)
        windows = [list(self._latencies[number]) for number in range(count)]
        if not all(windows):
            msg = f"no job ended in window {windows.index([]) + 1} of {count}; lengthen the windows, or look at the workers"
            raise WrongAnswerError(msg)
        return windows

    def _collect(self, connection: psycopg.Connection[Any], start: object) -> None:
        right = {"total": expected_total(self._tasks)}
        for job_id, status, result, ended, latency in connection.execute(_ENDED, (start, list(self._open), _OPEN)):
            if status != JobStatus.COMPLETED or result != right:
                msg = f"job {job_id} should have completed with {right}, but it is {status} with {result}"
                raise WrongAnswerError(msg)
            self._open.remove(job_id)
            self._latencies[int(ended // self._window)].append(latency)
            self.completed += 1
