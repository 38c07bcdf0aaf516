"""Those who order jobs of several shapes, one after the other, cancel, pause and repair some, and note what they were told."""

import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.chaos.work import Chaos, Load
from stageflow import InvalidTransitionError, JobResult, JobStatus, Stageflow, StoreError, WaitTimeoutError

T = TypeVar("T")
_AGAIN_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 1.0


@dataclass
class Order:
    """A job that was ordered, and what its orderer knows of it.

    Attributes:
        result: What the orderer was told last of how it ended; ``None`` while it has not.
        repaired: The tasks of the first stage that were repaired.
        cancelled: The orderer was told that it is cancelled.
    """

    job_id: str
    load: Load
    result: JobResult | None = None
    repaired: tuple[int, ...] = ()
    cancelled: bool = False


@dataclass(frozen=True)
class Shape:
    """A kind of job.

    Attributes:
        orderers: How many order it at a time.
        rest: Seconds between a job's end and the next one's order.
    """

    name: str
    width: int
    seconds: float
    orderers: int = 1
    rest: float = 0.1
    fails: int = 0
    broken: tuple[int, ...] = ()


SHAPES: Final = (
    Shape("wide", 150, 0.02),
    Shape("small", 3, 0.01, orderers=2, rest=0.1),
    Shape("long", 4, 1.5),
    Shape("retry", 20, 0.02, fails=2),
    Shape("cancel", 40, 0.05),
    Shape("repair", 12, 0.02, broken=(2, 5, 7)),
    Shape("pause", 30, 0.05),
)


@dataclass
class Desk:
    """Orders jobs from threads of its own between :meth:`open` and :meth:`close`."""

    app: Stageflow
    folder: Path
    seed: int
    orders: list[Order] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def open(self) -> None:
        """Begin to order."""
        self._closing = threading.Event()
        self._threads = []
        for shape in SHAPES:
            for number in range(shape.orderers):
                dice = random.Random(f"{self.seed} {shape.name} {number}")  # noqa: S311  repeatable, no secret
                self._threads.append(threading.Thread(target=self._order_on, args=(shape, dice), daemon=True))
        for thread in self._threads:
            thread.start()

    def open_orders(self) -> list[Order]:
        """Return the jobs whose end was not told yet."""
        return [order for order in list(self.orders) if order.result is None]

    def close(self, patience: float) -> None:
        """Order nothing more, and wait for so long for the jobs under way."""
        self._closing.set()
        until = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _order_on(self, shape: Shape, dice: random.Random) -> None:
        try:
            while not self._closing.is_set():
                self._order(shape, dice)
                self._closing.wait(shape.rest)
        except BaseException as error:
            self.errors.append(error)
            raise

    def _order(self, shape: Shape, dice: random.Random) -> None:
        tag = uuid.uuid4().hex
        load = Load(
            shape=shape.name,
            width=shape.width,
            seconds=shape.seconds,
            tag=tag,
            fails=shape.fails,
            broken=shape.broken,
            mended=str(self.folder / f"mended-{tag}") if shape.broken else "",
        )
        job_id = insist(lambda: self.app.submit(Chaos, load)).job.job_id
        order = Order(job_id, load)
        self.orders.append(order)
        match shape.name:
            case "cancel":
                time.sleep(dice.uniform(0.0, 1.0))
                self._cancel(order)
            case "pause":
                time.sleep(dice.uniform(0.0, 0.5))
                self._pause_and_resume(order, dice.uniform(0.1, 0.6))
            case "repair":
                self._repair(order, dice)
            case _:
                pass
        order.result = self._end_of(order)

    def _cancel(self, order: Order) -> None:
        with suppress(InvalidTransitionError):  # it has ended, or the first of two calls did cancel it: see what it says now
            insist(lambda: self.app.cancel(order.job_id))
        order.cancelled = insist(lambda: self.app.job(order.job_id)).status is JobStatus.CANCELLED

    def _pause_and_resume(self, order: Order, seconds: float) -> None:
        try:
            insist(lambda: self.app.pause(order.job_id))
        except InvalidTransitionError:
            if insist(lambda: self.app.job(order.job_id)).status is not JobStatus.PAUSED:
                return  # it has ended; else the first of two calls did pause it
        time.sleep(seconds)
        with suppress(InvalidTransitionError):  # the first of two calls did
            insist(lambda: self.app.resume(order.job_id))

    def _repair(self, order: Order, dice: random.Random) -> None:
        self._end_of(order)
        Path(order.load.mended).touch()
        sound = [number for number in range(order.load.width) if number not in order.load.broken]
        chosen = tuple(sorted({*order.load.broken, dice.choice(sound)}))
        with suppress(InvalidTransitionError):  # the first of two calls did
            insist(lambda: self.app.repair(order.job_id, 1, tasks=chosen))
        order.repaired = chosen

    def _end_of(self, order: Order) -> JobResult:
        while True:
            try:
                return insist(lambda: self.app.wait(order.job_id, timeout=_LOOK_SECONDS))
            except WaitTimeoutError:
                continue


def insist(call: Callable[[], T]) -> T:
    """Call until the store answers."""
    while True:
        try:
            return call()
        except StoreError:
            time.sleep(_AGAIN_SECONDS)
