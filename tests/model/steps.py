"""The steps of the model: what workers, the network, time, death and operators may do next, from a state."""

from collections.abc import Iterator
from typing import Final

from tests.model.state import (
    ADVANCE,
    CANCELLED,
    CLOSED,
    COMPLETED,
    ENDED,
    FAILED,
    HELD,
    LEASED,
    NOBODY,
    PAUSED,
    PLAN,
    PLANNING,
    PROCESSING,
    QUEUED,
    READY,
    RETRY,
    SKIPPED,
    TASK,
    Bounds,
    BrokenError,
    Control,
    Holder,
    Job,
    Label,
    Range,
    Report,
    Stage,
    State,
    Variant,
    Write,
    normal,
    status_for,
    unplanned,
)
from tests.model.store import (
    DEATH_BUDGET,
    FRESH,
    add_tasks,
    close_ranges,
    count_down,
    cut_out,
    end_stage,
    lease,
    open_held,
    repairable,
    repaired,
    report,
    resubmitted,
    settle,
    singly,
    verdict,
    width_of,
    without,
    write,
)

Step = tuple[Label, State]

NOBODYS: Final = -1
"""The worker of a step that no worker takes."""
HELPFUL: Final = frozenset(
    {
        "claim",
        "claim control",
        "meet",
        "meet control",
        "plan",
        "begin",
        "count",
        "commit",
        "advance",
        "learn",
        "recover",
        "recover control",
        "sweep",
        "resume",
    }
)
"""What goes on by itself: by workers, by recovery, and by whoever lifts a pause. The rest may never come."""


def successors(state: State, bounds: Bounds) -> Iterator[Step]:
    """Yield every step that may come next, and the state after it."""
    for worker, held in enumerate(state.workers):
        if held is None:
            yield from _claims(state, worker)
        elif held.write is not None:
            yield from _writes(state, bounds, worker, held, held.write)
        else:
            yield ("heartbeat", worker), state  # of a lease that is held or lost: no row but its beat changes
            yield from _holds(state, bounds, worker, held)
        if held is not None and state.left.crashes:
            yield _step(
                state, ("crash", worker), worker=(worker, None), left=state.left._replace(crashes=state.left.crashes - 1)
            )
    yield from _meetings(state, bounds)
    yield from _network(state, bounds)
    yield from _recoveries(state, bounds)
    yield from _operators(state, bounds)


def _step(
    state: State,
    label: Label,
    *,
    job: Job | None = None,
    stage: tuple[Stage, Stage] | None = None,
    stages: tuple[Stage, ...] | None = None,
    worker: tuple[int, Holder | None] | None = None,
    **others: object,
) -> Step:
    """Return the state in which the given parts are others."""
    if stage is not None:
        stages = tuple(stage[1] if each is stage[0] else each for each in state.stages)
    workers = state.workers
    if worker is not None:
        workers = tuple(worker[1] if place == worker[0] else each for place, each in enumerate(workers))
    after = State(
        state.job if job is None else job, state.stages if stages is None else stages, workers, state.late, state.left
    )
    return label, normal(after._replace(**others) if others else after)  # type: ignore[arg-type]


def _admits(job: Job, stage: Stage) -> bool:
    return status_for(job, stage.run) in {QUEUED, PROCESSING}


def _begun(job: Job) -> Job:
    return job._replace(status=PROCESSING) if job.status == QUEUED else job


# Workers.


def _claims(state: State, worker: int) -> Iterator[Step]:
    """Lease what is ready, whole or its first task, of a job that runs."""
    for stage in state.stages:
        if not _admits(state.job, stage):
            continue
        if not stage.halted:
            for each in stage.ranges:
                if each.state == READY:
                    for count in {1, 1 if each.suspect else each.last - each.first}:
                        held = Holder(stage.run, stage.number, TASK, each.first, each.first + count, FRESH)
                        label = ("claim", worker, stage.number, each.first, count)
                        leased = (stage, lease(stage, each, count))
                        yield _step(state, label, job=_begun(state.job), stage=leased, worker=(worker, held))
        control = stage.control
        if control is not None and control.state == READY:
            held = Holder(stage.run, stage.number, control.kind, 0, 1, FRESH)
            after = stage._replace(control=Control(control.kind, LEASED, FRESH))
            if control.kind == PLAN and after.status not in CLOSED:
                after = after._replace(status=PLANNING)
            label_of_control = ("claim control", worker, stage.number)
            yield _step(state, label_of_control, job=_begun(state.job), stage=(stage, after), worker=(worker, held))


