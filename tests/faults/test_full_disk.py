"""The disk is full for a while, on each store: what does not fit is written later, and nothing half.

No file may grow beyond a limit that the processes which write them are given: they meet it as they would meet a full disk.
"""

import random
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    Stageflow,
    StageResults,
    StoreError,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.testing.child_process import children_of
from stageflow.testing.postgres_server import PostgresServer

pytestmark = pytest.mark.faults
registry = JobRegistry()
OPTIONS = WorkerOptions(slots=2, lease_seconds=2.0, beat_seconds=0.3, poll_seconds=0.2, recover_seconds=0.2)
PATIENCE: Final = 60
MIB: Final = 1024 * 1024
WAL_SEGMENT: Final = 16 * MIB
"""The size of the files in which PostgreSQL logs: they have it from the start."""
COUNT: Final = 40
LENGTH: Final = 1_000_000


class Disk(Protocol):
    """A store, and the disk on which it is."""

    url: str

    def limit(self, size_bytes: int | None) -> None:
        """Let no file grow beyond so much; any, where it is ``None``."""
        ...

    def size(self) -> int:
        """Return the size of the largest file that may grow."""
        ...


class SqliteDisk:
    """The disk of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:{folder / 'jobs.db'}"

    def limit(self, size_bytes: int | None) -> None:
        """Limit this process."""
        limit_files([0], size_bytes)

    def size(self) -> int:
        """Return the size of the database or of its log."""
        return max(file.stat().st_size for file in self.folder.iterdir())


class PostgresDisk:
    """The disk of a server."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.url = server.create_database()

    def limit(self, size_bytes: int | None) -> None:
        """Limit the server, which hands it down to new sessions, and those that it has."""
        limit_files([self.server.pid, *children_of(self.server.pid)], size_bytes)

    def size(self) -> int:
        """Return the size of a segment of the log; tables are smaller."""
        return WAL_SEGMENT


def limit_files(pids: Sequence[int], size_bytes: int | None) -> None:
    """Limit the size of files that processes write; one that has ended meanwhile writes nothing more."""
    soft = resource.RLIM_INFINITY if size_bytes is None else size_bytes
    for pid in pids:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))


@contextmanager
def full(disk: Disk, spare: int) -> Iterator[None]:
    """Hold the disk full but for so many bytes."""
    disk.limit(disk.size() + spare)
    try:
        yield
    finally:
        disk.limit(None)


class Bulk(Contract):
    """Job parameters: how much text each task is given, and returns; and text of the job's own."""

    given: int = 2
    made: int = 2
    text: str = ""


class Text(Contract):
    """Task parameters and result."""

    index: int
    text: str


class Total(Contract):
    """Job result."""

    indexes: list[int]
    length: int


def noise(index: int, length: int) -> str:
    """Return text that no store can compress."""
    return random.Random(index).randbytes(length // 2).hex()  # noqa: S311  no secret


@task("bulky")
def bulky(parameters: Text, context: TaskExecutionContext) -> Text:
    """Return as much text as the parameters say in front."""
    return Text(index=parameters.index, text=noise(context.task_index, int(parameters.text.split()[0])))


@task("measured")
def measured(parameters: Text, context: TaskExecutionContext) -> Text:  # noqa: ARG001  the shape of a handler
    """Pass it on."""
    return parameters


@workflow("bulk", registry=registry)
class BulkController(BaseController[Bulk]):
    """Makes text in its first stage, and measures it in its second."""

    makes = stage(1, "make", task=bulky)
    measures = stage(2, "measure", task=measured, after=makes)

    @makes.plan
    def plan_makes(self, job: JobExecutionContext[Bulk]) -> Iterator[Text]:
        """Plan tasks with as much text."""
        for index in range(COUNT):
            yield Text(index=index, text=f"{job.parameters.made} {noise(index, job.parameters.given)}")

    @measures.plan
    def plan_measures(self, job: JobExecutionContext[Bulk], makes: StageResults[Text]) -> Iterator[Text]:  # noqa: ARG002
        """One task per result."""
        for made in makes:
            yield Text(index=made.index, text=str(len(made.text)))

    def aggregate_job_results(self, job: JobExecutionContext[Bulk], stage_results: dict[int, StageResults[Any]]) -> Total:  # noqa: ARG002
        """Add up."""
        done = list(self.measures.of(stage_results))
        return Total(indexes=[each.index for each in done], length=sum(int(each.text) for each in done))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """Give a disk of each kind of store."""
    if request.param == "sqlite":
        yield SqliteDisk(tmp_path)
        return
    with PostgresServer() as server:
        yield PostgresDisk(server)


@pytest.mark.parametrize("bulk", [Bulk(given=LENGTH), Bulk(made=LENGTH)], ids=["planned", "completed"])
def test_f21_a_disk_that_is_full_for_a_while_only_delays_a_job(disk: Disk, bulk: Bulk) -> None:
    """While tasks are planned, or completed: no result is lost or doubled, and the job completes once there is room."""
    with Stageflow(disk.url, registry=registry, options=OPTIONS) as app:
        app.migrate()
        with full(disk, 3 * MIB):
            with app.worker():
                job_id = app.submit(BulkController, bulk).job.job_id
                assert app.telemetry.wait_for("slot_failed", count=3, timeout_seconds=PATIENCE)
            assert app.job(job_id).status is JobStatus.PROCESSING
        with app.worker():
            assert app.result(job_id, Total, timeout=PATIENCE) == Total(indexes=list(range(COUNT)), length=COUNT * bulk.made)
        results = app.job(job_id).stage_results
        assert [(each.task_count, each.successful_tasks) for each in results.values()] == [(COUNT, COUNT)] * 2
        assert app.doctor().ailments == []


def test_f21_jobs_that_do_not_fit_are_not_created(disk: Disk) -> None:
    """A submission is refused whole, with the reason; what fits is taken meanwhile, and the rest once there is room."""
    orders = [Bulk(text=noise(index, LENGTH)) for index in range(COUNT)]
    with Stageflow(disk.url, registry=registry, options=OPTIONS) as app:
        app.migrate()
        with full(disk, 3 * MIB):
            with pytest.raises(StoreError, match=r"disk|File too large"):
                app.submit_many(BulkController, orders)
            assert app.repositories.jobs.list_jobs() == []
            assert app.submit(BulkController, orders[0]).outcome == "created"
        created = [each.outcome == "created" for each in app.submit_many(BulkController, orders)]
        assert created == [False] + [True] * (COUNT - 1)
        assert app.doctor().ailments == []


def test_f21_a_server_that_cannot_log_stops_and_goes_on() -> None:
    """PostgreSQL panics; started again with room, it has what was committed, and the job completes."""
    with PostgresServer() as server:
        disk = PostgresDisk(server)
        with Stageflow(disk.url, registry=registry, options=OPTIONS) as app:
            app.migrate()
            with app.worker():
                job_id = app.submit(BulkController, Bulk(made=LENGTH)).job.job_id
                disk.limit(WAL_SEGMENT // 2)
                failures = 0
                while "PANIC" not in server.log.read_text():
                    failures += 1
                    assert app.telemetry.wait_for("slot_failed", count=failures, timeout_seconds=PATIENCE)
                server.kill()
                server.start()
                answer = app.result(job_id, Total, timeout=PATIENCE)
            assert answer == Total(indexes=list(range(COUNT)), length=COUNT * LENGTH)
            assert app.doctor().ailments == []
