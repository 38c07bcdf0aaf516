"""Every benchmark runs at a tiny scale and yields well-formed measurements; no time is looked at."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from benchmarks.__main__ import load, main
from benchmarks.catalog import BENCHMARKS
from benchmarks.fleet import Fleet, FleetError
from benchmarks.flows import expected_total
from benchmarks.limit import LimitRequest
from benchmarks.limit import measure as measure_limit
from benchmarks.measurement import Measurement, percentile
from benchmarks.page import Section, write_page
from benchmarks.plots import draw_plots
from benchmarks.request import Request
from benchmarks.stopwatch import WrongAnswerError, require_right
from benchmarks.twins.rows import RowsTwin
from stageflow import Stageflow
from stageflow.errors import InvalidValueError

TINY = {"tasks": 20, "workers": 1, "rounds": 2}
"""Options of all benchmarks that run workers."""


def _measure(name: str, store: str, options: dict[str, Any]) -> dict[str, Measurement]:
    measure, kind = load(name)
    found = {each.name: each for each in measure(kind.from_options(options, store))}
    for measurement in found.values():
        written = json.loads(measurement.json_line())
        assert written["name"] == measurement.name
        assert written["min"] <= written["median"] <= written["max"]
        assert {"python", "stageflow", "psycopg", "sqlite"} <= set(written["versions"])
        assert written["machine"]["cores"] >= 1
    return found


@pytest.fixture
def sqlite_store(tmp_path: Path) -> str:
    """Name a file of one's own."""
    return f"sqlite:{tmp_path / 'benchmark.db'}"


@pytest.mark.parametrize(
    ("name", "options", "samples"),
    [
        ("fanout", TINY, {"fanout": 2}),
        ("limit", TINY, {"limit.ours": 2, "limit.file": 2, "limit.ours_to_file": 2}),
        ("jobs", TINY | {"jobs": 3}, {"jobs": 2, "jobs.median_latency": 2, "jobs.p95_latency": 2}),
        ("idle", TINY | {"jobs": 2, "rounds": 1}, {"idle": 2, "idle.twin": 2}),
        ("submit", {"jobs": 5, "rounds": 2}, {"submit": 2}),
        (
            "wide",
            TINY | {"narrow": 10, "rounds": 1},
            {
                "wide.narrow": 1,
                "wide": 1,
                "wide.growth": 1,
                "wide.narrow_memory": 1,
                "wide.memory": 1,
                "wide.caller_memory": 1,
            },
        ),
        (
            "contract",
            {"rounds": 2, "calls": 10},
            {
                "contract.models.enforce_contract": 2,
                "contract.models.beartype": 2,
                "contract.list.enforce_contract": 2,
                "contract.list.beartype": 2,
            },
        ),
    ],
)
def test_each_benchmark_runs_on_sqlite(name: str, options: dict[str, Any], samples: dict[str, int], sqlite_store: str) -> None:
    """It yields the figures that it promises, a sample a round, and says how they were taken."""
    found = _measure(name, sqlite_store, options)
    assert {each.name: len(each.samples) for each in found.values()} == samples


def test_ours_and_the_twins_alternate_on_postgres(postgres_dsn: str) -> None:
    """Both hand-written twins give the right sum beside ours, and leave no table behind."""
    found = _measure("limit", postgres_dsn, TINY | {"batch": 7})
    assert {each.name: len(each.samples) for each in found.values()} == {
        "limit.ours": 2,
        "limit.rows": 2,
        "limit.ranges": 2,
        "limit.ours_to_rows": 2,
        "limit.ours_to_ranges": 2,
    }
    assert found["limit.ours"].settings["synchronous_commit"] == "on"
    assert found["limit.ours"].versions["postgres"]
    assert postgres_dsn not in found["limit.ours"].json_line()
    with RowsTwin(postgres_dsn, 1):  # the schema is made anew, and dropped
        pass


def test_small_jobs_run_beside_the_same_jobs_by_hand_on_postgres(postgres_dsn: str) -> None:
    """Many jobs at once end with the right sums by hand too, and idle ones are woken by a notification."""
    found = _measure("jobs", postgres_dsn, TINY | {"jobs": 3, "rounds": 1, "batch": 7}) | _measure(
        "idle", postgres_dsn, {"jobs": 2, "rounds": 1}
    )
    assert {each.name: len(each.samples) for each in found.values()} == {
        "jobs": 1,
        "jobs.median_latency": 1,
        "jobs.p95_latency": 1,
        "jobs.twin": 1,
        "jobs.ours_to_twin": 1,
        "idle": 2,
        "idle.twin": 2,
    }


def test_the_queue_runs_beside_the_bare_sdk(azurite: Any, sqlite_store: str) -> None:
    """Ours and the messages alone alternate, and the messages that were really sent are counted."""
    options = TINY | {"queue": f"azure:{azurite.connection_string}?prefix=bench"}
    found = _measure("azure", sqlite_store, options)
    assert {each.name: len(each.samples) for each in found.values()} == {
        "azure.ours": 2,
        "azure.database": 2,
        "azure.same": 2,
        "azure.each": 2,
        "azure.ours_to_same": 1,
        "azure.ours_to_each": 1,
        "azure.ours_to_database": 1,
        "azure.added_to_same": 1,
        "azure.messages": 3,
    }
    assert min(found["azure.messages"].samples) > 0
    assert azurite.connection_string not in found["azure.ours"].json_line()


def test_ratios_are_taken_round_by_round(sqlite_store: str) -> None:
    """A ratio is ours over the twin of the same round: machines drift between rounds."""
    request = LimitRequest(store=sqlite_store, tasks=20, workers=1, rounds=3)
    found = {each.name: each.samples for each in measure_limit(request)}
    assert found["limit.ours_to_file"] == pytest.approx(
        [ours / twin for ours, twin in zip(found["limit.ours"], found["limit.file"], strict=True)]
    )


