"""Real threads that do the same thing at the same moment."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

T = TypeVar("T")

_PATIENCE_SECONDS = 60.0


def crowd(size: int, act: Callable[[int], T]) -> list[T]:
    """Call ``act`` with 0, 1, … on as many threads at once, and return the answers in that order.

    Raises what the first thread raised.
    """
    barrier = Barrier(size)

    def start(number: int) -> T:
        barrier.wait(_PATIENCE_SECONDS)
        return act(number)

    with ThreadPoolExecutor(size) as threads:
        futures = [threads.submit(start, number) for number in range(size)]
        return [future.result(_PATIENCE_SECONDS) for future in futures]
