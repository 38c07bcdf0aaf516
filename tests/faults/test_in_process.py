"""Faults of user code, of the clock and of connections, on each store."""

import resource
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import psycopg
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
from stageflow.testing import drain_work, move_clock
from stageflow.testing.azurite_server import AzuriteServer
from stageflow.worker.recoverer import Recoverer
from stageflow.workflow.authoring import Keyed

pytestmark = pytest.mark.faults
registry = JobRegistry()
OPTIONS = WorkerOptions(slots=2, lease_seconds=6.0, beat_seconds=0.3, poll_seconds=0.3, recover_seconds=0.2)
PATIENCE = 60
_MIB = 2**20


class Order(Contract):
    """Job parameters: what is to go wrong."""

    fault: str = ""
    count: int = 4


class Item(Contract):
    """Task parameters and result."""

    index: int
    fault: str = ""


class Total(Contract):
    """Job result."""

    total: int


class Meddler:
    """What a test does while a handler runs."""

    calls: ClassVar[list[int]] = []
    amid: ClassVar[Callable[[TaskExecutionContext], None] | None] = None


def _exhaust_memory() -> None:
    """Ask for more than this process may have, as where its limit is reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (512 * _MIB, hard))
    try:
        bytearray(1024 * _MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@task("fault_item")
def do_item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Note the call, and do what is to go wrong."""
    Meddler.calls.append(context.task_index)
    if parameters.fault == "memory" and parameters.index == 1:
        _exhaust_memory()
    if Meddler.amid is not None and context.task_index == 1 and context.stage_number == 1:
        amid, Meddler.amid = Meddler.amid, None
        amid(context)
    if parameters.fault == "late" and context.stage_number == 2:
        msg = "the last stage fails"
        raise ValueError(msg)
    return parameters


