"""Decisions that need no database: pure functions."""

from collections.abc import Sequence

from stageflow.contracts.lease import Retry

_PERCENT = 100


def split_evenly(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """Cut ``[first, last)`` into at most ``parts`` ranges whose widths differ by at most one; none is empty."""
    width = last - first
    count = min(parts, width)
    return [(first + width * place // count, first + width * (place + 1) // count) for place in range(count)]


def should_halt(
    *,
    fail_fast: bool,
    minimum_success_rate: float | None,
    planned: bool,
    task_count: int,
    failed: int,
    unsuccessful: int,
) -> bool:
    """Return whether a stage's policy gives up: a failure where none may be, or a success rate out of reach.

    Args:
        unsuccessful: Failed, skipped and cancelled tasks together.
    """
    if fail_fast and failed:
        return True
    if minimum_success_rate is None or not planned:
        return False
    return (task_count - unsuccessful) * _PERCENT < minimum_success_rate * task_count


def group_retries(retries: Sequence[Retry]) -> list[tuple[int, int, Retry]]:
    """Return consecutive retries with the same delay as ``(first, last, first retry)``; they go back as one range."""
    groups: list[tuple[int, int, Retry]] = []
    for retry in retries:
        if groups:
            first, last, leader = groups[-1]
            if retry.task_index == last and retry.delay_seconds == leader.delay_seconds:
                groups[-1] = (first, last + 1, leader)
                continue
        groups.append((retry.task_index, retry.task_index + 1, retry))
    return groups
