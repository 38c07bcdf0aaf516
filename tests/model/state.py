"""A state of the model: one job, the stages of its runs, two workers, and one report that is late in the network.

Everything is a tuple of small values, so that a state is its own key. Statuses are single letters, the same for tasks, stages
and jobs where they mean the same.
"""

from enum import StrEnum
from typing import Final, NamedTuple

QUEUED: Final = "q"
PENDING: Final = "n"
PLANNING: Final = "l"
PROCESSING: Final = "p"
PAUSED: Final = "z"
COMPLETED: Final = "C"
WITH_ERRORS: Final = "E"
FAILED: Final = "F"
SKIPPED: Final = "S"
CANCELLED: Final = "X"
OPEN: Final = "."
"""A task without a result."""

ENDED: Final = frozenset("CEFX")
CLOSED: Final = frozenset("CEFSX")
AGGREGATED: Final = frozenset("CEF")

READY: Final = "r"
LEASED: Final = "l"
HELD: Final = "h"

PLAN: Final = "P"
TASK: Final = "T"
ADVANCE: Final = "A"

NOBODY: Final = 0
"""The token of what is not leased, and of a lease that was lost."""
LATE: Final = 8
"""The token that only the late report knows."""
DEAD: Final = 9
"""The token of a lease whose holder is gone."""

RETRY: Final = "R"
"""What a report says of a task that goes back for another attempt."""


class Variant(StrEnum):
    """The protocol, and the ways to break it."""

    SOUND = "sound"
    NO_LOCK = "no lock"
    NO_FENCE = "no fence"
    COUNT_BEFORE_COMMIT = "count before commit"
    SKIPPED_FORGOTTEN = "a terminal set without skipped"
    REPEATABLE_READ = "REPEATABLE READ"
    SECOND_DOOR = "a second door"
    ROW_BY_ROW = "planned row by row"


class Bounds(NamedTuple):
    """How much of everything there is.

    Attributes:
        tasks: Of each stage.
        chunk: Tasks of one chunk of a plan, which are one range.
        late: Reports that the network keeps, and delivers at any later time, any number of times.
        misses: Cancels and resumes that pass over what a claim that is rolled back had locked.
    """

    tasks: tuple[int, ...] = (4, 1)
    chunk: int = 2
    workers: int = 2
    crashes: int = 2
    pauses: int = 1
    retries: int = 1
    failures: int = 1
    repairs: int = 1
    resubmits: int = 0
    cancels: int = 0
    skips: int = 0
    late: int = 0
    returns: int = 0
    misses: int = 0
    fail_fast: bool = False
    variant: Variant = Variant.SOUND


class Job(NamedTuple):
    """The job's row."""

    status: str
    run: int
    stage: int


class Range(NamedTuple):
    """An open range of tasks."""

    first: int
    last: int
    state: str
    token: int = NOBODY
    attempt: int = 1
    suspect: bool = False
    deaths: int = 0


class Control(NamedTuple):
    """The planning or the advancing of a stage."""

    kind: str
    state: str
    token: int = NOBODY


class Stage(NamedTuple):
    """The row of a stage, its results (one letter a task) and its open ranges, by first index."""

    run: int
    number: int
    generation: int
    status: str
    planned: bool
    halted: bool
    remaining: int
    results: str
    ranges: tuple[Range, ...]
    control: Control | None


class Write(NamedTuple):
    """A report whose transaction has locked its range and has not committed.

    Attributes:
        seen: What a broken variant has read before it holds the stage's row; -1: nothing.
    """

    told: str
    seen: int = -1


class Holder(NamedTuple):
    """What a worker believes to hold, and what it is about to write."""

    run: int
    number: int
    kind: str
    first: int
    last: int
    token: int
    write: Write | None = None


class Report(NamedTuple):
    """A report in the network."""

    run: int
    number: int
    first: int
    told: str
    token: int
    recorded: bool


class Left(NamedTuple):
    """What may still happen."""

    crashes: int
    pauses: int
    retries: int
    failures: int
    repairs: int
    resubmits: int
    cancels: int
    skips: int
    late: int
    returns: int
    misses: int


class State(NamedTuple):
    """All of it."""

    job: Job
    stages: tuple[Stage, ...]
    workers: tuple[Holder | None, ...]
    late: Report | None
    left: Left


Label = tuple[str | int, ...]
"""A step: its name, the worker (-1: none), and what it is about."""


class BrokenError(Exception):
    """A step broke a promise; the message says which."""


def initial(bounds: Bounds) -> State:
    """Return the state after the submission of a job."""
    return State(
        Job(QUEUED, 1, 1),
        (unplanned(1, 1, READY),),
        (None,) * bounds.workers,
        None,
        Left(
            bounds.crashes,
            bounds.pauses,
            bounds.retries,
            bounds.failures,
            bounds.repairs,
            bounds.resubmits,
            bounds.cancels,
            bounds.skips,
            bounds.late,
            bounds.returns,
            bounds.misses,
        ),
    )


def unplanned(run: int, number: int, state: str, token: int = NOBODY) -> Stage:
    """Return a stage that was opened just now."""
    status = PLANNING if state == LEASED else PENDING
    return Stage(run, number, 1, status, False, False, 0, "", (), Control(PLAN, state, token))  # noqa: FBT003


def status_for(job: Job, run: int) -> str:
    """Return the job's status as the work of a run sees it."""
    return job.status if run == job.run else CANCELLED


def normal(state: State) -> State:  # noqa: C901  one pass over the state, the innermost loop of the exploration
    """Return the state with its tokens by name: of each worker's lease the worker, else the late report's, else a dead one's.

    What a former run left behind is forgotten where nothing can move it any more.
    """
    known: dict[int, int] = {}
    holders = [None if held is None else held.token for held in state.workers]
    for place, token in enumerate(holders):
        if token:
            known[token] = place + 1
    if state.late is not None and state.late.token and state.late.token not in known:
        known[state.late.token] = LATE
    live: set[int] = set()
    stages = []
    for stage in state.stages:
        if stage.run != state.job.run and not stage.ranges and stage.control is None:
            continue
        ranges = stage.ranges
        for each in ranges:
            live.add(each.token)
        if any(each.token and known.get(each.token, DEAD) != each.token for each in ranges):
            ranges = tuple(each._replace(token=known.get(each.token, DEAD)) if each.token else each for each in ranges)
        control = stage.control
        if control is not None and control.token:
            live.add(control.token)
            control = Control(control.kind, control.state, known.get(control.token, DEAD))
        if ranges is not stage.ranges or control is not stage.control:
            stage = stage._replace(ranges=ranges, control=control)  # noqa: PLW2901  the stage under its new names
        stages.append(stage)
    live.discard(NOBODY)
    workers = tuple(
        held if held is None else held._replace(token=place + 1 if held.token in live else NOBODY)
        for place, held in enumerate(state.workers)
    )
    late = state.late
    if late is not None:
        late = late._replace(token=known[late.token] if late.token in live else NOBODY)
    return State(state.job, tuple(stages), workers, late, state.left)
