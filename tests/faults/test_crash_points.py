"""A worker is killed between two commits: whoever comes next finds what was committed, and goes on from there."""

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.faults
SCRIPT = Path(__file__).with_name("crashing_process.py")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the module of the workflow."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("worker_process")


def crash(store: str, point: str) -> None:
    """Let a worker run to a point and be killed there."""
    died = subprocess.run([sys.executable, str(SCRIPT), store, point], timeout=60, check=False)  # noqa: S603  our own script
    assert died.returncode == -signal.SIGKILL


def crash_and_go_on(work: ModuleType, store: str, point: str, ledger: Path, count: int = 5, planner_dies_at: int = -1) -> None:
    """Run a job of which one worker dies at a point, and another does the rest; each result is there once."""
    with work.make_app(store) as app:
        app.migrate()
        batch = work.Batch(count=count, seconds=0.0, ledger=str(ledger), planner_dies_at=planner_dies_at)
        job_id = app.submit(work.BatchController, batch).job.job_id
        crash(store, point)
        assert not app.job(job_id).is_terminal
        with app.worker():
            assert app.result(job_id, timeout=60) == work.Total(total=sum(range(count)))
        results = app.job(job_id).stage_results
        assert [(result.task_count, result.successful_tasks) for result in results.values()] == [(count, count)] * 2
        assert app.doctor().ailments == []


def test_f01_crash_amid_the_planning(work: ModuleType, store_url: str, tmp_path: Path) -> None:
    """The planner dies when its first chunk is committed: the stage is not over, and another plans the rest of it."""
    ledger = tmp_path / "ledger"
    crash_and_go_on(work, store_url, "amid_the_planning", ledger, count=1500, planner_dies_at=1200)
    assert Path(f"{ledger}.died").exists()
    assert {int(index) for index in ledger.read_text().split()} == set(range(1500))


def test_f02_crash_between_claim_and_handler(work: ModuleType, store_url: str, tmp_path: Path) -> None:
    """The planner holds the first tasks that it planned, and dies before it runs one: each is run once, by another."""
    ledger = tmp_path / "ledger"
    crash_and_go_on(work, store_url, "after_the_claim", ledger)
    assert sorted(ledger.read_text().split()) == ["0", "1", "2", "3", "4"]


def test_f03_crash_after_the_last_completion(work: ModuleType, store_url: str, tmp_path: Path) -> None:
    """The finisher dies with the lease on the advancement: another advances, and no handler is called again."""
    ledger = tmp_path / "ledger"
    crash_and_go_on(work, store_url, "after_the_last_completion", ledger)
    assert sorted(ledger.read_text().split()) == ["0", "1", "2", "3", "4"]


def test_f03_crash_after_the_advance(work: ModuleType, store_url: str, tmp_path: Path) -> None:
    """Who advanced dies with the lease on planning what follows: another plans it, and no handler is called again."""
    ledger = tmp_path / "ledger"
    crash_and_go_on(work, store_url, "after_the_advance", ledger)
    assert sorted(ledger.read_text().split()) == ["0", "1", "2", "3", "4"]


def test_every_crash_point_is_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point that no test names would be a crash that nobody has seen."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    points = importlib.import_module("crashing_process").POINTS
    text = Path(__file__).read_text()
    assert [point for point in points if f'"{point}"' not in text] == []
