"""When which fault happens: one thread a kind, by dice of one seed."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import psycopg

from benchmarks.chaos.servers import Place, cut_sessions
from benchmarks.chaos.team import Team
from benchmarks.measurement import say
from benchmarks.server import is_postgres

KILL_SECONDS: Final = (0.6, 1.0)
STOP_EVERY_SECONDS: Final = (3.0, 6.0)
STOPPED_SECONDS: Final = (2.5, 4.0)
CUT_SECONDS: Final = (2.0, 5.0)
RESTART_SECONDS: Final = (11.0, 17.0)
OUTAGE_SECONDS: Final = (18.0, 28.0)
_CUT_SHARE: Final = 0.5


@dataclass
class Faults:
    """What happens to a team and its servers.

    Attributes:
        back: When a server answered again.
    """

    team: Team
    store: Place
    queue: Place | None
    after_queue: Callable[[], None]
    seed: int
    restarts: int = 0
    outages: int = 0
    cuts: int = 0
    back: list[float] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def rage(self, seconds: float) -> None:
        """Let everything happen for so long; afterwards all servers run, and so many workers as before."""
        over = threading.Event()
        kinds: list[tuple[Callable[[random.Random], None], tuple[float, float]]] = [(self.team.kill_one, KILL_SECONDS)]
        if is_postgres(self.store.address):
            kinds += [(self._stop, STOP_EVERY_SECONDS), (self._cut, CUT_SECONDS)]
        if self.store.outages:
            turns = self.store.taking_turns()
            kinds.append((lambda _: self._restart(next(turns)), RESTART_SECONDS))
        if self.queue is not None and self.queue.outages:
            (outage,) = self.queue.outages
            kinds.append((lambda _: self._queue_outage(outage), OUTAGE_SECONDS))
        threads = []
        for number, (strike, pause) in enumerate(kinds):
            dice = random.Random(f"{self.seed} {number}")  # noqa: S311  repeatable, no secret
            threads.append(threading.Thread(target=self._strike_on, args=(strike, pause, dice, over)))
        for thread in threads:
            thread.start()
        over.wait(seconds)
        over.set()
        for thread in threads:
            thread.join()

    def _strike_on(
        self,
        strike: Callable[[random.Random], None],
        pause: tuple[float, float],
        dice: random.Random,
        over: threading.Event,
    ) -> None:
        try:
            while not over.wait(dice.uniform(*pause)):
                strike(dice)
        except BaseException as error:
            self.errors.append(error)
            raise

    def _stop(self, dice: random.Random) -> None:
        self.team.stop_one(dice, dice.uniform(*STOPPED_SECONDS))

    def _cut(self, _: random.Random) -> None:
        try:
            self.cuts += cut_sessions(self.store.address, _CUT_SHARE)
        except psycopg.OperationalError:
            say("  no connection to cut: the server is away")

    def _restart(self, restart: Callable[[], None]) -> None:
        restart()
        self.back.append(time.monotonic())
        self.restarts += 1
        say(f"  PostgreSQL was away, for the {self.restarts}. time; {len(self.team.deaths)} workers killed so far")

    def _queue_outage(self, outage: Callable[[], None]) -> None:
        outage()
        self.after_queue()
        self.outages += 1
        say(f"  the queue was away, for the {self.outages}. time")
