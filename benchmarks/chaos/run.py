"""Quiet windows, faults, recovery, quiet windows, the verdict."""

import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

from pydantic import Field

from benchmarks.chaos.faults import Faults
from benchmarks.chaos.ledger import read_ledger
from benchmarks.chaos.orders import Desk
from benchmarks.chaos.servers import queue_place, store_place
from benchmarks.chaos.team import Team
from benchmarks.chaos.verdict import Book, Judge, Verdict
from benchmarks.chaos.work import registry
from benchmarks.measurement import Measurement, say
from benchmarks.request import Request
from benchmarks.server import server_settings, server_version
from stageflow import Stageflow, WorkerOptions

LEASE_SECONDS: Final = 2.0
MOST_DEATHS: Final = 100
_LOOK_SECONDS: Final = 0.5
_SHOWN: Final = 20
_LOG_CHARACTERS: Final = 20_000


class ChaosRequest(Request):
    """What is to go wrong, for how long."""

    uses_store: ClassVar[bool] = False  # it starts a server of its own, to restart it

    store: str = Field(description="sqlite:PATH (kills only), postgresql://…, or its own PostgreSQL")
    queue: str | None = Field(default=None, description="azure:…, or auto, its own Azurite; the database when left out")
    restart_command: str | None = Field(
        default=None,
        description="restarts the server of --store and returns when it answers; pg_ctl where it is on this machine",
    )
    queue_restart_command: str | None = Field(default=None, description="restarts the server of --queue; else it stays up")
    seconds: float = Field(default=120.0, gt=0, description="how long things go wrong")
    window: float = Field(default=20.0, gt=0, description="seconds of a quiet window")
    windows: int = Field(default=3, ge=1, description="quiet windows before the faults, and as many after them")
    warm_up: float = Field(default=5.0, ge=0, description="seconds of work before the first window")
    patience: float = Field(default=150.0, gt=0, description="seconds after which a job that has not ended is stuck")
    seed: int = Field(default=1, description="of the dice that say when what happens")
    workers: int = Field(default=4, ge=2, description="worker processes")
    slots: int = Field(default=6, ge=1, description="threads of each worker that run tasks")

    def worker_options(self) -> WorkerOptions:
        """Return how the workers work: with short leases, and without giving a task up that was near many kills."""
        return WorkerOptions(
            slots=self.slots,
            lease_seconds=LEASE_SECONDS,
            beat_seconds=0.5,
            recover_seconds=0.5,
            poll_seconds=0.5,
            grace_seconds=10.0,
            death_budget=MOST_DEATHS,
        )


class ChaosReport(Measurement):
    """The one line of a chaos run; its sample is the throughput after by that before."""

    jobs: int
    tasks: int
    attempts: int
    kills: int
    stops: int
    restarts: int
    queue_outages: int
    cuts: int
    workers_that_ended_alone: int
    refused_stale_writes: int
    lost: int
    double_state_changes: int
    stuck: int
    slowest_recovery_seconds: float
    throughputs_before: list[float]
    throughputs_after: list[float]
    ratio: float


def measure(request: ChaosRequest) -> Iterator[ChaosReport]:
    """Kill, stop and cut off workers and servers; nothing may be lost, doubled or stuck, by a ledger of the handlers' own.

    Exits with 1 where something is. The throughput is that of handler calls in quiet windows, the median of those before the
    faults and of those after: one window differs from the next by a tenth where nothing goes wrong.
    """
    with (
        tempfile.TemporaryDirectory(prefix="stageflow-chaos-") as folder,
        store_place(request.store, request.restart_command) as store,
        queue_place(request.queue, request.queue_restart_command) as queue,
        Stageflow(store.address, registry=registry, queue=None if queue is None else queue.address) as app,
    ):
        logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # says every half second that the server is away
        app.migrate()
        desk = Desk(app, Path(folder), request.seed)
        address = None if queue is None else queue.address
        with Team(request.workers, store.address, address, request.worker_options(), folder) as team:
            faults = Faults(team, store, queue, lambda: None if app.queue is None else app.queue.create(), request.seed)
            windows = _live_through(request, desk, faults)
        log_end = (Path(folder) / "workers.log").read_text()[-_LOG_CHARACTERS:]
        verdict, book = _judge(app, desk, Path(folder))
        yield _report(request, store.address, desk, faults, verdict, book, windows)
    if faults.team.unexpected:
        say(f"workers ended alone, with exit codes {faults.team.unexpected}; their log ends:\n{log_end}")
    if desk.errors or faults.errors:
        msg = f"the run itself went wrong, so its figures do not count: {desk.errors + faults.errors}"
        raise SystemExit(msg)
    if not verdict.is_clean:
        raise SystemExit(1)


