"""Workers are killed, databases are restarted, workers are stopped: nothing is lost, nothing is doubled."""

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from stageflow.testing.postgres_server import PostgresServer

pytestmark = pytest.mark.faults
SCRIPT = Path(__file__).with_name("worker_process.py")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("worker_process", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["worker_process"] = module
    spec.loader.exec_module(module)
    return module


wp = _load()


class Crew:
    """Worker processes that a test starts, and kills or stops."""

    def __init__(self, store: str) -> None:
        self._store = store
        self.processes: list[subprocess.Popen[str]] = []

    def hire(self) -> subprocess.Popen[str]:
        """Start a worker and wait until it works."""
        process = subprocess.Popen(  # noqa: S603  our own script
            [sys.executable, str(SCRIPT), self._store],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def hire_until_dead(self, enough: Callable[[], bool]) -> None:
        """Start a worker and wait until it died, or it is enough."""
        process = self.hire()
        while not enough():
            try:
                process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            return

    def dismiss(self) -> None:
        """Kill whoever is left."""
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of each kind of store."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'jobs.db'}"
    dsn: str = request.getfixturevalue("migrated_dsn")
    return dsn


@pytest.fixture
def crew(store_url: str) -> Iterator[Crew]:
    """Give a crew on a migrated store."""
    with wp.make_app(store_url) as app:
        app.migrate()
    crew = Crew(store_url)
    yield crew
    crew.dismiss()


def test_f04_killed_workers_lose_nothing(store_url: str, crew: Crew, tmp_path: Path) -> None:
    """Two of three workers are killed amid their tasks; every task is recorded once, and the sum is right."""
    ledger = tmp_path / "ledger"
    with wp.make_app(store_url) as app:
        workers = [crew.hire() for _ in range(3)]
        batch = wp.Batch(count=60, seconds=0.05, ledger=str(ledger))
        job_id = app.submit(wp.BatchController, batch).job.job_id
        for victim in workers[:2]:
            _await_lines(ledger, 5)
            victim.send_signal(signal.SIGKILL)
            victim.wait()
        assert app.result(job_id, timeout=60) == wp.Total(total=sum(range(60)))
        results = app.job(job_id).stage_results
        assert [(result.task_count, result.successful_tasks) for result in results.values()] == [(60, 60), (60, 60)]
    assert {int(line) for line in ledger.read_text().split()} == set(range(60))


def test_f12_a_task_that_kills_its_workers_is_failed_and_its_siblings_go_on(store_url: str, crew: Crew, tmp_path: Path) -> None:
    """After three deaths the culprit is failed with that reason, and nobody else is."""
    ledger = tmp_path / "ledger"
    with wp.make_app(store_url) as app:
        batch = wp.Batch(count=6, seconds=0.0, ledger=str(ledger), killer=2)
        job_id = app.submit(wp.BatchController, batch).job.job_id
        while not app.job(job_id).is_terminal:
            crew.hire_until_dead(lambda: app.job(job_id).is_terminal)
        answer = app.wait(job_id, timeout=60)
    assert answer.status == "failed"
    first = answer.stage_results["1"]
    assert (first.successful_tasks, first.failed_tasks) == (5, 1)
    culprit = first.task_results[2]
    assert culprit.status == "failed"
    assert "died" in str(culprit.error_details)


def test_f19_a_stopped_worker_gives_back_what_it_has_not_started(store_url: str, crew: Crew, tmp_path: Path) -> None:
    """SIGTERM drains: the running task ends and is recorded, the rest is claimed by the next worker, nothing runs twice."""
    ledger = tmp_path / "ledger"
    with wp.make_app(store_url) as app:
        first = crew.hire()
        job_id = app.submit(wp.BatchController, wp.Batch(count=40, seconds=0.03, ledger=str(ledger))).job.job_id
        _await_lines(ledger, 3)
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=20) == 0
        crew.hire()
        assert app.result(job_id, timeout=60) == wp.Total(total=sum(range(40)))
    assert sorted(int(line) for line in ledger.read_text().split()) == list(range(40))


def test_f08_a_restarted_database_is_survived(tmp_path: Path) -> None:
    """Workers and waiters find the database again after it was away; every task is recorded once."""
    ledger = tmp_path / "ledger"
    with PostgresServer() as server:
        dsn = server.create_database()
        with wp.make_app(dsn) as app:
            app.migrate()
            crew = Crew(dsn)
            try:
                crew.hire()
                batch = wp.Batch(count=60, seconds=0.05, ledger=str(ledger))
                job_id = app.submit(wp.BatchController, batch).job.job_id
                _await_lines(ledger, 5)
                server.kill()
                server.start()
                assert app.result(job_id, timeout=60) == wp.Total(total=sum(range(60)))
            finally:
                crew.dismiss()


def _await_lines(ledger: Path, count: int) -> None:
    """Return when handlers have written so many lines."""
    follower = subprocess.Popen(  # noqa: S603  waits for the file as a person would
        ["/usr/bin/tail", "-n", "+1", "-F", "-s", "0.05", str(ledger)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert follower.stdout is not None
    for _ in range(count):
        assert follower.stdout.readline()
    follower.kill()
    follower.wait()
    follower.stdout.close()