def _meetings(state: State, bounds: Bounds) -> Iterator[Step]:
    """A claim that meets what may not be leased: of a paused job it is held, of an ended job or a halted stage closed."""
    for stage in state.stages:
        status = status_for(state.job, stage.run)
        for each in stage.ranges:
            if each.state != READY or (status in {QUEUED, PROCESSING} and not stage.halted):
                continue
            label = ("meet", NOBODYS, stage.run, stage.number, each.first)
            if status == PAUSED:
                yield _step(
                    state, label, stage=(stage, stage._replace(ranges=without(stage.ranges, each, each._replace(state=HELD))))
                )
                continue
            yield _step(state, label, stage=(stage, _closed(state.job, bounds, stage, each)))
        control = stage.control
        if control is not None and control.state == READY and status not in {QUEUED, PROCESSING}:
            after = Control(control.kind, HELD) if status == PAUSED else None
            yield _step(state, ("meet control", NOBODYS, stage.run, stage.number), stage=(stage, stage._replace(control=after)))


def _closed(job: Job, bounds: Bounds, stage: Stage, each: Range) -> Stage:
    """Close one range of an ended job or a halted stage, through the counter."""
    ended = CANCELLED if status_for(job, stage.run) in ENDED else SKIPPED
    results = stage.results
    for index in range(each.first, each.last):
        results = write(results, index, ended)
    stage = stage._replace(ranges=without(stage.ranges, each), results=results)
    return count_down(bounds, job, stage, each.last - each.first).stage


def _find(state: State, run: int, number: int) -> Stage | None:
    return next((stage for stage in state.stages if stage.run == run and stage.number == number), None)


def _leased(stage: Stage | None, token: int, first: int, *, fenced: bool) -> Range | None:
    """Return the range that a report is about: by its token, or, where nobody looks at it, by its place."""
    if stage is None:
        return None
    if not fenced:
        return next((each for each in stage.ranges if each.first == first), None)
    return next((each for each in stage.ranges if token and each.token == token and each.first == first), None)


def _tellings(state: State, width: int) -> Iterator[str]:
    """Yield what may be told of a prefix: all or one completed, or one that failed or goes back."""
    yield COMPLETED * width
    if width > 1:
        yield COMPLETED
    if state.left.failures:
        yield FAILED
    if state.left.retries:
        yield RETRY


def _holds(state: State, bounds: Bounds, worker: int, held: Holder) -> Iterator[Step]:
    """A worker with a lease: it reports, plans, advances, gives back, or learns that the lease is lost."""
    stage = _find(state, held.run, held.number)
    if held.kind == TASK:
        fenced = bounds.variant is not Variant.NO_FENCE
        found = _leased(stage, held.token, held.first, fenced=fenced)
        if found is not None and stage is not None:
            for told in _tellings(state, held.last - held.first):
                left = state.left._replace(
                    failures=state.left.failures - told.count(FAILED), retries=state.left.retries - told.count(RETRY)
                )
                seen = stage.remaining if bounds.variant is Variant.REPEATABLE_READ else -1
                label = ("begin", worker, told)
                yield _step(state, label, worker=(worker, held._replace(write=Write(told, seen))), left=left)
            if state.left.late and state.late is None:
                told = COMPLETED * (held.last - held.first)
                late = Report(held.run, held.number, held.first, told, held.token, recorded=False)
                yield _step(state, ("post", worker), late=late, left=state.left._replace(late=state.left.late - 1))
            if state.left.returns and held.token and _admits(state.job, stage) and not stage.halted:
                back = found._replace(state=READY, token=NOBODY)
                after = stage._replace(ranges=without(stage.ranges, found, back))
                left = state.left._replace(returns=state.left.returns - 1)
                yield _step(state, ("return", worker), stage=(stage, after), worker=(worker, None), left=left)
    elif stage is not None and stage.control is not None and held.token and stage.control.token == held.token:
        step = _plan(state, bounds, worker, held, stage) if held.kind == PLAN else _advance(state, bounds, worker, stage)
        yield step
    if held.token == NOBODY:
        yield _step(state, ("learn", worker), worker=(worker, None))


