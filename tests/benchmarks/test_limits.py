"""A limit over worker processes, counted by a ledger that the library does not know."""

from pathlib import Path

import pytest

from benchmarks.fleet import Fleet
from benchmarks.flows import registry
from benchmarks.ledger import JOB_TYPE, TASK_TYPE, Calls, GuardedFlow, Ledger, work_guarded
from benchmarks.limits import LimitsRequest, measure
from benchmarks.stopwatch import WrongAnswerError
from stageflow import Stageflow, WorkerOptions

TASKS = 200
LIMIT = 5


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name an empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'limits.db'}"
    dsn: str = request.getfixturevalue("migrated_dsn")
    return dsn


def test_a_limit_is_never_exceeded_and_used_over_four_processes(store: str) -> None:
    """Never more than five tasks run, and five do; how many on average is for the benchmark to say, on a quiet machine."""
    found = {each.name: each for each in measure(LimitsRequest(store=store, tasks=TASKS, limit=LIMIT))}
    assert found["limits.peak"].samples == [LIMIT]
    assert LIMIT / 2 < found["limits.mean"].median <= LIMIT


def test_a_killed_worker_frees_its_slots_and_no_more_than_those(store: str) -> None:
    """A worker killed amid its tasks holds their slots until its leases are recovered; all tasks run in the end."""
    request = LimitsRequest(store=store, tasks=TASKS, limit=LIMIT, kill=True)
    found = {each.name: each for each in measure(request)}
    assert found["limits.peak"].samples[0] <= LIMIT


def test_starts_keep_to_a_rate_over_processes(store: str, tmp_path: Path) -> None:
    """No window has more starts than the burst and the rate's worth of its length, but for how long a start takes."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    options = WorkerOptions(slots=4)
    with Stageflow(store, registry=registry) as app:
        app.migrate()
        app.limit_task_type(JOB_TYPE, TASK_TYPE, max_per_second=50)
        with Fleet(2, work_guarded, store, None, options):
            job_id = app.submit(GuardedFlow, Calls(tasks=100, seconds=0.001, folder=str(folder))).job.job_id
            app.wait(job_id, timeout=60)
    ledger = Ledger.read(folder)
    assert ledger.task_indexes == list(range(100))
    assert (ledger.begins[-1] - ledger.begins[0]) / 1e9 > (100 - 10) / 50


def test_the_ledger_counts_what_overlaps(tmp_path: Path) -> None:
    """Three spans, two of which overlap, and one that was cut off; without a kill, that is an error."""
    (tmp_path / "1.ledger").write_text("begin 0 0\nbegin 1 500000000\nend 0 1000000000\nend 1 2000000000\nbegin 2 3000000000\n")
    with pytest.raises(WrongAnswerError, match=r"tasks \[2\] began and did not end"):
        Ledger.read(tmp_path)
    ledger = Ledger.read(tmp_path, killed_at=4_000_000_000)
    assert (ledger.peak(), ledger.cut_off, ledger.task_indexes) == (2, 1, [0, 1])
    assert ledger.mean() == pytest.approx(2.5 / 3)
    assert ledger.excess_over(per_second=1, burst=1) == pytest.approx(0.5)
    assert ledger.excess_over(per_second=2, burst=1) == pytest.approx(0)
