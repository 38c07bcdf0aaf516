"""What slots could have done with tasks of known durations, and what workers did with them."""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.timed_flow import Span

Held = dict[str, list[tuple[int, int]]]
"""Ranges ``[first, last)`` of tasks that each worker has leased."""


def makespan_in_order(durations: Iterable[float], slots: int) -> float:
    """Return when the last task ends if each free slot takes the next in order."""
    free = [0.0] * slots
    for seconds in durations:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def ideal_makespan(durations: Iterable[float], slots: int) -> float:
    """Return when the last task ends with the longest first: at most 4/3 of the best schedule there is (Graham, 1969)."""
    return makespan_in_order(sorted(durations, reverse=True), slots)


def makespan(spans: Iterable[Span]) -> float:
    """Return the seconds from the first handler's start to the last one's end."""
    known = list(spans)
    return max(span.ended for span in known) - min(span.started for span in known)


@dataclass(frozen=True)
class Idleness:
    """Whether a worker had a free slot while another held tasks that it had not started.

    Attributes:
        looks: How often it was looked while the job ran.
        idle_looks: How often it was so.
        longest_seconds: The longest time through which every look said so; one look alone, between two tasks, counts as none.
    """

    looks: int
    idle_looks: int
    longest_seconds: float


def idleness(spans: list[Span], looks: list[tuple[float, Held]], slots_of_each: int) -> Idleness:
    """Compare the leases that were seen with what the handlers say of when they ran.

    Args:
        looks: The leases at moments of the clock by which the spans are told.
        slots_of_each: Slots of each worker.
    """
    first, last = min(span.started for span in spans), max(span.ended for span in spans)
    seen = [(moment, held) for moment, held in looks if first <= moment <= last]
    idle = [_is_idle(spans, moment, held, slots_of_each) for moment, held in seen]
    longest, since = 0.0, None
    for (moment, _), now_idle in zip(seen, idle, strict=True):
        since = (moment if since is None else since) if now_idle else None
        longest = max(longest, moment - since if since is not None else 0.0)
    return Idleness(looks=len(seen), idle_looks=sum(idle), longest_seconds=longest)


def _is_idle(spans: list[Span], moment: float, held: Held, slots_of_each: int) -> bool:
    running: dict[str, int] = defaultdict(int)
    for span in spans:
        running[span.worker_id] += span.started <= moment < span.ended
    holders = {
        worker_id for worker_id, ranges in held.items() if any(_waiting(spans, moment, first, last) for first, last in ranges)
    }
    return any(busy < slots_of_each and holders - {worker_id} for worker_id, busy in running.items())


def _waiting(spans: list[Span], moment: float, first: int, last: int) -> bool:
    """Say whether a leased task waits behind another of its lease; the one that its slot is just about to start does not."""
    return sum(spans[index].started > moment for index in range(first, last)) > (spans[first].started > moment)
