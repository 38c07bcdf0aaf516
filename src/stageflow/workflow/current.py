"""The job whose hook is running, for hooks whose parameters name it only by its id."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from stageflow.contracts.context import JobExecutionContext

_current: Final[ContextVar[JobExecutionContext[Any] | None]] = ContextVar("stageflow_current_job", default=None)


@contextmanager
def current_job(job: JobExecutionContext[Any]) -> Iterator[None]:
    """Make ``job`` the current one of this thread while a hook is called *and its iterator is read*."""
    token = _current.set(job)
    try:
        yield
    finally:
        _current.reset(token)


def get_current_job(job_id: str) -> JobExecutionContext[Any] | None:
    """Return the current job if it is the one asked for; ``None`` outside of an engine, as in a test of a controller."""
    job = _current.get()
    return job if job is not None and job.job_id == job_id else None