def test_commits_are_measured_with_and_without_waiting_for_the_disk(postgres_dsn: str) -> None:
    """Both modes are named in the settings of their figures."""
    found = _measure("commits", postgres_dsn, TINY)
    assert Counter({each.name: len(each.samples) for each in found.values()}) == {
        "commits.on": 2,
        "commits.off": 2,
        "commits.gain": 2,
    }
    assert found["commits.off"].settings["synchronous_commit"] == "off"


@pytest.mark.parametrize("name", ["handover", "commits"])
def test_what_needs_postgres_says_so(name: str, sqlite_store: str) -> None:
    """A benchmark that cannot be run on a store refuses it in words."""
    with pytest.raises(InvalidValueError, match="PostgreSQL"):
        _measure(name, sqlite_store, TINY | {"tasks": 100})


def test_a_killed_worker_costs_no_task(sqlite_store: str) -> None:
    """With one of two workers killed in the middle the job completes, every task counted once."""
    found = _measure("wide", sqlite_store, {"tasks": 3000, "workers": 2, "kill": True})
    assert list(found) == ["wide.killed"]
    (done,) = json.loads(found["wide.killed"].json_line())["details"]["tasks_of_the_first_stage_done_at_the_kill"]
    assert 1500 <= done <= 3000


def test_the_command_line_prints_one_json_line_a_measurement(sqlite_store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output holds the measurements alone; what people read goes to standard error."""
    main(["contract", "--calls", "10", "--rounds", "1"])
    main(["submit", "--jobs", "3", "--rounds", "1", "--store", sqlite_store])
    written = capsys.readouterr()
    assert [json.loads(line)["name"] for line in written.out.splitlines()][-1] == "submit"
    assert "3 jobs: round 1 of 1" in written.err


@pytest.mark.usefixtures("postgres_server")  # where there is none, that fixture says so
def test_without_a_store_a_server_is_started_as_the_benchmark_needs_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The throwaway PostgreSQL commits to the disk, and has the settings that one benchmark asks for."""
    main(["handover", "--tasks", "100", "--workers", "1", "--rounds", "1"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == ["handover.first", "handover.claimable"]
    assert {line["settings"]["fsync"] for line in lines} == {"on"}


def test_the_page_shows_every_figure_and_how_to_take_it_again(tmp_path: Path) -> None:
    """The report's tables have a row a measurement, its plots are files, and its commands are there."""
    shown = []
    for width in (100, 1000):
        for name in ("limit.ours", "limit.rows", "limit.ranges"):
            settings: dict[str, JsonValue] = {"tasks": width, "store": "postgresql"}
            details: dict[str, JsonValue] = {"peak_mb_workers": [40.0, 41.5]}
            shown.append(Measurement.of(name, "tasks/s", [1.0, 3.0, 2.0], settings=settings, details=details))
    shown += [Measurement.of(name, "ms", [4.0, 5.0], settings={}) for name in ("idle", "idle.twin")]
    plots = draw_plots(shown, tmp_path)
    write_page(tmp_path / "page.md", [Section("limit", "python -m benchmarks limit", "What it is.", shown)], plots)
    page = (tmp_path / "page.md").read_text()
    assert page.count("| `") == len(shown)
    assert "| `limit.ours` | 1,000 | 2 | 1 | 3 | tasks/s | 3 |" in page
    assert "$ python -m benchmarks limit" in page
    assert all((tmp_path / name).stat().st_size and name in page for _, name in plots)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fanout", "--tasks", "0"], "tasks"),
        (["commits", "--store", "sqlite::memory:"], "PostgreSQL"),
        (["nothing"], "invalid choice"),
    ],
)
def test_a_wrong_call_is_refused_in_words(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback: one sentence and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_each_benchmark_has_a_request_and_a_story(name: str) -> None:
    """What the command line shows comes from the benchmark itself."""
    measure, kind = load(name)
    assert measure.__doc__
    assert issubclass(kind, Request)
    assert all(field.description for field in kind.model_fields.values())


def test_unfinished_jobs_are_not_measured_by_accident(sqlite_store: str) -> None:
    """A store with waiting jobs is refused: they would run in the measured time."""
    _measure("submit", sqlite_store, {"jobs": 2, "rounds": 1})
    with pytest.raises(InvalidValueError, match="empty database"):
        _measure("fanout", sqlite_store, TINY)


def test_a_job_with_a_wrong_answer_has_no_time(sqlite_store: str) -> None:
    """A sum or a count that is not right stops the benchmark."""
    measure, kind = load("fanout")
    list(measure(kind.from_options(TINY, sqlite_store)))
    with Stageflow(sqlite_store) as app:
        job = app.repositories.jobs.list_jobs(limit=1)[0]
        result = app.wait(job.job_id)
    width = result.total_tasks // 2
    require_right(result, width)
    with pytest.raises(WrongAnswerError):
        require_right(result, width + 1)


def test_a_worker_that_cannot_start_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """The fleet does not wait for a process that has died."""
    with pytest.raises(FleetError, match="ended before it was ready"), Fleet(1, _fail):
        pass
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_the_expected_sum_and_the_percentile_are_right() -> None:
    """The closed form equals the sum, and the percentile is of the nearest rank."""
    assert [expected_total(width) for width in (1, 2, 7)] == [sum(i * i for i in range(width)) for width in (1, 2, 7)]
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile([float(number) for number in range(1, 101)], 0.95) == 95


def _fail(ready: object) -> None:  # noqa: ARG001  the shape of a worker
    """Die at once."""
    raise ZeroDivisionError