def _writes(state: State, bounds: Bounds, worker: int, held: Holder, told: Write) -> Iterator[Step]:
    """A transaction that holds its range: it takes the stage's row, counts and commits, as one step where it is sound."""
    stage = _find(state, held.run, held.number)
    if stage is None:
        yield _step(state, ("commit", worker), worker=(worker, None))
        return
    ended = len(told.told) - told.told.count(RETRY)
    match bounds.variant:
        case Variant.NO_LOCK if told.seen < 0:
            yield _step(state, ("count", worker), worker=(worker, held._replace(write=told._replace(seen=stage.remaining))))
        case Variant.COUNT_BEFORE_COMMIT if told.seen < 0:
            counted = count_down(bounds, state.job, stage, ended).stage
            yield _step(
                state, ("count", worker), stage=(stage, counted), worker=(worker, held._replace(write=told._replace(seen=1)))
            )
        case _:
            yield _commit(state, bounds, worker, held, stage)


def _commit(state: State, bounds: Bounds, worker: int, held: Holder, stage: Stage) -> Step:
    fenced = bounds.variant is not Variant.NO_FENCE
    found = _leased(stage, held.token, held.first, fenced=fenced)
    if found is None or held.write is None:
        return _step(state, ("commit", worker), worker=(worker, None))
    told = held.write
    after, ended, retried = report(stage, found, told.told)
    if bounds.variant is Variant.COUNT_BEFORE_COMMIT:
        counted = settle(bounds._replace(variant=Variant.SOUND), state.job, after, 0, retried, to_caller=False)
    else:
        counted = settle(bounds, state.job, after, ended, retried, to_caller=True, seen=told.seen)
    first = held.first + len(told.told)
    holder = held._replace(first=first, write=None) if first < held.last else None
    if counted.leased:
        holder = Holder(held.run, held.number, ADVANCE, 0, 1, FRESH)
    late = state.late
    if late is not None and late.token == held.token and told.told != RETRY:
        late = late._replace(recorded=True)
    return _step(state, ("commit", worker), stage=(stage, counted.stage), worker=(worker, holder), late=late)


def _plan(state: State, bounds: Bounds, worker: int, held: Holder, stage: Stage) -> Step:
    status = status_for(state.job, stage.run)
    label = ("plan", worker)
    if status == PAUSED:
        return _step(state, label, stage=(stage, stage._replace(control=Control(PLAN, HELD))), worker=(worker, None))
    if status in ENDED:
        closed = stage.status if stage.status in CLOSED else CANCELLED
        return _step(state, label, stage=(stage, stage._replace(control=None, status=closed)), worker=(worker, None))
    after = add_tasks(bounds, state.job, stage)
    goes_on = after.control is not None and after.control.kind == PLAN
    return _step(state, label, stage=(stage, after), worker=(worker, held if goes_on else None))


def _advance(state: State, bounds: Bounds, worker: int, stage: Stage) -> Step:
    """Close a stage: open the next one, or end the job."""
    job, status = state.job, status_for(state.job, stage.run)
    closing = verdict(bounds, stage)
    label = ("advance", worker)
    if closing == FAILED and status not in ENDED:  # end_job: a pause does not keep a job from failing
        stages = tuple(
            each
            if each.run != job.run
            else end_stage(each._replace(control=None), FAILED)
            if each is stage
            else end_stage(each)
            for each in state.stages
        )
        return _step(state, label, job=job._replace(status=FAILED), stages=stages, worker=(worker, None))
    if status == PAUSED:
        return _step(state, label, stage=(stage, stage._replace(control=Control(ADVANCE, HELD))), worker=(worker, None))
    if status in ENDED:
        return _step(state, label, stage=(stage, stage._replace(control=None)), worker=(worker, None))
    closed = stage._replace(control=None, status=stage.status if stage.status in CLOSED else closing)
    stages = tuple(closed if each is stage else each for each in state.stages)
    if stage.number == len(bounds.tasks):
        with_errors = any(each.status == "E" for each in stages if each.run == job.run)
        ended = job._replace(status="E" if with_errors else COMPLETED)
        return _step(state, label, job=ended, stages=stages, worker=(worker, None))
    if _find(state, job.run, stage.number + 1) is not None or job.stage != stage.number:
        msg = f"stage {stage.number} was left twice"
        raise BrokenError(msg)
    opened = unplanned(job.run, stage.number + 1, LEASED, FRESH)
    planner = Holder(job.run, stage.number + 1, PLAN, 0, 1, FRESH)
    moved = Job(PROCESSING, job.run, stage.number + 1)
    return _step(state, label, job=moved, stages=(*stages, opened), worker=(worker, planner))


