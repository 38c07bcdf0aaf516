"""Several processes on one SQLite file: they share the work, wake each other, and die without leaving anything half."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.job import JobEnding
from stageflow.contracts.results import ResultRow
from stageflow.contracts.status import JobStatus
from stageflow.testing.conformance.builders import new_job, start
from stageflow.testing.conformance.looking import check_partition, drain, get_job, get_status

_WIDTH = 600
_WAIT_SECONDS = 60

_HEAD = """
import os, resource, sqlite3, sys
from stageflow.backends.sqlite import SqliteStore
from stageflow.testing.conformance.builders import *
store = SqliteStore(sys.argv[1])
job = new_job()
def say(*words):
    print(*words, flush=True)
"""
_DRAIN = """
while leases := claim_all(store, tasks_type(job), worker=sys.argv[2], max_tasks=7, max_leases=1):
    answer = complete(store, complete_ok(leases[0]), worker=sys.argv[2])[0]
    say(leases[0].first, leases[0].last, int(answer.is_last_task_in_stage))
"""
_WORK_ON = _DRAIN.replace("max_tasks=7", "max_tasks=1") + "sys.stdin.read()"
_UNCOMMITTED = """
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin immediate")
say(store.create_jobs([new_job(str(number)) for number in range(200)], connection=connection).created)
sys.stdin.read()
"""
_WAIT_FOR_WORK = """
wakeup = store.work_wakeup()
say("waiting")
say(wakeup.wait(60))
"""
_WAIT_FOR_END = """
wakeup = store.job_wakeup(job.job_id)
say(wakeup.wait(0), "waiting")
say(wakeup.wait(60))
"""
_MIGRATE = """
sys.stdin.readline()
say(store.migrate().up_to_date)
"""
_FORK = """
store.create_jobs([job])
if os.fork() == 0:
    try:
        store.get_jobs([job.job_id])
    except Exception as error:
        say(type(error).__name__, error)
    os._exit(0)
os.wait()
say(len(store.get_jobs([job.job_id])))
"""
_FILL_THE_DISK = """
size = os.stat(sys.argv[1] + "-wal").st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))
try:
    store.create_jobs([new_job(str(number)) for number in range(5000)])
