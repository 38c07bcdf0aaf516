"""What a task costs on PostgreSQL, in bytes and in turns at its stage's counter; the figures of docs/scaling.md.

    python benchmarks/growth.py bytes            # bytes on disk and of WAL a task, by how many are reported at a time
    python benchmarks/growth.py jobs             # the same of a job with its stage and its range
    python benchmarks/growth.py worker           # the same of a worker's own reports, and how many tasks they have
    python benchmarks/growth.py retention        # what it costs to delete that job again, with the statement of docs/scaling.md
    python benchmarks/growth.py counter          # reports a second on one stage's counter, by batch and by latency of a commit
    python benchmarks/growth.py crowd            # tasks a second of one stage, by slots and by latency of a commit
    python benchmarks/growth.py connections      # connections of one worker process

Each starts a server of its own that flushes to the disk as in production, and prints one JSON line a measurement.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import psycopg

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    RepositoryFactory,
    Stageflow,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.contracts.lease import ClaimOutcome, Lease
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import TERMINAL_JOB_STATUSES
from stageflow.testing.conformance.builders import (
    MovableStore,
    ask,
    chunk,
    claim_all,
    claim_plan,
    complete_ok,
    complete_one,
    create,
    new_job,
    start,
    tasks_type,
)
from stageflow.testing.postgres_server import PostgresServer

TASKS: Final = 100_000
CHUNK: Final = 5000
CROWD_TASKS: Final = 60_000
SECONDS: Final = 4.0
TABLES: Final = ("tasks", "results", "ranges", "stages", "jobs")


class Nothing(Contract):
    """What the tasks of ``connections`` get."""

    index: int


@task("growth_nothing")
def do_nothing(parameters: Nothing, context: TaskExecutionContext) -> Nothing:  # noqa: ARG001  a handler keeps its form
    """Answer with the question."""
    return parameters


@workflow("growth")
class GrowthController(BaseController[Nothing]):
    """One wide stage."""

    wide = stage(1, "wide", task=do_nothing)

    @wide.plan
    def plan_wide(self, job: JobExecutionContext[Nothing]) -> Iterator[Nothing]:
        """Plan as many tasks as the job's index says."""
        for index in range(job.parameters.index):
            yield Nothing(index=index)


def _store(dsn: str) -> MovableStore:
    return cast("MovableStore", RepositoryFactory.create_repositories(dsn).store)


def measure_bytes() -> None:
    """Plan and complete a job of 100,000 tasks in reports of several sizes; print what it left on the disk and in the WAL."""
    for batch in (1000, 100, 10, 1):
        with _server() as dsn, psycopg.connect(dsn, autocommit=True) as watch:
            tasks = TASKS if batch > 1 else TASKS // 10
            store = _store(dsn)
            store.migrate()
            watch.execute("checkpoint")
            begun = _wal(watch)
            job = new_job("bytes")
            create(store, job)
            lease = claim_plan(store, job)
            for first in range(0, tasks, CHUNK):
                added = chunk(lease, CHUNK, first_index=first, final=first + CHUNK >= tasks, range_count=8)
                assert store.add_tasks(added) is PlanOutcome.RECORDED  # noqa: S101
            planned = _wal(watch)
            reports = _work_off(store, tasks_type(job), batch)
            completed = _wal(watch)
            _say(
                what="bytes",
                tasks=tasks,
                batch=batch,
                reports=reports,
                wal_planning=round((planned - begun) / tasks, 1),
                wal_completing=round((completed - planned) / tasks, 1),
                wal_a_report=round((completed - planned) / reports),
                sizes={table: _size(watch, table, tasks) for table in TABLES},
            )
            store.close()


def measure_jobs() -> None:
    """Create 100,000 jobs that nobody works on: a row of jobs, stages and ranges each."""
    with _server() as dsn, psycopg.connect(dsn, autocommit=True) as watch:
        store = _store(dsn)
        store.migrate()
        watch.execute("checkpoint")
        begun = _wal(watch)
        for first in range(0, TASKS, CHUNK):
            create(store, *(new_job(f"many {number}") for number in range(first, first + CHUNK)))
        wal = round((_wal(watch) - begun) / TASKS, 1)
        _say(what="jobs", jobs=TASKS, wal=wal, sizes={table: _size(watch, table, TASKS) for table in TABLES})
        store.close()


