"""What the store's functions do to a job and its stages, as pure functions on the model's rows.

Each is named after the function in ``backends/postgres/sql/functions`` that it mirrors.
"""

from typing import Final, NamedTuple

from tests.model.state import (
    ADVANCE,
    AGGREGATED,
    CANCELLED,
    CLOSED,
    COMPLETED,
    ENDED,
    FAILED,
    HELD,
    LEASED,
    NOBODY,
    OPEN,
    PAUSED,
    PLAN,
    PLANNING,
    PROCESSING,
    QUEUED,
    READY,
    RETRY,
    SKIPPED,
    WITH_ERRORS,
    Bounds,
    BrokenError,
    Control,
    Job,
    Range,
    Stage,
    Variant,
    status_for,
    unplanned,
)

FRESH: Final = 7
"""The token of the one lease that a step may give; :func:`~tests.model.state.normal` renames it."""
DEATH_BUDGET: Final = 2


class Count(NamedTuple):
    """What ``count_down`` answers."""

    stage: Stage
    last: bool
    leased: bool


def write(results: str, index: int, status: str) -> str:
    """Write one result; a second one for a task is an insert conflict."""
    if results[index] != OPEN:
        msg = f"task {index} got a second result"
        raise BrokenError(msg)
    return results[:index] + status + results[index + 1 :]


def fill(results: str, ranges: list[Range], status: str) -> str:
    """Write one result for every task of some ranges."""
    for each in ranges:
        for index in range(each.first, each.last):
            results = write(results, index, status)
    return results


def width_of(ranges: tuple[Range, ...] | list[Range]) -> int:
    """Return how many tasks some ranges have."""
    return sum(each.last - each.first for each in ranges)


def without(ranges: tuple[Range, ...], one: Range, *others: Range) -> tuple[Range, ...]:
    """Replace one range by others, in index order."""
    return tuple(sorted([each for each in ranges if each is not one] + list(others)))


def close_ranges(stage: Stage, status: str) -> tuple[Stage, int]:
    """Close the task ranges that nobody holds; the counter is the caller's."""
    closed = [each for each in stage.ranges if each.state != LEASED]
    if not closed:
        return stage, 0
    left = tuple(each for each in stage.ranges if each.state == LEASED)
    return stage._replace(ranges=left, results=fill(stage.results, closed, status)), width_of(closed)


def open_advance(job: Job, stage: Stage, *, to_caller: bool) -> Count:
    """Make the advancement of a stage whose last task has ended."""
    status = status_for(job, stage.run)
    if status in ENDED:
        return Count(stage if stage.status in CLOSED else stage._replace(status=CANCELLED), last=False, leased=False)
    if stage.control is not None and stage.control.kind == ADVANCE:
        msg = f"stage {stage.number} was told twice that its last task had ended"
        raise BrokenError(msg)
    if status == PAUSED:
        return Count(stage._replace(control=Control(ADVANCE, HELD)), last=True, leased=False)
    control = Control(ADVANCE, LEASED, FRESH) if to_caller else Control(ADVANCE, READY)
    return Count(stage._replace(control=control), last=True, leased=to_caller)


def count_down(bounds: Bounds, job: Job, stage: Stage, ended: int, *, to_caller: bool = False, seen: int = -1) -> Count:
    """Take ended tasks off the counter, halt the stage where its policy gives up, open the barrier.

    Args:
        seen: What a broken variant decides by, in place of the row.
    """
    variant = bounds.variant
    stage = stage._replace(remaining=stage.remaining - ended)
    if variant is Variant.NO_LOCK and seen >= 0:
        stage = stage._replace(remaining=seen - ended)
    skipped = 0
    if stage.halted or (bounds.fail_fast and FAILED in stage.results):
        stage, skipped = close_ranges(stage, SKIPPED)
        stage = stage._replace(halted=True, remaining=stage.remaining - skipped)
    remaining = stage.remaining
    if variant is Variant.REPEATABLE_READ and seen >= 0:
        remaining = seen - ended
    if variant is Variant.SKIPPED_FORGOTTEN:
        remaining += stage.results.count(SKIPPED)
    if remaining == 0 and stage.planned and ended + skipped > 0:
        return open_advance(job, stage, to_caller=to_caller)
    return Count(stage, last=False, leased=False)


def lease(stage: Stage, of: Range, count: int) -> Stage:
    """Lease the head of a range; the rest stays ready."""
    head = of._replace(last=of.first + count, state=LEASED, token=FRESH)
    if head.last == of.last:
        return stage._replace(ranges=without(stage.ranges, of, head))
    rest = of._replace(first=head.last, deaths=0)
    return stage._replace(ranges=without(stage.ranges, of, head._replace(deaths=0), rest))


def report(stage: Stage, of: Range, told: str) -> tuple[Stage, int, int]:
    """Write a prefix of a range; answers the stage, how many tasks ended, and how many go back."""
    told = told[: of.last - of.first]
    results = stage.results
    back: list[Range] = []
    for index, status in enumerate(told, of.first):
        if status == RETRY:
            deaths = of.deaths if of.last - of.first == 1 else 0
            back.append(Range(index, index + 1, READY, NOBODY, of.attempt + 1, deaths=deaths))
        else:
            results = write(results, index, status)
    if len(told) < of.last - of.first:
        back.append(of._replace(first=of.first + len(told)))
    stage = stage._replace(results=results, ranges=without(stage.ranges, of, *back))
    retried = told.count(RETRY)
    return stage, len(told) - retried, retried


