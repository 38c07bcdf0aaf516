"""A database of the release before is brought up to date while its workers work on it, and both releases work side by side."""

import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from stageflow import JobStatus, Stageflow
from stageflow.contracts.schema import SCHEMA_VERSION, SchemaState
from tests.migration.conftest import Release
from tests.migration.release import NUMBERS, SHAPES, Total, make_app

pytestmark = pytest.mark.timeout(180)
ANSWERS = {
    "plain": (JobStatus.COMPLETED, sum(range(NUMBERS))),
    "retried": (JobStatus.COMPLETED, sum(range(NUMBERS))),
    "partly_failed": (JobStatus.COMPLETED_WITH_ERRORS, sum(range(NUMBERS)) - 3),
}


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Give the file in which handlers note their calls."""
    path = tmp_path / "ledger"
    path.touch()
    return path


def wait_for(enough: Callable[[], bool]) -> None:
    """Return when it is enough; the test's timeout bounds it."""
    while not enough():
        time.sleep(0.02)


def check(app: Stageflow, jobs: list[str], ledger: Path) -> None:
    """Require that every job ended as it must, and every task ran."""
    for job_id, shape in zip(jobs, SHAPES, strict=True):
        result = app.wait(job_id, timeout=90)
        assert (result.status, app.result(job_id, Total)) == (ANSWERS[shape][0], Total(total=ANSWERS[shape][1]))
        assert result.total_tasks == NUMBERS + (NUMBERS - 1 if shape == "partly_failed" else NUMBERS)
    calls = Counter(ledger.read_text().splitlines())
    for job_id, shape in zip(jobs, SHAPES, strict=True):
        assert {f"{job_id} 1 {index}" for index in range(NUMBERS)} <= calls.keys(), shape
    assert app.doctor().ailments == []


def test_jobs_in_flight_end_while_both_releases_work_side_by_side(
    before: Release, present: Release, store_url: str, ledger: Path
) -> None:
    """The old workers go on amid the migration and after it, the new ones join them, and every job ends as it must."""
    jobs = before.must("submit", str(ledger))
    before.hire()
    before.hire()
    wait_for(lambda: ledger.read_text().count("\n") > NUMBERS)
    with make_app(store_url) as app:
        assert app.migrate().version == SCHEMA_VERSION
        assert [process.poll() for process in before.workers] == [None, None]
        present.hire()
        jobs_later = present.must("submit", str(ledger))
        check(app, jobs, ledger)
        check(app, jobs_later, ledger)
        assert app.verify().drifts == []
    assert [process.poll() for process in before.workers + present.workers] == [None] * 3


def test_what_the_old_release_left_lying_is_taken_up_by_the_new(before: Release, store_url: str, ledger: Path) -> None:
    """Its workers are killed amid their work; after the migration the new release alone ends every job."""
    jobs = before.must("submit", str(ledger))
    before.hire()
    wait_for(lambda: ledger.read_text().count("\n") > NUMBERS // 2)
    before.dismiss()
    with make_app(store_url) as app:
        app.migrate()
        with app.worker():
            check(app, jobs, ledger)


def test_the_old_release_refuses_the_schema_of_the_new_and_says_what_to_do(before: Release, store_url: str) -> None:
    """No worker is started on tables that it does not know."""
    with make_app(store_url) as app:
        app.migrate()
    late = before.call("work")
    assert late.returncode != 0
    assert re.search(f"SchemaVersionError: .*version {SCHEMA_VERSION}.* knows 1; (install|upgrade)", late.stderr)


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
def test_the_new_release_waits_for_the_migration_and_says_so(before: Release, present: Release, store_url: str) -> None:  # noqa: ARG001  it made the store
    """A server's schema is brought up to date by whoever is asked to; a file's is by whoever opens it."""
    early = present.call("work")
    assert early.returncode != 0
    assert re.search(f"SchemaVersionError: .*version 1, this code needs {SCHEMA_VERSION}; run `stageflow migrate", early.stderr)
    with make_app(store_url) as app:
        report = app.verify()
        assert (report.state, report.drifts) == (SchemaState.OLDER, [])
