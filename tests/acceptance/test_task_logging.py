"""Log records of handlers say to which task they belong."""

import importlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    RetryableTaskError,
    RetryPolicy,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    TaskLogFilter,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.testing import drain_work

OPTIONS = WorkerOptions(slots=2, poll_seconds=0.2, beat_seconds=0.1)
WORKFLOWS = JobRegistry()
logger = logging.getLogger("of_the_application")


class Item(Contract):
    """Parameters of job and task."""

    number: int


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(TaskLogFilter())

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)

    def whose(self, message: str) -> list[tuple[object, ...]]:
        """Return job, stage, index and attempt of the records with this message, sorted."""
        names = ("job_id", "stage", "task_index", "attempt")
        found = [tuple(vars(record)[name] for name in names) for record in self.records if record.getMessage() == message]
        return sorted(found, key=str)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Give a log handler with the filter."""
    handler = Kept()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@task("speak", retry=RetryPolicy(max_attempts=2, initial_seconds=0, cap_seconds=0))
def speak(parameters: Item, context: TaskExecutionContext) -> Item:
    """Log, and fail at the first attempt of index 1."""
    logger.warning("in a thread")
    if context.task_index == 1 and context.attempt == 1:
        raise RetryableTaskError
    return parameters


@task("speak_in_time", timeout_seconds=60)
def speak_in_time(parameters: Item, context: TaskExecutionContext) -> Item:  # noqa: ARG001  the shape of a handler
    """Log from the thread of a handler with a timeout."""
    logger.warning("in time, in %s", "a slot" if "slot" in threading.current_thread().name else "another thread")
    return parameters


@task("speak_later")
async def speak_later(parameters: Item, context: TaskExecutionContext) -> Item:  # noqa: ARG001  the shape of a handler
    """Log from the event loop."""
    logger.warning("on the loop")
    return parameters


@workflow("speaking", registry=WORKFLOWS)
class Speaking(BaseController[Item]):
    """Three stages, two tasks each."""

    first = stage(1, "in threads", task=speak)
    second = stage(2, "in time", task=speak_in_time, after=first)
    third = stage(3, "on the loop", task=speak_later, after=second)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Item]) -> Iterator[Item]:
        """Plan two tasks."""
        logger.warning("planning")
        for number in range(job.parameters.number):
            yield Item(number=number)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Item], results: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """Plan as many again."""
        yield from results

    @third.plan
    def plan_third(self, job: JobExecutionContext[Item], results: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """Plan as many again."""
        yield from results


def test_what_a_handler_logs_says_whose_it_is(kept: Kept) -> None:
    """Job, stage, index and attempt are on the records of threads and of the event loop; a planner's carry none."""
    with Stageflow("sqlite::memory:", registry=WORKFLOWS, options=OPTIONS) as app, app.worker():
        job_id = app.submit(Speaking, Item(number=2)).job.job_id
        assert app.wait(job_id, timeout=30).status is JobStatus.COMPLETED
    assert kept.whose("in a thread") == [(job_id, 1, 0, 1), (job_id, 1, 1, 1), (job_id, 1, 1, 2)]
    assert kept.whose("in time, in another thread") == [(job_id, 2, 0, 1), (job_id, 2, 1, 1)]
    assert kept.whose("on the loop") == [(job_id, 3, 0, 1), (job_id, 3, 1, 1)]
    assert kept.whose("planning") == [(None, None, None, None)]


def test_no_record_is_labelled_after_the_handler(kept: Kept) -> None:
    """In a thread that ran tasks, what is logged afterwards belongs to none of them."""
    with Stageflow("sqlite::memory:", registry=WORKFLOWS) as app:
        app.submit(Speaking, Item(number=1))
        drain_work(app)
    logger.warning("afterwards")
    logger.warning("of its own", extra={"stage": "mine"})
    assert kept.whose("afterwards") == [(None, None, None, None)]
    assert kept.whose("of its own") == [(None, "mine", None, None)]


def test_a_child_process_labels_its_records_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task travels to the child with its context."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    work = importlib.import_module("logging_work")
    registry = JobRegistry()

    @workflow("speaking_child", registry=registry)
    class SpeakingChild(BaseController[Item]):
        """One stage in a child process."""

        only = stage(1, "only", task=work.log_in_child)

        @only.plan
        def plan_only(self, job: JobExecutionContext[Item]) -> Iterator[Any]:  # noqa: ARG002
            """Plan one task."""
            yield work.Note(file=str(tmp_path / "log"))

    with Stageflow("sqlite::memory:", registry=registry, options=OPTIONS) as app, app.worker():
        job_id = app.submit(SpeakingChild, Item(number=1)).job.job_id
        assert app.wait(job_id, timeout=30).status is JobStatus.COMPLETED
    assert (tmp_path / "log").read_text() == f"{job_id} 1 0 1 at work\n"
