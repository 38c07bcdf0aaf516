"""What must hold in every state, and of every step."""

from tests.model.state import (
    ADVANCE,
    AGGREGATED,
    CLOSED,
    ENDED,
    LEASED,
    NOBODY,
    OPEN,
    PLAN,
    Bounds,
    BrokenError,
    Label,
    Stage,
    State,
    status_for,
)


def require_sound(state: State, bounds: Bounds) -> None:
    """Do nothing if the state keeps the invariants.

    Raises:
        BrokenError: It does not; the message says which one.
    """
    for stage in state.stages:
        _require_partition(stage)
        if stage.run == state.job.run:
            _require_barrier(stage, bounds)
            if status_for(state.job, stage.run) not in ENDED:
                _require_mover(stage)


def _require_partition(stage: Stage) -> None:
    """Rule 2 of the ranges: results and open ranges cover the stage once, and what remains is the width of the ranges."""
    place = f"stage {stage.number} of run {stage.run}"
    covered = [status != OPEN for status in stage.results]
    for each in stage.ranges:
        if (each.state == LEASED) != (each.token != NOBODY):
            _break(f"a range of {place} is {each.state} with token {each.token}")
        for index in range(each.first, each.last):
            if covered[index]:
                _break(f"task {index} of {place} is there twice")
            covered[index] = True
    if not all(covered):
        _break(f"task {covered.index(False)} of {place} has neither a result nor a range: it is lost")
    width = sum(each.last - each.first for each in stage.ranges)
    if stage.remaining != width:
        _break(f"{stage.remaining} tasks of {place} remain by its counter, {width} by its ranges")


def _require_barrier(stage: Stage, bounds: Bounds) -> None:
    """Invariant 1: what is to be left, or was left, has all its tasks, and all of them have ended."""
    may_advance = stage.control is not None and stage.control.kind == ADVANCE
    if not may_advance and stage.status not in AGGREGATED:
        return
    planned = len(stage.results) == bounds.tasks[stage.number - 1]
    if not planned or OPEN in stage.results:
        _break(
            f"stage {stage.number} may advance, but of its {bounds.tasks[stage.number - 1]} tasks these are: {stage.results!r}"
        )


def _require_mover(stage: Stage) -> None:
    """Invariant 2: of an open job, a stage that is not closed has something that will move it."""
    if stage.status in CLOSED or stage.ranges:
        return
    wanted = PLAN if not stage.planned else ADVANCE
    if stage.control is None or stage.control.kind != wanted:
        _break(f"nothing moves stage {stage.number}: its tasks are {stage.results!r}, and nobody was told that it was the last")


def require_fair(before: State, label: Label, after: State) -> None:
    """Do nothing if the step keeps what holds of steps.

    Raises:
        BrokenError: A job that had ended has another status, or a lost lease changed the store.
    """
    if before.job.status in ENDED and after.job.run == before.job.run and after.job.status != before.job.status:
        _break(f"a job that had ended as {before.job.status} is {after.job.status}")
    name, worker = str(label[0]), int(label[1])
    if name in {"commit", "count", "learn"}:
        held = before.workers[worker]
        stale = held is not None and held.token == NOBODY
    else:
        stale = name == "deliver" and before.late is not None and before.late.token == NOBODY
    if stale and (before.job, before.stages) != (after.job, after.stages):
        _break("a holder that had lost its lease changed the store")


def _break(message: str) -> None:
    raise BrokenError(message)
