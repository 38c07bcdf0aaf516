"""Leases of ranges of work, and what their holder reports."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from stageflow.contracts.base import LateContract, TypeName
from stageflow.contracts.ids import JobId
from stageflow.contracts.job_state import JobState
from stageflow.contracts.partial import Partial
from stageflow.contracts.status import TERMINAL_TASK_STATUSES, TaskStatus


class WorkKind(StrEnum):
    """What a range asks for."""

    TASK = "task"
    PLAN = "plan"
    ADVANCE = "advance"


class ClaimRequest(LateContract):
    """A worker asks for work.

    Attributes:
        worker_id: Unique per process start.
        work_types: What this worker can do (:func:`control_work_type`, :func:`task_work_type`).
        max_tasks: Per work type, the most tasks that one lease may hold; same length as ``work_types``.
        max_leases: The most leases to answer with; one slot runs one lease.
        lease_seconds: How long the leases hold without a heartbeat.
        bundled: Where the best work is control work, go on with control work until there are as many leases as ``max_tasks`` of
            its type says. What a worker died on is leased by itself.
    """

    worker_id: str = Field(min_length=1, max_length=200)
    work_types: list[str]
    max_tasks: list[int]
    max_leases: int = Field(ge=1, le=1000)
    lease_seconds: float = Field(gt=0, le=604_800)
    bundled: bool = False

    @model_validator(mode="after")
    def _lists_are_parallel(self) -> Self:
        if len(self.work_types) != len(self.max_tasks):
            msg = f"{len(self.work_types)} work types but {len(self.max_tasks)} limits; give one limit per work type"
            raise ValueError(msg)
        return self


class NamedClaim(LateContract):
    """A host asks for the work that a message names."""

    worker_id: str = Field(min_length=1, max_length=200)
    job_id: JobId
    run: int = Field(ge=1)
    stage_number: int = Field(ge=1)
    generation: int = Field(default=1, ge=1)
    kinds: list[WorkKind]
    work_types: list[str]
    first: int = Field(default=0, ge=0)
    last: int = Field(default=1, ge=1)
    max_tasks: int = Field(default=1000, ge=1)
    lease_seconds: float = Field(gt=0, le=604_800)


class Lease(LateContract):
    """The right to run tasks ``[first, last)`` of a stage, or to plan or advance it, until it expires.

    Attributes:
        token: Fencing token; larger than that of every lease before.
        attempt: Attempt of these tasks, from 1.
        deaths: How many workers died on this very range.
        suspect: The range was recovered from a dead worker: flush its tasks singly.
        tasks: Parameters of the tasks in index order, as JSON text; empty for control work.
        state: The job as it was when its planning or advancing was leased, where the store sends it along; ``None`` where its
            holder has to ask.
    """

    range_id: int
    token: int
    kind: WorkKind
    job_id: JobId
    job_type: TypeName
    workflow_version: int = Field(ge=1)
    run: int = Field(ge=1)
    stage_id: int
    stage_number: int = Field(ge=1)
    generation: int = Field(ge=1)
    task_type: TypeName
    first: int = Field(ge=0)
    last: int = Field(ge=0)
    attempt: int = Field(ge=1)
    deaths: int = Field(ge=0)
    suspect: bool
    tasks: list[str]
    state: JobState | None = None


class ClaimOutcome(StrEnum):
    """How a claim ended.

    ``BUSY`` means that there is ready work which rivals hold locked: ask again within milliseconds. ``EMPTY`` means that
    there is none: wait to be woken. The last three answer a named claim only: ``DONE`` means that nothing of what the
    message names is left to do, ``LEASED`` that another worker holds it, ``HELD`` that it is paused, at a limit, or due later.
    """

    WORK = "work"
    BUSY = "busy"
    EMPTY = "empty"
    DONE = "done"
    LEASED = "leased"
    HELD = "held"


class ClaimAnswer(LateContract):
    """What a claim got.

    Attributes:
        next_due_seconds: Time until the next delayed range of these work types is due; ``None`` if there is none.
    """

    outcome: ClaimOutcome
    leases: list[Lease] = Field(default_factory=list)
    next_due_seconds: float | None = None


class Retry(LateContract):
    """An index that failed and is to be tried again after a delay, by the store's clock."""

    task_index: int = Field(ge=0)
    delay_seconds: float = Field(ge=0)
    error_details: str