except Exception as error:
    say(type(error).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
say(store.create_jobs([new_job("after")]).created)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name the shared file."""
    return tmp_path / "stageflow.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """Give this process's store on the shared file."""
    store = SqliteStore(path)
    store.migrate()
    yield store
    store.close()


@contextmanager
def _child(path: Path, script: str, worker: str = "ada") -> Iterator[subprocess.Popen[str]]:
    """Run a script in another process, on the same file; it is gone afterwards."""
    with subprocess.Popen(  # noqa: S603  the scripts are those above
        [sys.executable, "-c", _HEAD + script, str(path), worker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _finish(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate(timeout=_WAIT_SECONDS)
    assert process.returncode == 0
    return output.splitlines()


def test_processes_share_the_work_of_a_file(path: Path, store: SqliteStore) -> None:
    """Each task runs in one of them, and one finisher of all is the last."""
    job = new_job()
    start(store, job, _WIDTH, range_count=8)
    with _child(path, _DRAIN, "ada") as ada, _child(path, _DRAIN, "bob") as bob:
        lines = [tuple(map(int, line.split())) for line in _finish(ada) + _finish(bob)]
    assert sorted(index for first, last, _ in lines for index in range(first, last)) == list(range(_WIDTH))
    assert sum(is_last for _, _, is_last in lines) == 1
    check_partition(store, get_job(store, job))


def test_processes_migrate_a_new_file_together(path: Path) -> None:
    """The first one makes the schema, the other finds it; neither fails."""
    with _child(path, _MIGRATE) as ada, _child(path, _MIGRATE) as bob:
        for process in (ada, bob):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert _finish(ada) == _finish(bob) == ["True"]


@pytest.mark.faults
def test_f04_a_worker_that_is_killed_leaves_whole_transactions(path: Path, store: SqliteStore) -> None:
    """After SIGKILL in mid-work what was reported is there, the rest is open, and the job can end."""
    job = new_job()
    start(store, job, _WIDTH, range_count=4)
    with _child(path, _WORK_ON) as process:
        reported = [int(_read(process).split()[0]) for _ in range(40)]
        process.kill()
        process.wait()
    check_partition(store, job)
    assert set(reported) <= {row.task_index for row in _rows(store, job.job_id)}
    drain(store, get_job(store, job))
    assert get_job(store, job).is_terminal


def _rows(store: SqliteStore, job_id: str) -> list[ResultRow]:
    stage = store.list_stages(job_id, 1)[0]
    return store.list_result_rows(stage.stage_id, first_index=0, limit=_WIDTH, failed_only=False)


@pytest.mark.faults
def test_f07_a_transaction_that_is_killed_leaves_nothing(path: Path, store: SqliteStore) -> None:
    """SIGKILL before the commit: no row is there, and the lock is free."""
    with _child(path, _UNCOMMITTED) as process:
        assert _read(process).count("True") == 200
        process.kill()
        process.wait()
    assert store.list_jobs(status=None, job_type=None, id_prefix="", limit=10, after=None) == []
    assert store.create_jobs([new_job("0")]).created == [True]
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("pragma integrity_check").fetchone() == ("ok",)


def test_work_wakes_another_process(path: Path, store: SqliteStore) -> None:
    """Who waits in another process learns of new work without a timeout."""
    with _child(path, _WAIT_FOR_WORK) as process:
        assert _read(process) == "waiting"
        store.create_jobs([new_job()])
        assert _finish(process) == ["True"]


def test_what_makes_no_work_wakes_nobody(path: Path, store: SqliteStore) -> None:
    """Another process's commits that make nothing ready are not taken for work."""
    job = new_job()
    start(store, job, 4)
    with closing(SqliteStore(path)) as other:
        wakeup = store.work_wakeup()
        other.end_job(JobEnding(job_id=job.job_id, status=JobStatus.CANCELLED, error_details=None))
        assert not wakeup.wait(0.05)
        other.create_jobs([new_job("next")])
        assert wakeup.wait(10)
        assert not wakeup.wait(0)
        wakeup.close()


def test_an_application_transaction_wakes_workers_when_it_commits(path: Path, store: SqliteStore) -> None:
    """Jobs that an application commits over its own connection are noticed by polling, and not before the commit."""
    wakeup = store.work_wakeup()
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("begin immediate")
        store.create_jobs([new_job()], connection=raw)
        assert not wakeup.wait(0.05)
        raw.execute("commit")
        assert wakeup.wait(10)
    wakeup.close()


def test_the_end_of_a_job_wakes_another_process(path: Path, store: SqliteStore) -> None:
    """Who waits for a job in another process learns of its end without a timeout."""
    job = new_job()
    store.create_jobs([job])
    with _child(path, _WAIT_FOR_END) as process:
        assert _read(process) == "False waiting"
        store.end_job(JobEnding(job_id=job.job_id, status=JobStatus.CANCELLED, error_details=None))
        assert _finish(process) == ["True"]
    assert get_status(store, job) is JobStatus.CANCELLED


def test_a_fork_needs_a_store_of_its_own(path: Path, store: SqliteStore) -> None:
    """A child that inherits the store is refused, and the parent's goes on."""
    assert store.verify().up_to_date
    with _child(path, _FORK) as process:
        refused, found = _finish(process)
    assert refused.startswith("StoreUnsuitableError")
    assert "before a fork" in refused
    assert found == "1"


@pytest.mark.faults
def test_f21_a_full_disk_keeps_nothing_half(path: Path, store: SqliteStore) -> None:
    """A write that does not fit is an error and leaves nothing; with space again the same store goes on."""
    store.create_jobs([new_job()])
    with _child(path, _FILL_THE_DISK) as process:
        assert _finish(process) == ["StoreUnreachableError", "[True]"]
    assert len(store.list_jobs(status=None, job_type=None, id_prefix="", limit=10, after=None)) == 2
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("pragma integrity_check").fetchone() == ("ok",)
