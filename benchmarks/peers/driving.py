"""What the peers' programs share: options, worker processes that say when they are ready, and the lines of their answer.

A program is run with ``--tasks N --workers W --rounds R``, and with the address of its server in the environment. It prints
a JSON line that tells versions and style, then one a round.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

ADDRESS: Final = "STAGEFLOW_PEER_ADDRESS"
"""The environment variable that names the server."""
READY: Final = "STAGEFLOW_PEER_READY"
"""The environment variable that names the file descriptor on which a worker says that it is ready."""
WARM_UP_TASKS: Final = 100
STOP_SECONDS: Final = 10.0


def options() -> argparse.Namespace:
    """Return what the program is asked for: ``tasks``, ``workers`` and ``rounds``; ``work`` makes it a worker, not a driver."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", default="", help="be the worker of this name")
    return parser.parse_args()


def address() -> str:
    """Return the address of the server."""
    return os.environ[ADDRESS]


def expected_total(tasks: int) -> int:
    """Return the sum of the squares below ``tasks``."""
    return (tasks - 1) * tasks * (2 * tasks - 1) // 6


@contextmanager
def workers(commands: Sequence[list[str]]) -> Iterator[list[int]]:
    """Run each command as a worker until the block ends, and give their process ids once all are ready.

    Raises:
        RuntimeError: A worker ended before it was ready; its error is on standard error.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        listening = []
        for command in commands:
            read, write = os.pipe()
            environment = os.environ | {READY: str(write)}
            started = subprocess.Popen(command, stdout=sys.stderr, pass_fds=(write,), env=environment)  # noqa: S603  our own words
            os.close(write)
            processes.append(started)
            listening.append(read)
        for read in listening:
            with os.fdopen(read, "rb") as answer:
                if not answer.read(1):
                    msg = "a worker ended before it was ready; its error is above"
                    raise RuntimeError(msg)
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            _end(process)


def tell_ready() -> None:
    """Tell the driver that this worker is ready."""
    speaking = int(os.environ[READY])
    os.write(speaking, b".")
    os.close(speaking)


def own_workers(module: str, count: int) -> list[list[str]]:
    """Return the commands of workers that are this program itself."""
    return [[*program(sys.executable, module), "--work", f"worker-{number}"] for number in range(count)]


def program(python: str, module: str) -> list[str]:
    """Return the words that run a peer's program; as a module that is imported, because peers name tasks after it."""
    return [python, "-c", f"from {module} import main; main()"]


def report(start: float, total: int, tasks: int, pids: Sequence[int]) -> None:
    """Print the line of a round that began at ``start`` (``time.perf_counter``) and has just ended.

    Raises:
        RuntimeError: The sum is wrong, so the time means nothing.
    """
    seconds = time.perf_counter() - start
    if total != expected_total(tasks):
        msg = f"{tasks} tasks must add up to {expected_total(tasks)}, but this run says {total}"
        raise RuntimeError(msg)
    print(
        json.dumps({"seconds": seconds, "total": total, "peak_mb_workers": [_peak_memory_mb(pid) for pid in pids]}), flush=True
    )


def report_setup(packages: Sequence[str], style: str) -> None:
    """Print the first line: which versions run, and how the work is written."""
    print(json.dumps({"versions": {name: version(name) for name in packages}, "style": style}), flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _peak_memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    msg = f"worker {pid} ended in the middle of a run; its error is above"
    raise RuntimeError(msg)