class RangeCompletion(LateContract):
    """What became of a prefix of a leased range: ``len(statuses)`` tasks from ``first`` on, in index order.

    The five lists are parallel. A status of ``QUEUED`` means that the task goes back for another attempt; ``retries``
    has its delay.

    Attributes:
        results: Result as JSON text, ``None`` where there is none.
        seconds: Time in the handler.
        completed_at: When the handler returned, in seconds of Unix time.
        partials: Combinations of the completed results, in index order; each of tasks none of which is retried.
    """

    range_id: int
    token: int
    stage_id: int
    first: int = Field(ge=0)
    statuses: list[TaskStatus]
    results: list[str | None]
    errors: list[str | None]
    seconds: list[float]
    completed_at: list[float]
    retries: list[Retry] = Field(default_factory=list)
    partials: list[Partial] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        lengths = {len(self.statuses), len(self.results), len(self.errors), len(self.seconds), len(self.completed_at)}
        if len(lengths) != 1:
            msg = f"the lists of a range completion must be equally long, got lengths {sorted(lengths)}"
            raise ValueError(msg)
        if not self.statuses:
            msg = "a range completion must report at least one task"
            raise ValueError(msg)
        retried = [self.first + place for place, status in enumerate(self.statuses) if status is TaskStatus.QUEUED]
        if retried != [retry.task_index for retry in self.retries]:
            msg = "each queued status needs its retry, in index order, and nothing else does"
            raise ValueError(msg)
        allowed = TERMINAL_TASK_STATUSES | {TaskStatus.QUEUED}
        if not allowed.issuperset(self.statuses):
            msg = f"a range completion reports terminal statuses or queued for a retry, got {set(self.statuses) - allowed}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _partials_are_of_its_results(self) -> Self:
        lowest, end = self.first, self.first + len(self.statuses)
        for partial in self.partials:
            combined = self.statuses[partial.first - self.first : partial.last - self.first]
            fits = lowest <= partial.first and partial.last <= end and TaskStatus.QUEUED not in combined
            if not fits or combined.count(TaskStatus.COMPLETED) != partial.successful_tasks:
                msg = (
                    f"the partial of tasks [{partial.first}, {partial.last}) does not fit the report of [{self.first}, {end}); "
                    "combine neighbouring results that it reports, once each and in index order, and none of a retried task"
                )
                raise ValueError(msg)
            lowest = partial.last
        return self


class CompletionOutcome(StrEnum):
    """What the store did with a reported range.

    ``RECORDED`` means that the report was written; of a range that an operator took a task out of, what is before that task.
    ``STALE`` means that the token is not (or no longer) the range's: nothing was written, and another worker does or did
    the work. ``ALREADY_RECORDED`` means that this very report was written before (a lost reply to a commit).
    """

    RECORDED = "recorded"
    ALREADY_RECORDED = "already_recorded"
    STALE = "stale"


class TaskCompletionResult(LateContract):
    """The answer of ``complete_task_and_check_stage``: exactly one finisher of a stage sees ``is_last_task_in_stage``.

    Attributes:
        task_updated: Whether this call wrote something.
        remaining_tasks: Tasks of the stage without a result, those still to be planned not counted.
        stage_halted: The stage's policy gave up: give back what has not started.
        advance: Lease on the stage's advancement, already handed to the finisher that was last.
    """

    outcome: CompletionOutcome
    task_updated: bool
    is_last_task_in_stage: bool
    job_id: JobId
    stage_number: int = Field(ge=1)
    remaining_tasks: int = Field(ge=0)
    stage_halted: bool = False
    advance: Lease | None = None


class HeldLease(LateContract):
    """A lease that a worker holds and wants to keep, and the index it is at."""

    range_id: int
    token: int
    current_index: int = Field(ge=0)


class LeaseExtension(LateContract):
    """The answer to a heartbeat: which tokens still hold, and which of those should stop at the next chance."""

    held: list[int]
    stopping: list[int]


class RangeReturn(LateContract):
    """The unstarted tail ``[first, …)`` of a leased range goes back; the whole of it if ``first`` is its first.

    Attributes:
        retry_delay_seconds: ``None`` for work that was not tried. Otherwise the whole range was tried and failed: it goes
            back with its next attempt, to be claimed after this delay (a planner under its planning retry).
        error_details: Why it failed.
    """

    range_id: int
    token: int
    first: int = Field(ge=0)
    retry_delay_seconds: float | None = Field(default=None, ge=0)
    error_details: str | None = None


class Recovery(LateContract):
    """What a round of recovery did."""

    returned: int = 0
    quarantined: int = 0
    due: int = 0
    closed: int = 0
    jobs_failed: int = 0


class SeenLease(LateContract):
    """A foreign lease and its beat, as a resident recoverer saw it."""

    range_id: int
    token: int
    beat: int
