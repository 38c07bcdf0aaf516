"""Transactions of handlers that end otherwise: alone in a child, refused or lost at the commit, cancelled, too large."""

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

from stageflow import JobStatus, PayloadOptions, Stageflow, TaskRecord, TaskStatus, WorkerOptions
from stageflow.backends.postgres.transactions import PostgresTransaction
from stageflow.contracts.lease import ClaimRequest, RangeCompletion
from stageflow.errors import StoreUnreachableError
from stageflow.repositories import StageCompletionRepository
from stageflow.testing import drain_work

OPTIONS = WorkerOptions(slots=1, lease_seconds=1.0, beat_seconds=0.2, poll_seconds=0.2, recover_seconds=0.2, stop_seconds=0.2)
OK, BAD = TaskStatus.COMPLETED, TaskStatus.FAILED
PATIENCE = 60


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the module of the handlers, where children find it too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("writing_work")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give where handlers note their calls."""
    folder = tmp_path / "calls"
    folder.mkdir()
    return folder


def opened(url: str, work: ModuleType) -> Iterator[Stageflow]:
    """Give an app with tables of its user's beside the store, of which one refuses at the commit."""
    with Stageflow(url, registry=work.registry, options=OPTIONS, payloads=PayloadOptions(max_bytes=1_048_576)) as made:
        made.migrate()
        transaction = made.repositories.store.begin_transaction()
        transaction.connection.execute("create table ledger (number integer)")
        transaction.connection.execute("create table parents (number integer primary key)")
        transaction.connection.execute(
            "create table children (parent integer references parents (number) deferrable initially deferred)"
        )
        transaction.commit()
        yield made


