"""One state for all that differ in names only: which worker is which, which task is which.

No function of the store looks at where a range lies in its stage, only at how wide it is; so the ended tasks of a stage can
come first, and its open ranges in an order of their own. Lost leases are all alike. Left out is what no later step reads.
"""

from typing import Final

from tests.model.state import CLOSED, COMPLETED, ENDED, LATE, NOBODY, OPEN, Bounds, Holder, Range, Stage, State, Variant, normal

_LOST: Final = ("lost", 0, 0, 0)


def canonical(state: State, bounds: Bounds) -> State:
    """Return the state that stands for this one and all that are like it."""
    if bounds.variant is Variant.NO_FENCE:
        return state  # a holder that lost its lease is not harmless there, so what it holds has to be kept
    state = _forgotten(state)
    if len(state.workers) == 2 and _rank(state, 0) > _rank(state, 1):
        state = normal(state._replace(workers=(state.workers[1], state.workers[0])))
    return _ordered(state)


def _rank(state: State, place: int) -> tuple[object, ...]:
    held = state.workers[place]
    if held is None:
        return ("",)
    late = state.late is not None and state.late.token == held.token != NOBODY
    write = ("", 0) if held.write is None else held.write
    return (held.kind, held.run, held.number, held.last - held.first, held.token == NOBODY, *write, late)


def _forgotten(state: State) -> State:
    """Leave out what nothing reads any more."""
    job, stages, workers, late, left = state
    lost = [held is not None and held.token == NOBODY and held.write is None for held in workers]
    if any(lost):
        workers = tuple(Holder(0, 0, "", 0, 0, NOBODY) if gone else held for gone, held in zip(lost, workers, strict=True))
    if late is not None and (late.token == NOBODY or not _can_land(stages, late.token, late.first)):
        late = late._replace(run=0, number=0, first=0, told="", token=NOBODY, recorded=False)
    if not left.repairs and not left.resubmits:
        stages = tuple(
            stage._replace(results=COMPLETED * len(stage.results), halted=False, generation=1)
            if stage.status in CLOSED and not stage.ranges and OPEN not in stage.results
            else stage
            for stage in stages
        )
        if job.status in ENDED:
            left = left._replace(pauses=0, cancels=0, skips=0, failures=0, retries=0)
    after = State(job, stages, workers, late, left)
    return normal(after) if late is not state.late else after


def _can_land(stages: tuple[Stage, ...], token: int, first: int) -> bool:
    return any(each.token == token and each.first == first for stage in stages for each in stage.ranges)


def _place(each: Range) -> tuple[object, ...]:
    return (each.last - each.first, each.state, each.token, each.attempt, each.suspect, each.deaths)


def _ordered(state: State) -> State:
    """Give the tasks of each stage other indexes: those that have ended first, by status, then the ranges in their order."""
    moved: dict[tuple[int, int, int], int] = {}
    stages = []
    for stage in state.stages:
        done = "".join(sorted(stage.results.replace(OPEN, "")))
        place = len(done)
        ranges = []
        for each in sorted(stage.ranges, key=_place):
            width = each.last - each.first
            if each.token:
                moved[stage.run, stage.number, each.first] = place
            ranges.append(each._replace(first=place, last=place + width) if each.first != place else each)
            place += width
        stages.append(stage._replace(results=done + OPEN * (place - len(done)), ranges=tuple(ranges)))
    workers = tuple(_moved(held, moved) for held in state.workers)
    late = state.late
    if late is not None and late.token:
        late = late._replace(first=moved[late.run, late.number, late.first])
    return State(state.job, tuple(stages), workers, late, state.left)


def _moved(held: Holder | None, moved: dict[tuple[int, int, int], int]) -> Holder | None:
    if held is None or held.token in {NOBODY, LATE}:
        return held
    first = moved.get((held.run, held.number, held.first))
    if first is None or first == held.first:
        return held
    return held._replace(first=first, last=first + held.last - held.first)