def measure_worker() -> None:
    """Let one worker of four slots run 100,000 tasks that do nothing; print how it reported them."""
    with _server() as dsn, psycopg.connect(dsn, autocommit=True) as watch, Stageflow(dsn) as app:
        app.migrate()
        watch.execute("checkpoint")
        begun, started = _wal(watch), time.perf_counter()
        job = app.submit(GrowthController, Nothing(index=TASKS)).job
        with app.worker():
            app.wait(job.job_id, timeout=600)
        seconds = time.perf_counter() - started
        _say(
            what="worker",
            tasks=TASKS,
            tasks_a_second=round(TASKS / seconds),
            wal=round((_wal(watch) - begun) / TASKS, 1),
            sizes={table: _size(watch, table, TASKS) for table in TABLES},
        )


def measure_retention() -> None:
    """Run a job of 100,000 tasks, age it, and delete it as docs/scaling.md says."""
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")
    statement = page.split("```postgresql\n")[1].split("```")[0]
    with _server() as dsn, psycopg.connect(dsn, autocommit=True) as watch, Stageflow(dsn) as app:
        app.migrate()
        job = app.submit(GrowthController, Nothing(index=TASKS)).job
        with app.worker():
            app.wait(job.job_id, timeout=600)
        watch.execute("update stageflow.jobs set updated_at = now() - interval '31 days'")
        watch.execute("checkpoint")
        begun, started = _wal(watch), time.perf_counter()
        watch.execute(statement.encode())
        deleted, seconds = _wal(watch), time.perf_counter() - started
        watch.execute("vacuum stageflow.tasks, stageflow.results")
        _say(
            what="retention",
            tasks=TASKS,
            seconds=round(seconds, 2),
            wal_a_task=round((deleted - begun) / TASKS, 1),
            wal_vacuum_a_task=round((_wal(watch) - deleted) / TASKS, 1),
            vacuum_seconds=round(time.perf_counter() - started - seconds, 2),
        )


def measure_counter() -> None:
    """Let four threads report on one stage, and on four, with commits that take longer and longer."""
    for delay in (0, 1000, 3000):
        for stages in (1, 4):
            for batch in (1, 10, 100, 1000):
                settings = {"commit_delay": str(delay), "commit_siblings": "0"}
                with _server(**settings) as dsn:
                    reports, seconds = _race(dsn, stages=stages, batch=batch)
                    _say(
                        what="counter",
                        commit_delay_ms=delay / 1000,
                        stages=stages,
                        batch=batch,
                        reports_a_second=round(reports / seconds),
                        tasks_a_second=round(reports * batch / seconds),
                    )


def measure_crowd() -> None:
    """Let more and more slots work on one stage of tasks that do nothing."""
    for delay in (0, 3000):
        for workers, slots in ((1, 4), (1, 8), (3, 8), (6, 8)):
            with ExitStack() as stack:
                dsn = stack.enter_context(_server(commit_delay=str(delay), commit_siblings="0"))
                apps = [stack.enter_context(Stageflow(dsn)) for _ in range(workers)]
                apps[0].migrate()
                options = apps[0].options.model_copy(update={"slots": slots})
                started = time.perf_counter()
                job = apps[0].submit(GrowthController, Nothing(index=CROWD_TASKS)).job
                for app in apps:
                    stack.enter_context(app.worker(options))
                apps[0].wait(job.job_id, timeout=600)
                seconds = time.perf_counter() - started
                reports = sum(app.telemetry.counts["range_completed"] for app in apps)
                _say(
                    what="crowd",
                    commit_delay_ms=delay / 1000,
                    slots=workers * slots,
                    tasks_a_second=round(CROWD_TASKS / seconds),
                    tasks_a_report=round(CROWD_TASKS / reports),
                )


