"""Worker processes: started, awaited until they are registered, measured, stopped or killed."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.flows import registry
from stageflow import Stageflow, WorkerOptions

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0


class FleetError(RuntimeError):
    """A worker process did not start or stop as it should; what it said is on standard error."""


class Fleet:
    """Processes that work until the block ends; inside it each of them is ready.

    Args:
        count: How many.
        target: What each runs, importable. It is called with a connection, on which it sends its process id once it is ready,
            and with ``arguments``; SIGTERM ends it.
    """

    def __init__(self, count: int, target: Callable[..., None], *arguments: Any) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._count = count
        self._target = target
        self._arguments = arguments
        self._processes: list[multiprocessing.process.BaseProcess] = []

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that run."""
        return [process.pid for process in self._processes if process.is_alive() and process.pid is not None]

    def peak_memory_mb(self) -> list[float]:
        """Return the largest resident size so far of each process that runs."""
        return [peak_memory_mb(pid) for pid in self.pids]

    def kill(self, position: int) -> None:
        """End a process as a crash does."""
        process = self._processes.pop(position)
        process.kill()
        process.join()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._kill_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for process in self._processes:
                process.terminate()
            for process in self._processes:
                process.join(STOP_SECONDS)
            late = [process.pid for process in self._processes if process.is_alive()]
        finally:
            self._kill_all()
        if late:
            msg = f"worker processes {late} did not stop within {STOP_SECONDS:.0f} s of SIGTERM and were killed"
            raise FleetError(msg)

    def _start(self) -> None:
        listeners = []
        for number in range(self._count):
            listener, speaker = self._context.Pipe(duplex=False)
            arguments = (speaker, *self._arguments)
            process = self._context.Process(target=self._target, args=arguments, name=f"worker-{number}", daemon=True)
            process.start()
            speaker.close()
            self._processes.append(process)
            listeners.append(listener)
        for listener in listeners:
            with listener:
                _await_ready(listener)

    def _kill_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def work(ready: Connection, store: str, queue: str | None, options: WorkerOptions) -> None:
    """Be a stageflow worker process for the workflows of :mod:`benchmarks.flows`, until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before any thread: only await_end takes it
    with Stageflow(store, registry=registry, queue=queue, options=options) as app, app.worker():
        ready.send(os.getpid())
        await_end()


def await_end() -> None:
    """Return at SIGTERM, which must be blocked, or when the process that started this one is gone."""
    parent = os.getppid()
    while signal.sigtimedwait({signal.SIGTERM}, _LOOK_SECONDS) is None:
        if os.getppid() != parent:
            return


def peak_memory_mb(pid: int) -> float:
    """Return the largest resident size that a process ever had, in MiB (``VmHWM``, Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    msg = f"process {pid} has ended, so its peak memory cannot be read any more; read it while it runs"
    raise FleetError(msg)


def _await_ready(listener: Connection) -> None:
    if not listener.poll(READY_SECONDS):
        msg = f"a worker process was not ready after {READY_SECONDS:.0f} s"
        raise FleetError(msg)
    try:
        listener.recv()
    except EOFError as error:
        msg = "a worker process ended before it was ready; its error is on standard error"
        raise FleetError(msg) from error
