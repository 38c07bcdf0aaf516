"""The benchmarks that take long, at a tiny scale: what they count and how their measurements look; never how fast it is."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, get_type_hints

import pytest

from benchmarks import contention, fairness, flows, horizon, long
from benchmarks.measurement import Measurement
from benchmarks.peers import driving
from benchmarks.peers.batching import GroupCommit
from benchmarks.peers.compare import PeerFailedError, PeersRequest
from benchmarks.peers.compare import measure as measure_peers
from benchmarks.peers.environment import PEERS
from benchmarks.schedule import Held, ideal_makespan, idleness, makespan_in_order
from benchmarks.timed_flow import Span, Timed
from stageflow import InvalidValueError

_ROOT: Final = Path(driving.__file__).parents[2]


def _printed(measurements: Iterable[Measurement]) -> dict[str, Any]:
    """Return the lines that the command line prints, by the measurement's name."""
    lines = [json.loads(measurement.json_line()) for measurement in measurements]
    return {line["name"]: line for line in lines}


def _span(index: int, started: float, ended: float, worker_id: str) -> Span:
    return Span(task_index=index, started=started, ended=ended, worker_id=worker_id)


def test_long_tasks_are_held_against_the_ideal_schedule(postgres_dsn: str) -> None:
    """Each task ran once, on known workers, and the leases were looked at beside it."""
    request = long.LongRequest(store=postgres_dsn, tasks=8, slots=2, shortest=0.02, longest=0.1)
    found = _printed(long.measure(request))
    assert list(found) == ["long"]
    (seen,) = found["long"]["details"]["rounds"]
    assert found["long"]["samples"] == [seen["ideal_seconds"] / seen["makespan_seconds"]]
    assert seen["bound_seconds"] <= seen["ideal_seconds"]
    assert 1 <= seen["workers_seen"] <= 2


def test_contention_compares_few_and_many_workers(postgres_dsn: str) -> None:
    """Both fleets do the same work, and lock waits are looked for while they do."""
    request = contention.ContentionRequest(store=postgres_dsn, tasks=50, workers=1, many=2, rounds=1)
    found = _printed(contention.measure(request))
    assert list(found) == ["contention.few", "contention.many", "contention.many_to_few"]
    assert [found[name]["settings"]["workers"] for name in ("contention.few", "contention.many")] == [1, 2]
    assert all(len(measurement["samples"]) == 1 for measurement in found.values())
    assert all(found[name]["details"]["looks"] for name in ("contention.few", "contention.many"))


@pytest.mark.parametrize("released", [False, True])
def test_the_steady_load_is_told_window_by_window(postgres_dsn: str, released: bool) -> None:  # noqa: FBT001  a parameter of pytest
    """Each window counts the jobs that ended in it; tables are looked at; claims are explained."""
    request = horizon.HorizonRequest(store=postgres_dsn, seconds=4, window=2, in_flight=5, workers=1, released=released)
    found = _printed(horizon.measure(request))
    assert list(found) == ["horizon", "horizon.p95_latency", "horizon.jobs_last_to_first", "horizon.p95_last_to_first"]
    steady = found["horizon"]
    assert len(steady["samples"]) == len(found["horizon.p95_latency"]["samples"]) == 2
    assert sum(steady["samples"]) * request.window <= steady["details"]["jobs"]
    assert set(steady["details"]["tables"][0]) == {"seconds", "jobs", "stages", "ranges", "tasks", "results"}
    claims = [*steady["details"]["claims_when_empty"], *steady["details"]["claims_with_work"]]
    assert [claim["leases"] for claim in claims] == [0, 0, 0, 1]
    assert all(claim["indexes"] and claim["buffers"] for claim in claims)
    assert [claim["seq_scans"] for claim in claims] == [[]] * 4


def test_a_load_of_less_than_two_windows_is_refused() -> None:
    """With one window there is no last to compare with the first."""
    with pytest.raises(ValueError, match="no two windows"):
        horizon.HorizonRequest(store="postgresql://nowhere", seconds=60, window=60)


def test_a_small_job_is_timed_alone_and_beside_a_large_one(postgres_dsn: str) -> None:
    """The large job was still running when the last small one had ended, and is cancelled then."""
    request = fairness.FairnessRequest(store=postgres_dsn, tasks=3000, rounds=2, small=3)
    found = _printed(fairness.measure(request))
    assert list(found) == ["fairness.alone", "fairness.beside", "fairness.beside_to_alone"]
    assert all(len(measurement["samples"]) == 2 for measurement in found.values())
    assert 0 < found["fairness.beside_to_alone"]["details"]["tasks_left_of_the_large_job"] < 3000


def test_a_large_job_that_ends_too_early_is_no_measurement(postgres_dsn: str) -> None:
    """What was to be beside it was alone then, so nothing is reported."""
    request = fairness.FairnessRequest(store=postgres_dsn, tasks=1, rounds=1, small=3)
    with pytest.raises(AssertionError, match="ended before the last small one"):
        list(fairness.measure(request))


