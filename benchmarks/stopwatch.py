"""A job of the fan-out workflow, timed as its caller sees it and checked."""

import time
from dataclasses import dataclass
from typing import Final

from benchmarks.flows import FanOut, Width, expected_total
from stageflow import JobResult, JobStatus, Stageflow

WARM_UP_TASKS: Final = 100
PATIENCE_SECONDS: Final = 1800.0


class WrongAnswerError(AssertionError):
    """A job did not end as it must; its time means nothing."""


@dataclass(frozen=True)
class TimedJob:
    """A job and the seconds from before its submission until its caller knew that it had completed."""

    seconds: float
    result: JobResult


def time_job(app: Stageflow, width: int) -> TimedJob:
    """Submit a job, wait for its end, and check its answer.

    Raises:
        WrongAnswerError: It did not complete, or its counts or its sum are not right.
    """
    parameters = Width.fresh(width)
    start = time.perf_counter()
    job_id = app.submit(FanOut, parameters).job.job_id
    result = app.wait(job_id, timeout=PATIENCE_SECONDS)
    seconds = time.perf_counter() - start
    require_right(result, width)
    return TimedJob(seconds=seconds, result=result)


def warm_up(app: Stageflow) -> None:
    """Run a small job, not measured, so that every connection is open and every statement is prepared."""
    time_job(app, WARM_UP_TASKS)


def require_right(result: JobResult, width: int) -> None:
    """Do nothing if a job completed with every task counted once and the right sum.

    Raises:
        WrongAnswerError: It did not.
    """
    counted = [stage.successful_tasks for stage in result.stage_results.values()]
    right = {"total": expected_total(width)}
    if result.status is not JobStatus.COMPLETED or counted != [width, width] or result.result_data != right:
        seen = f"{result.status}, {counted} tasks, {result.result_data}, {result.error_details}"
        msg = f"job {result.job_id} should have completed with {width} tasks a stage and {right}, but it is: {seen}"
        raise WrongAnswerError(msg)