@pytest.fixture(params=["sqlite", "memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def app(request: pytest.FixtureRequest, tmp_path: Path, work: ModuleType) -> Iterator[Stageflow]:
    """Give an app on each kind of store."""
    url = {"sqlite": f"sqlite:{tmp_path / 'jobs.db'}", "memory": "sqlite::memory:"}.get(request.param, "")
    yield from opened(url or request.getfixturevalue("migrated_dsn"), work)


@pytest.fixture
def postgres_app(postgres_dsn: str, work: ModuleType) -> Iterator[Stageflow]:
    """Give an app on PostgreSQL."""
    yield from opened(postgres_dsn, work)


def ledger(app: Stageflow) -> list[int]:
    """Return the numbers that handlers wrote and the engine committed."""
    transaction = app.repositories.store.begin_transaction()
    rows = transaction.connection.execute("select number from ledger order by number").fetchall()
    transaction.roll_back()
    return [row[0] for row in rows]


def tasks_of(app: Stageflow, job_id: str) -> list[TaskRecord]:
    """Return the tasks of a job's one stage."""
    return app.repositories.store.list_tasks(job_id, 1, 1, first_index=0, limit=100)


def run(app: Stageflow, controller: Any, parameters: Any) -> list[TaskRecord]:
    """Run a job to its end, with a worker, and return its tasks."""
    job_id = app.submit(controller, parameters).job.job_id
    with app.worker():
        app.wait(job_id, timeout=PATIENCE)
    return tasks_of(app, job_id)


def test_a_task_over_which_workers_died_has_its_transaction_in_the_slot(app: Stageflow, work: ModuleType, folder: Path) -> None:
    """Its last permitted execution begins in a child, which can give none; it is called again in the worker, and completes."""
    job_id = app.submit(work.Writes, work.Items(deeds=[""], folder=str(folder))).job.job_id
    app.pause_task_type("writes", "writing")
    drain_work(app)
    app.resume_task_type("writes", "writing")
    request = ClaimRequest(worker_id="dead", work_types=["writes/1/writing"], max_tasks=[1], max_leases=1, lease_seconds=1.0)
    assert len(app.repositories.leases.claim_work(request).leases) == 1
    assert app.repositories.leases.recover(app.repositories.leases.list_leases(9), 4, 9).returned == 1
    with app.worker(OPTIONS.model_copy(update={"death_budget": 2})):
        assert app.wait(job_id, timeout=PATIENCE).status is JobStatus.COMPLETED
    (task,) = tasks_of(app, job_id)
    assert (task.status, ledger(app)) == (OK, [0])
    first, second = work.calls(folder, 0)
    assert first != os.getpid()
    assert second == os.getpid()


def test_a_cpu_bound_handler_is_refused_a_transaction(app: Stageflow, work: ModuleType, folder: Path) -> None:
    """The error says why, and what to do instead."""
    (task,) = run(app, work.Computes, work.Items(deeds=[""], folder=str(folder)))
    assert task.status is BAD
    assert task.error_details is not None
    assert "'computing' is cpu_bound and runs in a child process" in task.error_details
    assert "write it in a task of the next stage" in task.error_details


def test_what_a_constraint_refuses_at_the_commit_fails_its_task_alone(app: Stageflow, work: ModuleType, folder: Path) -> None:
    """The task is tried again as its policy says, nothing of the refused attempt stays, and the slot goes on."""
    tasks = run(app, work.Writes, work.Items(deeds=["", "orphan", "orphan at first", ""], folder=str(folder)))
    assert [task.status for task in tasks] == [OK, BAD, OK, OK]
    assert [len(work.calls(folder, number)) for number in range(4)] == [1, 2, 2, 1]
    assert "foreign key" in str(tasks[1].error_details).lower()
    assert ledger(app) == [0, 2, 3]


def test_a_result_that_is_too_large_takes_the_rows_with_it(app: Stageflow, work: ModuleType, folder: Path) -> None:
    """No retry cures it; nothing of the handler's stays."""
    tasks = run(app, work.Writes, work.Items(deeds=["", "too much", ""], folder=str(folder)))
    assert [task.status for task in tasks] == [OK, BAD, OK]
    assert len(work.calls(folder, 1)) == 1
    assert ledger(app) == [0, 2]


def test_a_handler_that_heeds_a_cancel_leaves_no_rows(postgres_app: Stageflow, work: ModuleType, folder: Path) -> None:
    """What it wrote goes with it; on SQLite the cancel itself would wait for the handler's transaction."""
    app = postgres_app
    job_id = app.submit(work.Writes, work.Items(deeds=["wait for the cancel"], folder=str(folder))).job.job_id
    with app.worker():
        while not work.calls(folder, 0):
            app.progress(job_id)
        app.cancel(job_id)
    assert [task.status for task in tasks_of(app, job_id)] == [BAD]
    assert ledger(app) == []


def cut_before(transaction: PostgresTransaction, commit: Callable[[PostgresTransaction], None]) -> None:
    """Commit on a connection whose server process has just ended."""
    with psycopg.connect(transaction.connection.info.dsn, autocommit=True) as operator:
        gone = operator.execute("select pg_terminate_backend(%s, 10000)", (transaction.connection.info.backend_pid,)).fetchone()
        assert gone == (True,)
    commit(transaction)


def cut_after(transaction: PostgresTransaction, commit: Callable[[PostgresTransaction], None]) -> None:
    """Commit, and lose the answer."""
    commit(transaction)
    msg = "the connection was lost after the commit"
    raise StoreUnreachableError(msg)


@pytest.mark.parametrize(("cut", "times"), [(cut_before, 2), (cut_after, 1)], ids=["before", "after"])
def test_a_connection_lost_at_the_commit_leaves_one_row_for_each_task(
    postgres_app: Stageflow, work: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, cut: Any, times: int
) -> None:
    """Nobody asks again: the lease lapses, and the task runs again exactly if its completion was not stored."""
    app = postgres_app
    asked: list[tuple[int, int]] = []
    cuts: list[PostgresTransaction] = []
    commit = PostgresTransaction.commit
    complete = StageCompletionRepository.complete_tasks_and_check_stages

    def cut_once(self: PostgresTransaction) -> None:
        if cuts:
            commit(self)
        else:
            cuts.append(self)
            cut(self, commit)

    def note(self: StageCompletionRepository, completions: list[RangeCompletion], *rest: Any) -> Any:
        asked.extend((each.token, each.first) for each in completions)
        return complete(self, completions, *rest)

    monkeypatch.setattr(PostgresTransaction, "commit", cut_once)
    monkeypatch.setattr(StageCompletionRepository, "complete_tasks_and_check_stages", note)
    tasks = run(app, work.Writes, work.Items(deeds=["", "", ""], folder=str(folder)))
    assert [task.status for task in tasks] == [OK] * 3
    assert ledger(app) == [0, 1, 2]
    assert len(cuts) == 1
    assert [len(work.calls(folder, number)) for number in range(3)] == [times, 1, 1]
    assert len(asked) == len(set(asked)), "no completion is asked for twice"