@workflow("faulty", registry=registry)
class Faulty(BaseController[Order]):
    """Two stages and a sum."""

    first = stage(1, "first", task=do_item)
    second = stage(2, "second", task=do_item, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Order]) -> Iterator[Keyed[Item]]:
        """Plan, and fail as told."""
        order = job.parameters
        for index in range(order.count):
            if order.fault == "planner" and index == 2:
                msg = "the planner fails"
                raise ValueError(msg)
            item = Item(index=index, fault=order.fault)
            yield Keyed(parameters=item, key=f"key {index % 2 if order.fault == 'key' else index}")

    @second.plan
    def plan_second(self, job: JobExecutionContext[Order], first: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """One task per result."""
        yield from first

    def aggregate_job_results(self, job: JobExecutionContext[Order], stage_results: dict[int, StageResults[Any]]) -> Total:  # noqa: ARG002
        """Add up."""
        return Total(total=sum(each.index for each in self.second.of(stage_results)))


@pytest.fixture
def app(store_url: str) -> Iterator[Stageflow]:
    """Give an app that nobody works for."""
    Meddler.calls.clear()
    Meddler.amid = None
    with Stageflow(store_url, registry=registry, options=OPTIONS) as made:
        made.migrate()
        yield made


def drained(app: Stageflow, order: Order) -> Any:
    """Run a job to its end in this thread."""
    job_id = app.submit(Faulty, order, new_run=True).job.job_id
    drain_work(app)
    return app.wait(job_id, timeout=0)


def test_f01_an_exception_in_a_planning_hook_fails_the_job_and_runs_nothing(app: Stageflow) -> None:
    """The job fails with the planner's words, and of a stage that was planned by half no handler is called."""
    result = drained(app, Order(fault="planner"))
    assert result.status is JobStatus.FAILED
    assert "the planner fails" in str(result.error_details)
    assert Meddler.calls == []


def test_f06_a_late_stage_that_fails_keeps_the_results_before_it(app: Stageflow) -> None:
    """The job fails by its last stage; the first stage's results are complete and readable."""
    result = drained(app, Order(fault="late"))
    assert result.status is JobStatus.FAILED
    assert "the last stage fails" in str(result.error_details)
    first, second = result.stage_results["1"], result.stage_results["2"]
    assert (first.status, first.successful_tasks) == ("completed", 4)
    assert (second.status, second.failed_tasks) == ("failed", 4)


def test_f09_a_constraint_violation_fails_its_job_and_no_other(app: Stageflow) -> None:
    """Two tasks of one key break a unique constraint: that job fails and says so, and the next one runs."""
    result = drained(app, Order(fault="key"))
    assert result.status is JobStatus.FAILED
    assert "key 0" in str(result.error_details)
    assert Meddler.calls == []
    assert drained(app, Order()).status is JobStatus.COMPLETED


def test_f10_a_handler_that_outlives_its_lease_is_refused(app: Stageflow) -> None:
    """Another worker does its task meanwhile; what it returns then changes nothing, and is counted."""

    def others_take_over(_: TaskExecutionContext) -> None:
        move_clock(app, 1000)
        app.maintain()
        drain_work(app)

    Meddler.amid = others_take_over
    job_id = app.submit(Faulty, Order()).job.job_id
    drain_work(app)
    assert app.result(job_id, timeout=0) == Total(total=6)
    assert app.telemetry.counts["stale_write_refused"] == 1
    assert app.telemetry.counts["stage_advanced"] == 2
    assert Meddler.calls.count(1) == 3  # twice in the first stage, once in the second


def test_f10_a_heartbeat_that_is_refused_is_counted(app: Stageflow) -> None:
    """The handler is told that its lease is lost, once, however many beats follow; nothing is counted twice."""

    def others_take_over(context: TaskExecutionContext) -> None:
        while not app.maintain().recovery.returned:
            move_clock(app, 1000)
        assert app.telemetry.wait_for("lease_lost", timeout_seconds=PATIENCE)
        assert context.cancelled

    Meddler.amid = others_take_over
    job_id = app.submit(Faulty, Order()).job.job_id
    with app.worker(OPTIONS):
        assert app.result(job_id, timeout=PATIENCE) == Total(total=6)
    assert app.telemetry.counts["lease_lost"] == 1
    assert app.telemetry.counts["stage_advanced"] == 2


def test_f19_a_handler_that_outlives_the_grace_is_left_and_run_again(app: Stageflow) -> None:
    """The worker stops without it; its lease expires, another worker runs its task, and what it returns at last is refused."""
    entered, ending = threading.Event(), threading.Event()

    def outlive(_: TaskExecutionContext) -> None:
        entered.set()
        assert ending.wait(PATIENCE)

    Meddler.amid = outlive
    job_id = app.submit(Faulty, Order()).job.job_id
    leaving = app.worker(OPTIONS.model_copy(update={"grace_seconds": 0.2}))
    leaving.start()
    assert entered.wait(PATIENCE)
    assert leaving.stop() is False
    with app.worker(OPTIONS.model_copy(update={"lease_seconds": 1.0})):
        assert app.result(job_id, timeout=PATIENCE) == Total(total=6)
    ending.set()
    assert app.telemetry.wait_for("stale_write_refused", timeout_seconds=PATIENCE)
    assert sorted(Meddler.calls) == [0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert app.telemetry.counts["stage_advanced"] == 2


def test_f12_a_handler_that_exhausts_its_memory_fails_its_task_only(app: Stageflow) -> None:
    """The error is recorded as any other's, and its siblings' results are kept."""
    result = drained(app, Order(fault="memory"))
    first = result.stage_results["1"]
    assert (first.successful_tasks, first.failed_tasks) == (3, 1)
    assert "MemoryError" in str(first.task_results[1].error_details)


@pytest.mark.parametrize("seconds", [86_400.0, -86_400.0])
def test_f18_a_clock_that_jumps_makes_nobody_work_twice(app: Stageflow, seconds: float) -> None:
    """While a handler runs, the store's clock jumps by a day: its lease holds, by its heartbeat, and its result counts."""
    rival = Recoverer(app.repositories, app.telemetry, OPTIONS, lambda: None, registry)

    def jump(context: TaskExecutionContext) -> None:
        rival.recover_once()
        move_clock(app, seconds)
        for beat in range(1, 5):
            rival.recover_once()
            # Progress is told after the beat that took it along has prolonged the lease.
            context.progress(beat, 5)
            assert app.telemetry.wait_for("task_progress", count=beat, timeout_seconds=PATIENCE)

    Meddler.amid = jump
    job_id = app.submit(Faulty, Order()).job.job_id
    with app.worker():
        assert app.result(job_id, timeout=PATIENCE) == Total(total=6)
    assert sorted(Meddler.calls) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert app.telemetry.counts["stale_write_refused"] == 0


_WAITING = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def cut_whoever_waits(operator: psycopg.Connection[Any]) -> None:
    """End the first session that waits for a lock, in mid-transaction."""
    for _ in range(600):
        if (row := operator.execute(_WAITING).fetchone()) is not None:
            operator.execute("select pg_terminate_backend(%s)", row)
            return
        time.sleep(0.05)
    pytest.fail("nobody waited for the lock")


@pytest.fixture
def postgres_app(postgres_dsn: str) -> Iterator[Stageflow]:
    """Give an app on PostgreSQL."""
    Meddler.calls.clear()
    Meddler.amid = None
    with Stageflow(postgres_dsn, registry=registry, options=OPTIONS) as made:
        made.migrate()
        yield made


def test_f07_connection_lost_in_mid_transaction(postgres_app: Stageflow, postgres_dsn: str) -> None:
    """A completion is cut off while it waits for its stage's row: nothing of it stays, and the job completes."""
    held, release = threading.Event(), threading.Event()

    def hold_the_stage() -> None:
        with psycopg.connect(postgres_dsn) as holder, psycopg.connect(postgres_dsn, autocommit=True) as operator:
            holder.execute("select 1 from stageflow.stages for update")
            held.set()
            cut_whoever_waits(operator)
        release.set()

    holder = threading.Thread(target=hold_the_stage)

    def begin(_: TaskExecutionContext) -> None:
        holder.start()
        assert held.wait(PATIENCE)

    Meddler.amid = begin
    job_id = postgres_app.submit(Faulty, Order()).job.job_id
    with postgres_app.worker():
        assert release.wait(PATIENCE)
        assert postgres_app.result(job_id, timeout=PATIENCE) == Total(total=6)
    holder.join()
    assert postgres_app.telemetry.counts["stage_advanced"] == 2


def test_f07_connection_lost_in_mid_batch(postgres_app: Stageflow, postgres_dsn: str) -> None:
    """A batch of jobs is cut off while it is written: none of them is there, and asked for again each is created once."""
    orders = [Order(count=count) for count in range(1, 201)]
    with psycopg.connect(postgres_dsn) as holder, psycopg.connect(postgres_dsn, autocommit=True) as operator:
        holder.execute("lock table stageflow.stages in share mode")
        cutter = threading.Thread(target=cut_whoever_waits, args=(operator,))
        cutter.start()
        with pytest.raises(StoreError):
            postgres_app.submit_many(Faulty, orders)
        cutter.join()
    assert postgres_app.repositories.jobs.list_jobs(limit=1) == []
    assert len({each.job.job_id for each in postgres_app.submit_many(Faulty, orders)}) == 200
    assert len(postgres_app.repositories.jobs.list_jobs(limit=1000)) == 200


@pytest.mark.azurite
def test_f16_a_queue_that_is_down_only_delays(store_url: str) -> None:
    """A job is submitted while the queue is away and the worker runs; once the queue is back, empty, the job completes."""
    with AzuriteServer() as server:
        queue = f"azure:{server.connection_string}?prefix=t-{uuid.uuid4().hex[:12]}"
        with Stageflow(store_url, registry=registry, queue=queue, options=OPTIONS) as app:
            app.migrate()
            with app.worker():
                server.stop()
                job_id = app.submit(Faulty, Order()).job.job_id
                assert app.telemetry.wait_for("relay_failed", timeout_seconds=PATIENCE)
                server.start()
                app.migrate()
                assert app.result(job_id, timeout=PATIENCE) == Total(total=6)