def _live_through(request: ChaosRequest, desk: Desk, faults: Faults) -> tuple[float, float]:
    """Run the schedule, and return when the windows before the faults began, and those after."""
    desk.open()
    say(f"jobs run; {request.windows} quiet windows of {request.window:.0f} s begin after {request.warm_up:.0f} s")
    time.sleep(request.warm_up)
    before = time.monotonic()
    time.sleep(request.window * request.windows)
    say(f"faults for {request.seconds:.0f} s")
    faults.rage(request.seconds)
    hit = desk.open_orders()
    say(f"the last fault was; {len(hit)} jobs are to recover")
    until = time.monotonic() + request.patience
    while any(order.result is None for order in hit) and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
    time.sleep(request.warm_up)
    say("the quiet windows after the faults begin")
    after = time.monotonic()
    time.sleep(request.window * request.windows)
    desk.close(request.patience)
    return before, after


def _judge(app: Stageflow, desk: Desk, folder: Path) -> tuple[Verdict, Book]:
    book = Book(read_ledger(folder))
    judge = Judge(app, book)
    for order in desk.orders:
        judge.try_order(order)
    verdict = judge.verdict
    for kind, found in (("LOST", verdict.lost), ("DOUBLED", verdict.doubled), ("STUCK", verdict.stuck)):
        for sentence in found[:_SHOWN]:
            say(f"{kind}: {sentence}")
    for sentence in verdict.stuck[:_SHOWN]:
        job_id = sentence.split()[1]
        say(app.explain(job_id).model_dump_json(indent=1))
    return verdict, book


def _report(
    request: ChaosRequest,
    store: str,
    desk: Desk,
    faults: Faults,
    verdict: Verdict,
    book: Book,
    windows: tuple[float, float],
) -> ChaosReport:
    before, after = (
        [book.throughput(start + number * request.window, request.window) for number in range(request.windows)]
        for start in windows
    )
    usual = statistics.median(before)
    ratio = statistics.median(after) / usual if usual else 0.0
    settings = request.settings() | server_settings(store) | {"store": store.partition(":")[0], "lease_seconds": LEASE_SECONDS}
    shared = Measurement.of("chaos", "after/before", [ratio], settings=settings, versions=server_version(store))
    return ChaosReport(
        **{name: getattr(shared, name) for name in Measurement.model_fields},
        jobs=len(desk.orders),
        tasks=verdict.tasks,
        attempts=book.attempts,
        kills=len(faults.team.deaths),
        stops=faults.team.stops,
        restarts=faults.restarts,
        queue_outages=faults.outages,
        cuts=faults.cuts,
        workers_that_ended_alone=len(faults.team.unexpected),
        refused_stale_writes=book.refused,
        lost=len(verdict.lost),
        double_state_changes=len(verdict.doubled),
        stuck=len(verdict.stuck),
        slowest_recovery_seconds=round(book.slowest_recovery(faults.team.deaths, faults.back), 3),
        throughputs_before=[round(each, 2) for each in before],
        throughputs_after=[round(each, 2) for each in after],
        ratio=round(ratio, 4),
    )
