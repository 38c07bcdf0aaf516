"""Workers that carry out many small jobs together: all of them end right, and a slow one delays no other."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
)
from stageflow.telemetry import Event

PATIENCE: Final = 60.0
OPEN: Final = {JobStatus.QUEUED, JobStatus.PROCESSING}
registry = JobRegistry()
go_on = threading.Event()
stuck = threading.Event()


class Number(Contract):
    """Parameters of jobs and tasks, and results."""

    number: int
    slow: str = ""


def wait_if(parameters: Number, place: str) -> None:
    """Wait for the test, where the job is slow there."""
    if parameters.slow == place:
        stuck.set()
        assert go_on.wait(PATIENCE)


@task("square")
def square(parameters: Number, context: TaskExecutionContext) -> Number:  # noqa: ARG001
    """Square the number."""
    wait_if(parameters, "handler")
    return Number(number=parameters.number**2)


class Squares(BaseController[Number]):
    """Square a few numbers, then their squares, and add them up."""

    first = stage(1, "first", task=square)
    second = stage(2, "second", task=square, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Number]) -> Iterator[Number]:
        """Plan three numbers, the first of which is slow where the job is."""
        wait_if(job.parameters, "planner")
        yield job.parameters
        for number in range(1, 3):
            yield Number(number=job.parameters.number + number)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Number], results: StageResults[Number]) -> Iterator[Number]:  # noqa: ARG002
        """Plan what came of the first stage."""
        yield from (Number(number=result.number) for result in results)

    def aggregate_job_results(self, job: JobExecutionContext[Number], stage_results: dict[int, StageResults[Number]]) -> Number:  # noqa: ARG002
        """Add up the last stage."""
        return Number(number=sum(result.number for result in stage_results[2]))


registry.register(Squares, "squares")


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stageflow]:
    """Give an app on either store."""
    go_on.clear()
    stuck.clear()
    address = f"sqlite:{tmp_path / 'jobs.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_dsn")
    with Stageflow(address, registry=registry) as app:
        app.migrate()
        yield app


def wanted(number: int) -> int:
    """Return the answer of a job."""
    return sum((number + index) ** 4 for index in range(3))


@pytest.mark.parametrize("slots", [1, 4])
def test_many_small_jobs_end_right(app: Stageflow, slots: int) -> None:
    """Each with its own answer, after one run of each task, whoever carried out which."""
    jobs = app.submit_many(Squares, [Number(number=number) for number in range(200)])
    done: list[Event] = []
    with app.telemetry.listening(done.append), ExitStack() as workers:
        for _ in range(2):
            workers.enter_context(app.worker(WorkerOptions(slots=slots)))
        answers = [app.wait(job.job.job_id, timeout=PATIENCE) for job in jobs]
    assert [answer.status for answer in answers] == [JobStatus.COMPLETED] * 200
    assert [answer.result_data for answer in answers] == [{"number": wanted(number), "slow": ""} for number in range(200)]
    reported = [event for event in done if event.name == "range_completed"]
    assert sum(int(str(event.details["tasks"])) for event in reported) == 200 * 6
    assert [event.name for event in done if event.name in {"slot_failed", "stale_write_refused", "lease_lost"}] == []


@pytest.mark.parametrize("place", ["planner", "handler"])
def test_a_slow_job_delays_no_other(app: Stageflow, place: str) -> None:
    """It holds one slot; what came with it is given back, and another worker ends it while the slow one still runs."""
    quick = app.submit_many(Squares, [Number(number=number) for number in range(60)])
    (slow,) = app.submit_many(Squares, [Number(number=1000, slow=place)])
    late = app.submit_many(Squares, [Number(number=number) for number in range(60, 120)])
    with ExitStack() as workers:
        for _ in range(2):
            workers.enter_context(app.worker(WorkerOptions(slots=1, lease_seconds=PATIENCE)))
        assert stuck.wait(PATIENCE)
        others = [app.wait(job.job.job_id, timeout=PATIENCE) for job in (*quick, *late)]
        assert [answer.status for answer in others] == [JobStatus.COMPLETED] * 120
        assert app.job(slow.job.job_id).status is JobStatus.PROCESSING
        go_on.set()
        assert app.wait(slow.job.job_id, timeout=PATIENCE).status is JobStatus.COMPLETED


def test_a_stop_leaves_nothing_to_expire(app: Stageflow) -> None:
    """What a worker had claimed and not begun is there for the next one at once, and no lease is left behind."""
    jobs = app.submit_many(Squares, [Number(number=number) for number in range(150)])
    for _ in range(3):
        worker = app.worker(WorkerOptions(slots=2, lease_seconds=600.0))
        worker.start()
        following = next((job.job.job_id for job in jobs if app.job(job.job.job_id).status in OPEN), jobs[-1].job.job_id)
        app.wait(following, timeout=PATIENCE)
        assert worker.stop()
        assert app.repositories.leases.list_leases(1) == []
    with app.worker(WorkerOptions(slots=2)):
        answers = [app.wait(job.job.job_id, timeout=PATIENCE) for job in jobs]
    assert [answer.status for answer in answers] == [JobStatus.COMPLETED] * 150