# The network.


def _network(state: State, bounds: Bounds) -> Iterator[Step]:
    """Deliver the late report, again and again, or lose it."""
    late = state.late
    if late is None:
        return
    yield _step(state, ("lose", NOBODYS), late=None)
    stage = _find(state, late.run, late.number)
    found = _leased(stage, late.token, late.first, fenced=bounds.variant is not Variant.NO_FENCE)
    if stage is None or found is None or is_locked(state, found):
        yield _step(state, ("deliver", NOBODYS))
        return
    after, ended, retried = report(stage, found, late.told)
    counted = settle(bounds, state.job, after, ended, retried, to_caller=True)
    workers = tuple(
        held if held is None or held.token != late.token else held._replace(token=NOBODY) if found.token == late.token else held
        for held in state.workers
    )
    delivered = _step(
        state, ("deliver", NOBODYS), stage=(stage, counted.stage), workers=workers, late=late._replace(recorded=True)
    )
    yield delivered


def is_locked(state: State, each: Range) -> bool:
    """Say whether a transaction that has not committed holds a range."""
    return any(
        held is not None and held.write is not None and held.token and held.token == each.token for held in state.workers
    )


# Time and death.


def _recoveries(state: State, bounds: Bounds) -> Iterator[Step]:
    """Take a lease from its holder, dead or slow, then do the rest of a recovery round."""
    for stage in state.stages:
        for each in stage.ranges:
            if each.state == LEASED and not is_locked(state, each):
                after = _recovered(state.job, bounds, stage, each)
                label = ("recover", NOBODYS, stage.run, stage.number, each.first)
                yield _swept(_step(state, label, stage=(stage, after)), bounds)
        control = stage.control
        if control is not None and control.state == LEASED:
            ended = status_for(state.job, stage.run) in ENDED
            after = stage._replace(control=None if ended else Control(control.kind, READY))
            yield _swept(_step(state, ("recover control", NOBODYS, stage.run, stage.number), stage=(stage, after)), bounds)
    swept = _swept((("sweep", NOBODYS), state), bounds)
    if swept[1] != state:
        yield swept


def _recovered(job: Job, bounds: Bounds, stage: Stage, each: Range) -> Stage:
    if status_for(job, stage.run) in ENDED or stage.halted:
        return _closed(job, bounds, stage, each)
    single = each.last - each.first == 1
    if single and each.deaths + 1 >= DEATH_BUDGET:
        stage = stage._replace(ranges=without(stage.ranges, each), results=write(stage.results, each.first, FAILED))
        return count_down(bounds, job, stage, 1).stage
    back = each._replace(state=READY, token=NOBODY, suspect=True, deaths=each.deaths + single)
    return stage._replace(ranges=without(stage.ranges, each, back))


def _swept(step: Step, bounds: Bounds) -> Step:
    """Do the rest of a recovery round: open what a resume missed, close what an end or a halt missed."""
    label, state = step
    stages = []
    for stage in state.stages:
        after = stage
        status = status_for(state.job, stage.run)
        if status in ENDED:
            if not _is_swept(state.job, stage):
                stages.append(stage)
                continue
            if after.control is not None and after.control.state != LEASED:
                after = after._replace(control=None)
            after, closed = close_ranges(after, CANCELLED)
            after = count_down(bounds, state.job, after, closed).stage if closed else after
        else:
            if status != PAUSED:
                after = open_held(after)
            if stage.halted and stage.status not in CLOSED and status == PAUSED:
                met = tuple(each._replace(state=HELD) if each.state == READY else each for each in after.ranges)
                after = after._replace(ranges=met)
            elif stage.halted and stage.status not in CLOSED:
                after, closed = close_ranges(after, SKIPPED)
                after = count_down(bounds, state.job, after, closed).stage if closed else after
        stages.append(after)
    return label, normal(state._replace(stages=tuple(stages)))


