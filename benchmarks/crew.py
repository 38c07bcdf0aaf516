"""An app and its worker processes on the store that is measured, warmed up and alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.fleet import Fleet, work
from benchmarks.flows import registry
from benchmarks.request import Request
from benchmarks.stopwatch import warm_up
from stageflow import JobStatus, Stageflow, WorkerOptions
from stageflow.errors import InvalidValueError


@dataclass(frozen=True)
class Crew:
    """Who submits, and who works."""

    app: Stageflow
    fleet: Fleet


@contextmanager
def caller(request: Request, store: str | None = None) -> Iterator[Stageflow]:
    """Give an app on the store, its schema made.

    Args:
        store: In place of the request's, for another way to connect to it.

    Raises:
        InvalidValueError: There are unfinished jobs, which would be measured too.
    """
    with Stageflow(store or request.store, registry=registry, queue=request.queue) as app:
        app.migrate()
        for status in (JobStatus.QUEUED, JobStatus.PROCESSING):
            if app.repositories.jobs.list_jobs(status=status, limit=1):
                msg = f"the store has {status} jobs, which would be measured too; use an empty database, or leave --store out"
                raise InvalidValueError(msg)
        yield app


@contextmanager
def crew(request: Request, *, store: str | None = None, options: WorkerOptions | None = None) -> Iterator[Crew]:
    """Give an app and workers that have done a job already; all stop after the block."""
    with (
        caller(request, store) as app,
        Fleet(request.workers, work, store or request.store, request.queue, options or request.worker_options()) as fleet,
    ):
        warm_up(app)
        yield Crew(app=app, fleet=fleet)