def measure_connections() -> None:
    """Run a job in a worker, and print the most connections that it had at a time."""
    for slots in (4, 16):
        with _server() as dsn, psycopg.connect(dsn, autocommit=True) as watch, Stageflow(dsn) as app:
            app.migrate()
            options = app.options.model_copy(update={"slots": slots})
            job = app.submit(GrowthController, Nothing(index=20_000)).job
            most = 0
            with app.worker(options):
                while app.job(job.job_id).status not in TERMINAL_JOB_STATUSES:
                    row = watch.execute("select count(*) from pg_stat_activity where application_name = 'stageflow'").fetchone()
                    most = max(most, row[0] if row else 0)
                    time.sleep(0.01)
            _say(what="connections", slots=slots, most=most)


def _work_off(store: MovableStore, work_type: str, batch: int) -> int:
    reports = 0
    while True:
        answer = ask(store, work_type, max_tasks=batch, max_leases=1)
        if answer.outcome is ClaimOutcome.EMPTY:
            return reports
        for lease in answer.leases:
            for first in range(lease.first, lease.last, batch):
                complete_one(store, complete_ok(lease, min(batch, lease.last - first), first=first))
                reports += 1


def _race(dsn: str, *, stages: int, batch: int) -> tuple[int, float]:
    store = _store(dsn)
    store.migrate()
    width = 4000 if batch == 1 else 4000 * batch
    jobs = [new_job(f"race {number}", job_type=f"race{number}") for number in range(stages)]
    for job in jobs:
        start(store, job, min(width, 400_000), range_count=4)
    per_job = 4 // stages
    leases = [claim_all(store, tasks_type(job), max_tasks=1_000_000, max_leases=per_job)[:per_job] for job in jobs]
    gate = threading.Barrier(5)
    counts = [0] * 4
    workers = [
        threading.Thread(target=_report, args=(store, lease, batch, gate, counts, place))
        for place, lease in enumerate(lease for group in leases for lease in group)
    ]
    for worker in workers:
        worker.start()
    gate.wait()
    begun = time.perf_counter()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - begun
    store.close()
    return sum(counts), seconds


def _report(store: MovableStore, lease: Lease, batch: int, gate: threading.Barrier, counts: list[int], place: int) -> None:
    gate.wait()
    until = time.perf_counter() + SECONDS
    for first in range(lease.first, lease.last - batch, batch):
        complete_one(store, complete_ok(lease, batch, first=first))
        counts[place] += 1
        if time.perf_counter() > until:
            return


@contextmanager
def _server(**settings: str) -> Iterator[str]:
    with PostgresServer(durable=True, settings=settings) as server:
        yield server.create_database()


def _wal(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    return int(row[0]) if row else 0


def _size(connection: psycopg.Connection[Any], table: str, tasks: int) -> dict[str, float]:
    connection.execute("select pg_sleep(1.5), pg_stat_clear_snapshot()")  # until sessions have reported what they did
    row = connection.execute(
        """
        select pg_relation_size(c), pg_indexes_size(c), pg_stat_get_dead_tuples(c), pg_stat_get_tuples_updated(c),
            pg_stat_get_tuples_hot_updated(c)
        from (select %s::regclass::oid) as t (c)
        """,
        (f"stageflow.{table}",),
    ).fetchone()
    heap, indexes, dead, updated, hot = row or (0, 0, 0, 0, 0)
    a_task = {"heap_a_task": round(heap / tasks, 1), "index_a_task": round(indexes / tasks, 1)}
    return {"heap": heap, "indexes": indexes, **a_task, "dead": dead, "updated": updated, "hot": hot}


def _say(**measured: object) -> None:
    print(json.dumps(measured), flush=True)


MEASUREMENTS: Final[dict[str, Callable[[], None]]] = {
    "bytes": measure_bytes,
    "jobs": measure_jobs,
    "worker": measure_worker,
    "retention": measure_retention,
    "counter": measure_counter,
    "crowd": measure_crowd,
    "connections": measure_connections,
}

if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in MEASUREMENTS:
        MEASUREMENTS[sys.argv[1]]()
    else:
        sys.exit(__doc__)