def _is_swept(job: Job, stage: Stage) -> bool:
    """Say whether a round looks at an ended run: the present one, or one in which something is held; claims close the rest."""
    held = any(each.state == HELD for each in stage.ranges) or (stage.control is not None and stage.control.state == HELD)
    return held or (stage.run == job.run and job.status in {FAILED, CANCELLED})


# Operators.


def _operators(state: State, bounds: Bounds) -> Iterator[Step]:
    job, left = state.job, state.left
    if left.pauses and job.status in {QUEUED, PROCESSING}:
        yield _step(state, ("pause", NOBODYS), job=job._replace(status=PAUSED), left=left._replace(pauses=left.pauses - 1))
    if job.status == PAUSED:
        resumed = job._replace(status=PROCESSING)
        stages = tuple(open_held(stage) if stage.run == job.run else stage for stage in state.stages)
        yield _step(state, ("resume", NOBODYS), job=resumed, stages=stages)
        if left.misses and stages != state.stages:
            yield _step(state, ("resume, missing", NOBODYS), job=resumed, left=left._replace(misses=left.misses - 1))
    if job.status not in ENDED and left.cancels:
        yield from _cancels(state)
    if job.status not in ENDED and left.skips:
        yield from _skips(state, bounds)
    if job.status in ENDED:
        yield from _reruns(state)


def _cancels(state: State) -> Iterator[Step]:
    job, left = state.job._replace(status=CANCELLED), state.left._replace(cancels=state.left.cancels - 1)
    stages = tuple(end_stage(stage) if stage.run == job.run else stage for stage in state.stages)
    yield _step(state, ("cancel", NOBODYS), job=job, stages=stages, left=left)
    if left.misses:
        stages = tuple(end_stage(stage, missed=True) if stage.run == job.run else stage for stage in state.stages)
        yield _step(state, ("cancel, missing", NOBODYS), job=job, stages=stages, left=left._replace(misses=left.misses - 1))


def _skips(state: State, bounds: Bounds) -> Iterator[Step]:
    """An operator skips a task, through the one door or past it."""
    left = state.left._replace(skips=state.left.skips - 1)
    for stage in state.stages:
        if stage.run != state.job.run:
            continue
        for each in stage.ranges:
            if is_locked(state, each):
                continue
            for index in {each.first, each.last - 1}:
                label = ("skip", NOBODYS, stage.number, index)
                cut = cut_out(stage, each, index)
                if bounds.variant is Variant.SECOND_DOOR:
                    after = cut._replace(results=write(cut.results, index, FAILED))
                    yield _step(state, label, stage=(stage, after), left=left)
                    continue
                cut = cut._replace(results=write(cut.results, index, SKIPPED))
                yield _step(state, label, stage=(stage, count_down(bounds, state.job, cut, 1).stage), left=left)


def _reruns(state: State) -> Iterator[Step]:
    job, left = state.job, state.left
    if left.repairs:
        for former in repairable(state.stages, job):
            queued, stages = repaired(job, state.stages, former)
            label = ("repair", NOBODYS, former.number)
            spent = left._replace(repairs=left.repairs - 1)
            yield _step(state, label, job=queued, stages=stages, left=spent)
            apart = stages[-1]._replace(ranges=singly(stages[-1].ranges))
            if apart != stages[-1]:
                yield _step(state, ("repair, apart", *label[1:]), job=queued, stages=(*stages[:-1], apart), left=spent)
    if left.resubmits and job.status in {FAILED, CANCELLED}:
        queued, stages = resubmitted(job, state.stages)
        yield _step(state, ("resubmit", NOBODYS), job=queued, stages=stages, left=left._replace(resubmits=left.resubmits - 1))


def open_width(state: State) -> int:
    """Return how many tasks of all runs are open."""
    return sum(width_of(stage.ranges) for stage in state.stages)