def settle(bounds: Bounds, job: Job, stage: Stage, ended: int, retried: int, *, to_caller: bool, seen: int = -1) -> Count:
    """End ``complete_tasks`` for a stage: what went back of an ended job is closed, then the counter."""
    closed = 0
    if retried and status_for(job, stage.run) in ENDED:
        stage, closed = close_ranges(stage, CANCELLED)
    return count_down(bounds, job, stage, ended + closed, to_caller=to_caller, seen=seen)


def cut_out(stage: Stage, of: Range, index: int) -> Stage:
    """Take one task out of a range: the holder keeps what is before it, what is after it is free."""
    pieces = []
    if index > of.first:
        pieces.append(of._replace(last=index))
    if index + 1 < of.last:
        state = READY if of.state == LEASED else of.state
        pieces.append(Range(index + 1, of.last, state, NOBODY, of.attempt, of.suspect))
    return stage._replace(ranges=without(stage.ranges, of, *pieces))


def add_tasks(bounds: Bounds, job: Job, stage: Stage) -> Stage:
    """Add the next chunk of a plan; the last one opens what was held, and the barrier where nothing remains."""
    total = bounds.tasks[stage.number - 1]
    first = len(stage.results)
    last = min(total, first + bounds.chunk)
    added = (Range(first, last, READY),) if last > first else ()
    final = last == total
    stage = stage._replace(
        results=stage.results + OPEN * (last - first),
        ranges=stage.ranges + added,
        remaining=stage.remaining + last - first,
        planned=final or bounds.variant is Variant.ROW_BY_ROW,
        status=PROCESSING if final else PLANNING,
    )
    if not final:
        return stage
    opened = tuple(each._replace(state=READY) if each.state == HELD else each for each in stage.ranges)
    stage = stage._replace(ranges=opened, control=None)
    return open_advance(job, stage, to_caller=False).stage if stage.remaining == 0 else stage


def verdict(bounds: Bounds, stage: Stage) -> str:
    """Return what the engine makes of a stage's counts: ``FAILED`` stops the job."""
    if bounds.fail_fast and FAILED in stage.results:
        return FAILED
    return COMPLETED if stage.results == COMPLETED * len(stage.results) else WITH_ERRORS


def open_held(stage: Stage) -> Stage:
    """Open what a pause held; tasks only where the stage is planned."""
    control = stage.control
    if control is not None and control.state == HELD:
        control = Control(control.kind, READY)
    ranges = stage.ranges
    if stage.planned:
        ranges = tuple(each._replace(state=READY) if each.state == HELD else each for each in ranges)
    return stage._replace(control=control, ranges=ranges)


def end_stage(stage: Stage, status: str = CANCELLED, *, missed: bool = False) -> Stage:
    """Close a stage of a job that ends; what is leased (or was missed) stays."""
    if not missed:
        stage, closed = close_ranges(stage, CANCELLED)
        control = stage.control if stage.control is not None and stage.control.state == LEASED else None
        stage = stage._replace(remaining=stage.remaining - closed, control=control)
    return stage if stage.status in CLOSED else stage._replace(status=status)


def repairable(stages: tuple[Stage, ...], job: Job) -> list[Stage]:
    """Return the stages of the run that ended which can be repaired."""
    ours = [stage for stage in stages if stage.run == job.run]
    return [
        stage
        for stage in ours
        if stage.status in AGGREGATED
        and stage.results
        and stage.remaining == 0
        and all(other.status in {COMPLETED, WITH_ERRORS} for other in ours if other.number < stage.number)
    ]


def chosen(stage: Stage) -> tuple[int, ...]:
    """Return the tasks that a repair runs again: those that did not complete, else the first and the last."""
    wrong = tuple(index for index, status in enumerate(stage.results) if status != COMPLETED)
    return wrong or tuple(sorted({0, len(stage.results) - 1}))


def repaired(job: Job, stages: tuple[Stage, ...], former: Stage) -> tuple[Job, tuple[Stage, ...]]:
    """Open the next run of a job, in which the chosen tasks of one stage are ready."""
    tasks = chosen(former)
    taken_over = tuple(
        stage._replace(run=job.run + 1, ranges=(), control=None)
        for stage in stages
        if stage.run == job.run and stage.number < former.number
    )
    islands: list[Range] = []
    for index in tasks:
        if islands and islands[-1].last == index:
            islands[-1] = islands[-1]._replace(last=index + 1)
        else:
            islands.append(Range(index, index + 1, READY))
    stage = Stage(
        job.run + 1,
        former.number,
        former.generation + 1,
        PROCESSING,
        planned=True,
        halted=False,
        remaining=len(tasks),
        results="".join(OPEN if index in tasks else status for index, status in enumerate(former.results)),
        ranges=tuple(islands),
        control=None,
    )
    return Job(QUEUED, job.run + 1, former.number), (*stages, *taken_over, stage)


def singly(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """Return the tasks of some ranges as ranges of one: chosen tasks that are no neighbours."""
    return tuple(each._replace(first=index, last=index + 1) for each in ranges for index in range(each.first, each.last))


def resubmitted(job: Job, stages: tuple[Stage, ...]) -> tuple[Job, tuple[Stage, ...]]:
    """Open the next run of a job from its first stage on."""
    return Job(QUEUED, job.run + 1, 1), (*stages, unplanned(job.run + 1, 1, READY))


def is_planning(stage: Stage) -> bool:
    """Say whether a stage is still to be planned."""
    return stage.control is not None and stage.control.kind == PLAN
