"""Worker processes that are killed and replaced, and stopped past their leases."""

import multiprocessing
import os
import random
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any, Final, Self

from benchmarks.chaos import work as work_module
from benchmarks.fleet import FleetError

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Death:
    """A kill: which process, and when."""

    pid: int
    at: float


class Team:
    """So many worker processes at all times, until the block ends; whoever is killed is replaced at once.

    They are forked off a process that has imported the library and nothing else, so that a replacement costs little.
    """

    def __init__(self, count: int, *arguments: Any) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([work_module.__name__])
        self._count = count
        self._arguments = arguments
        self._members: list[BaseProcess] = []
        self._listeners: list[Connection] = []  # kept: a member that becomes ready writes to it
        self._stopped: set[int] = set()
        self._lock = threading.Lock()
        self.deaths: list[Death] = []
        self.stops = 0
        self.unexpected: list[int | None] = []
        """Exit codes of workers that ended although nobody killed them; they were replaced too."""

    def kill_one(self, dice: random.Random) -> None:
        """End a worker as a crash does, and hire another."""
        with self._lock:
            self._replace_the_dead()
            awake = [member for member in self._members if member.pid not in self._stopped] or self._members
            victim = dice.choice(awake)
            self._members.remove(victim)
            victim.kill()
            if victim.pid is not None:
                self.deaths.append(Death(victim.pid, time.monotonic()))
            victim.join()
            self._members.append(self._hire())

    def stop_one(self, dice: random.Random, seconds: float) -> None:
        """Hold a worker still for so long, as a machine that swaps does, and let it go on."""
        with self._lock:
            self._replace_the_dead()
            awake = [member.pid for member in self._members if member.pid is not None and member.pid not in self._stopped]
            pid = dice.choice(awake)
            os.kill(pid, signal.SIGSTOP)
            self._stopped.add(pid)
        time.sleep(seconds)
        with self._lock:
            self._stopped.remove(pid)
            if pid in {member.pid for member in self._members}:
                os.kill(pid, signal.SIGCONT)
                self.stops += 1

    def __enter__(self) -> Self:
        self._members = [self._hire() for _ in range(self._count)]
        for listener in self._listeners:
            if not listener.poll(READY_SECONDS):
                self._end()
                msg = f"a worker process was not ready after {READY_SECONDS:.0f} s"
                raise FleetError(msg)
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.terminate()
        for member in self._members:
            member.join(STOP_SECONDS)
        self._end()

    def _hire(self) -> BaseProcess:
        listener, speaker = self._context.Pipe(duplex=False)
        member = self._context.Process(target=work_module.work, args=(speaker, *self._arguments), daemon=True)
        member.start()
        speaker.close()
        self._listeners.append(listener)
        return member

    def _replace_the_dead(self) -> None:
        for member in [member for member in self._members if not member.is_alive()]:
            self._members.remove(member)
            self.unexpected.append(member.exitcode)
            self._members.append(self._hire())

    def _end(self) -> None:
        for member in self._members:
            member.kill()
            member.join()
