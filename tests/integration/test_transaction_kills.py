"""Workers are killed between a handler's write and its task's completion: there are both, or neither."""

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.faults
SCRIPT = Path(__file__).with_name("transaction_process.py")
COUNT = 7
KILLED = -signal.SIGKILL
sys.path.insert(0, str(SCRIPT.parent))
tp: Any = importlib.import_module("transaction_process")


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of each kind of store."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'jobs.db'}"
    dsn: str = request.getfixturevalue("migrated_dsn")
    return dsn


def found(store: str) -> tuple[list[int], list[int]]:
    """Return the numbers in the ledger, and the orders whose task of the first stage has a result; seen at one moment."""
    prefix = "stageflow_" if store.startswith("sqlite:") else "stageflow."
    rows = tp.run_sql(
        store,
        f"select 'task', r.task_index from {prefix}results r join {prefix}stages s on s.stage_id = r.stage_id"  # noqa: S608  our own
        " where s.stage_number = 1 and r.status = 'completed' union all select 'ledger', number from ledger",
    )
    return sorted(row[1] for row in rows if row[0] == "ledger"), sorted(row[1] for row in rows if row[0] == "task")


@pytest.mark.parametrize("step", tp.STEPS)
def test_a_kill_leaves_both_the_write_and_the_completion_or_neither(store_url: str, step: str, tmp_path: Path) -> None:
    """Whatever the step, each completed task has exactly one row, and no other task has one; before and after recovery."""
    with tp.make_app(store_url) as app:
        app.repositories.store.migrate()
        # No key: a task that was written twice would be seen.
        tp.run_sql(store_url, "create table ledger (number integer)")
        job_id = app.submit(tp.OrdersController, tp.Orders(count=COUNT)).job.job_id
        command = [sys.executable, str(SCRIPT), store_url, step, str(tmp_path / "mark")]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as victim:  # noqa: S603  our own script
            assert victim.wait(timeout=60) == KILLED
        needing = [number for number in range(COUNT) if number % 3]
        ledger, completed = found(store_url)
        assert ledger == [number for number in completed if number in needing]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as successor:  # noqa: S603  our own script
            assert app.result(job_id, timeout=60) == tp.Total(total=COUNT)
            successor.communicate()
        ledger, completed = found(store_url)
        assert (ledger, completed) == ([*needing, *(1000 + number for number in range(COUNT))], list(range(COUNT)))
