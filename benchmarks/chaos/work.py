"""The workflow that runs amid the faults; every call of user code is noted in the ledger and marks what it returns."""

import faulthandler
import logging
import os
import signal
import time
import uuid
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos.ledger import Deed, Ledger
from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    PermanentTaskError,
    QueueError,
    RetryableTaskError,
    RetryPolicy,
    Stageflow,
    StageResults,
    StoreError,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.telemetry import Event

REFUSALS: Final = frozenset({"stale_write_refused", "advance_refused", "plan_refused"})
_AGAIN_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.2
registry = JobRegistry()


class _Book:
    """The ledger of this process, once it is a worker."""

    ledger: Ledger | None = None


def note(deed: Deed, job_id: str = "", run: int = 0, number: int = 0, index: int = 0, token: str = "", *seals: str) -> None:
    """Write a line into the ledger of this process.

    Raises:
        RuntimeError: It has none.
    """
    if _Book.ledger is None:
        msg = "user code was called outside of a worker process of the chaos run"
        raise RuntimeError(msg)
    _Book.ledger.note(deed, job_id, run, number, index, token, *seals)


class Load(Contract):
    """A job of some shape.

    Attributes:
        fails: So many attempts of every third task fail.
        broken: Tasks that fail for good until the file ``mended`` is there.
    """

    shape: str
    width: int
    seconds: float
    tag: str
    fails: int = 0
    broken: tuple[int, ...] = ()
    mended: str = ""


class Piece(Contract):
    """What one task is to do; ``source`` is the token of the result that it is made of."""

    number: int
    seconds: float
    fails: int = 0
    mended: str = ""
    source: str = ""


class Made(Contract):
    """A result, and the token of the call that returned it."""

    number: int
    token: str


class Seal(Contract):
    """The token of one call of an aggregate, and what it added up."""

    token: str
    count: int
    total: int


class Answer(Contract):
    """The token of one call of the job's aggregate, and those of the stage results that it was given."""

    token: str
    seals: tuple[str, ...]
    total: int


def _new_token() -> str:
    return uuid.uuid4().hex


@task("chaos_make", retry=RetryPolicy(max_attempts=100, initial_seconds=0.05, cap_seconds=0.5, retry_on=(RetryableTaskError,)))
def make(parameters: Piece, context: TaskExecutionContext) -> Made:
    """Take the time, fail as told, and leave a token."""
    place = (context.job_id, context.run, context.stage_number, context.task_index)
    token = _new_token()
    note(Deed.START, *place, token)
    if parameters.mended and not Path(parameters.mended).exists():
        msg = "broken until it is mended"
        raise PermanentTaskError(msg)
    if context.attempt <= parameters.fails:
        msg = f"attempt {context.attempt} fails as told"
        raise RetryableTaskError(msg)
    time.sleep(parameters.seconds)
    note(Deed.END, *place, token)
    return Made(number=parameters.number, token=token)


@workflow("chaos", registry=registry)
class Chaos(BaseController[Load]):
    """Two stages: each task of the second carries the token of the result of the first that it was planned from."""

    made = stage(1, "make", task=make, policy=FailurePolicy.at_least(50))
    kept = stage(2, "keep", task=make, after=made)

    @made.plan
    def plan_made(self, job: JobExecutionContext[Load]) -> Iterator[Piece]:
        """One task per number."""
        load = job.parameters
        note(Deed.PLAN, job.job_id, job.run, 1)
        for number in range(load.width):
            yield Piece(
                number=number,
                seconds=load.seconds,
                fails=load.fails if number % 3 == 0 else 0,
                mended=load.mended if number in load.broken else "",
            )

    @kept.plan
    def plan_kept(self, job: JobExecutionContext[Load], made: StageResults[Made]) -> Iterator[Piece]:
        """One task per result."""
        note(Deed.PLAN, job.job_id, job.run, 2, 0, str(job.get_stage_result(1).metadata["token"]))
        for each in made:
            yield Piece(number=each.number, seconds=job.parameters.seconds, source=each.token)

    @made.aggregate
    def seal_made(self, job: JobExecutionContext[Load], results: StageResults[Made]) -> Seal:
        """Add up the first stage."""
        return _seal(job, 1, results)

    @kept.aggregate
    def seal_kept(self, job: JobExecutionContext[Load], results: StageResults[Made]) -> Seal:
        """Add up the second stage."""
        return _seal(job, 2, results)

    def aggregate_job_results(self, job: JobExecutionContext[Load], stage_results: dict[int, StageResults[Any]]) -> Answer:
        """Answer with the sum."""
        seals = tuple(str(job.get_stage_result(number).metadata["token"]) for number in (1, 2))
        token = _new_token()
        note(Deed.ANSWER, job.job_id, job.run, 0, 0, token, *seals)
        return Answer(token=token, seals=seals, total=sum(each.number for each in self.kept.of(stage_results)))


def _seal(job: JobExecutionContext[Load], number: int, results: StageResults[Made]) -> Seal:
    numbers = [each.number for each in results]
    token = _new_token()
    note(Deed.AGGREGATE, job.job_id, job.run, number, 0, token)
    return Seal(token=token, count=len(numbers), total=sum(numbers))


def work(ready: Connection, store: str, queue: str | None, options: WorkerOptions, folder: str) -> None:
    """Be a worker process until SIGTERM; where the servers are away at its start, try again as a supervisor would."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before any thread: it stays pending until it is looked for
    logging.basicConfig(filename=Path(folder) / "workers.log", level=logging.WARNING)
    faulthandler.enable((Path(folder) / f"crash-{os.getpid()}").open("w"))
    _Book.ledger = Ledger(Path(folder))
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            with (
                Stageflow(store, registry=registry, queue=queue, options=options) as app,
                app.telemetry.listening(_note_refusal),
                app.worker(),
            ):
                ready.send(os.getpid())
                _await_end(parent)
        except (StoreError, QueueError):
            logging.getLogger(__name__).warning("no server yet", exc_info=True)
            time.sleep(_AGAIN_SECONDS)
        except BaseException:
            logging.getLogger(__name__).exception("the worker ends")
            raise
        else:
            return


def _await_end(parent: int) -> None:
    """Return when SIGTERM is pending, or when the process that started this one is gone.

    By looking, because ``signal.sigtimedwait`` returns without a signal where the process was stopped beyond its timeout.
    """
    while signal.SIGTERM not in signal.sigpending() and os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)


def _note_refusal(event: Event) -> None:
    if event.name in REFUSALS:
        note(Deed.REFUSED, event.job_id)