def test_the_ideal_schedule_takes_the_longest_first() -> None:
    """Known schedules of a few tasks on two slots."""
    assert makespan_in_order([1, 1, 2], slots=2) == 3
    assert ideal_makespan([1, 1, 2], slots=2) == 2


def test_durations_are_the_same_at_every_call() -> None:
    """The ideal schedule is that of the tasks which the workers ran."""
    parameters = Timed.fresh(5, 0.5, 5.0)
    assert parameters.durations() == Timed.fresh(5, 0.5, 5.0).durations()
    assert all(0.5 <= seconds <= 5 for seconds in parameters.durations())


def test_a_worker_that_idles_while_another_holds_unstarted_tasks_is_seen() -> None:
    """Worker b has nothing to do from 1 to 3, while task 2 waits behind task 1 in a lease of worker a."""
    spans = [_span(0, 0, 1, "b"), _span(1, 0, 3, "a"), _span(2, 3, 4, "a")]
    held: Held = {"a": [(1, 3)]}
    looks = [(0.5, held), (1.5, held), (2.5, held), (3.5, held)]
    seen = idleness(spans, looks, slots_of_each=1)
    assert (seen.looks, seen.idle_looks, seen.longest_seconds) == (4, 2, 1.0)


def test_a_task_about_to_start_is_not_held_back() -> None:
    """Between a claim and its handler's start nobody could have run the task earlier."""
    spans = [_span(0, 0, 1, "b"), _span(1, 0.5, 2, "a")]
    held: Held = {"a": [(1, 2)]}
    assert idleness(spans, [(0.25, held)], slots_of_each=2).idle_looks == 0


def test_every_peer_has_its_program_and_pinned_packages() -> None:
    """A peer that is asked for by name can be run."""
    for name, peer in PEERS.items():
        assert (_ROOT / f"{peer.module.replace('.', '/')}.py").is_file(), name
        assert "==" in peer.packages[0], name


def test_an_unknown_peer_is_refused_by_name() -> None:
    """Nothing is installed or started for a name that is misspelt."""
    with pytest.raises(PeerFailedError, match="no peer 'selery'; there are celery"):
        list(measure_peers(PeersRequest(store="postgresql://nowhere", only="selery")))


def test_peers_are_checked_against_the_sum_that_ours_is() -> None:
    """The work is the same, so the answer is."""
    assert [driving.expected_total(width) for width in (1, 3, 1000)] == [flows.expected_total(width) for width in (1, 3, 1000)]


def test_what_peers_share_needs_nothing_but_python() -> None:
    """It runs in their environments, where there is neither stageflow nor what stageflow needs."""
    modules = "import benchmarks.peers.barrier, benchmarks.peers.batching, benchmarks.peers.driving"
    code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); {modules}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)  # noqa: S603  our own words


def test_a_peers_workers_are_awaited_until_each_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """No round starts before that, and a worker that dies first is an error instead of a wait."""
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    ready = "import signal; from benchmarks.peers.driving import tell_ready; tell_ready(); signal.pause()"
    with driving.workers([[sys.executable, "-c", ready]] * 2) as pids:
        assert len(set(pids)) == 2
    with pytest.raises(RuntimeError, match="ended before it was ready"), driving.workers([[sys.executable, "-c", ""]]):
        pass


@pytest.mark.parametrize("measure", [long.measure, contention.measure, horizon.measure, measure_peers])
def test_what_looks_into_postgres_refuses_another_store(measure: Callable[[Any], Iterable[Measurement]]) -> None:
    """The message says what to give instead."""
    request = get_type_hints(measure)["request"](store="sqlite:jobs.db")
    with pytest.raises(InvalidValueError, match="give --store postgresql"):
        list(measure(request))


def test_handlers_that_wait_together_are_committed_together() -> None:
    """What comes while a transaction runs is the next one's batch; each handler goes on once its item is written."""
    batches: list[list[int]] = []

    async def write(items: list[int]) -> None:
        batches.append(items)
        await asyncio.sleep(0)

    async def run() -> None:
        group = GroupCommit(write)
        await asyncio.gather(*(group.add(item) for item in range(5)))
        await group.add(5)

    asyncio.run(run())
    assert batches == [[0, 1, 2, 3, 4], [5]]


def test_a_failed_write_fails_every_handler_that_waited_for_it() -> None:
    """No handler believes that its result is stored when it is not."""

    async def write(items: list[int]) -> None:
        msg = f"{len(items)} items were not written"
        raise RuntimeError(msg)

    async def run() -> list[BaseException | None]:
        group = GroupCommit(write)
        return await asyncio.gather(*(group.add(item) for item in range(3)), return_exceptions=True)

    assert [str(error) for error in asyncio.run(run())] == ["3 items were not written"] * 3
