"""Start a stage: the controller plans its tasks, the store takes them chunk by chunk (fan-out)."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, Final

from stageflow.contracts.context import JobExecutionContext
from stageflow.contracts.job import JobEnding
from stageflow.contracts.lease import Lease, RangeReturn
from stageflow.contracts.orchestration import OrchestrationAction
from stageflow.contracts.plan import FirstLease, PlanAnswer, PlanChunk, PlanDigest, PlanOutcome
from stageflow.contracts.preview import redact
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import JobStatus
from stageflow.contracts.task import TaskDefinition
from stageflow.engine.calls import AddTasks, Steps
from stageflow.engine.deadlines import end_if_overdue
from stageflow.engine.hooks import RetryPlanningError, read_plan
from stageflow.engine.reading import JobReading, read_leased_job
from stageflow.engine.unreachable import give_back_unreachable
from stageflow.errors import (
    HookError,
    InvalidValueError,
    MalformedRowError,
    PayloadsUnreachableError,
    PayloadUnreadableError,
    PlannerNotDeterministicError,
    StageResultsInvalidError,
    StageResultsMissingError,
    StoreStateError,
)
from stageflow.repositories import PayloadShelf, Repositories
from stageflow.telemetry import Telemetry
from stageflow.workflow.current import current_job
from stageflow.workflow.registry import Workflow

FIRST_CHUNK_TASKS: Final = 500
"""The first chunk is small, so that workers begin early; each later one is twice the one before."""
CHUNK_TASKS: Final = 5000
CHUNK_CHARACTERS: Final = 4_000_000
CHUNK_SECONDS: Final = 0.05
NARROWEST_RANGE: Final = 16
"""Tasks below which a stage is not cut further: a claim splits off what it wants, and each range costs a claim and a report."""
PIECES_OF_A_LEASE: Final = 8
"""Where it is known how many tasks fill a lease, nothing shorter than this part of one is cut off for others."""
LATER_RANGES: Final = 2
"""Ranges that a later chunk starts as: every slot has work by then, and claims split what is wide."""


class Planned(StrEnum):
    """How planning ended. ``REFUSED``: the lease was lost, or the job is paused or ended; nothing more to do here."""

    PLANNED = "planned"
    JOB_FAILED = "job_failed"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass
class _Chunk:
    """Tasks that wait to be written."""

    payloads: PayloadShelf
    first_index: int
    limit: int = FIRST_CHUNK_TASKS
    parameters: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    size: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, definition: TaskDefinition[Any]) -> None:
        text = self.payloads.store(definition.job_id, definition.parameters.to_json(), _named(definition), patient=True)
        self.parameters.append(text)
        self.keys.append(definition.key)
        self.size += len(text)

    def following(self) -> "_Chunk":
        first_index = self.first_index + len(self.parameters)
        return _Chunk(self.payloads, first_index, limit=min(2 * self.limit, CHUNK_TASKS))

    def ranges(self, most: int, wish: FirstLease | None) -> int:
        narrowest = NARROWEST_RANGE if wish is None else max(NARROWEST_RANGE, wish.max_tasks // PIECES_OF_A_LEASE)
        return max(1, min(most, len(self.parameters) // narrowest))

    @property
    def is_due(self) -> bool:
        return (
            len(self.parameters) >= self.limit
            or self.size >= CHUNK_CHARACTERS
            or time.monotonic() - self.started >= CHUNK_SECONDS
        )


@dataclass(frozen=True)
class PlanEnd:
    """What planning did.

    Attributes:
        first: Lease on the first of the tasks that were added last, where one was wished for.
    """

    planned: Planned
    first: Lease | None = None


def plan_stage(
    lease: Lease,
    workflow: Workflow,
    repositories: Repositories,
    telemetry: Telemetry,
    *,
    range_count: int,
    wish: FirstLease | None,
    on_ready: Callable[[], None],
) -> Steps[PlanEnd]:
    """Plan the stage that a plan lease names.

    Args:
        lease: The plan lease.
        workflow: The job's workflow.
        repositories: The store.
        telemetry: Hears of it.
        range_count: As how many ranges the tasks start, for as many claims.
        wish: Run the first of the tasks that are added last.
        on_ready: Called after each commit.

    Commits in chunks whose tasks may be claimed at once, while the planning mark holds the barrier open. A second try
    after a crash runs the planner again and goes on after what is there. What a hook raises fails the job, and so does
    a row of it that cannot be read: another try would meet the same.
    """
    try:
        reading = read_leased_job(repositories, workflow, lease)
        if reading.state.job.run != lease.run:
            telemetry.emit("plan_refused", lease.job_id, stage=lease.stage_number, outcome=PlanOutcome.JOB_ENDED)
            return PlanEnd(Planned.REFUSED)
        if end_if_overdue(reading.state, repositories, telemetry):
            return PlanEnd(Planned.JOB_FAILED)
        seconds = workflow.definition.stage(lease.stage_number).timeout_seconds
        if seconds is not None:
            repositories.deadlines.start_stage_clock(lease, seconds)
        context = reading.context()
        with current_job(context):
            definitions = _definitions(lease, reading, context)
            written = _write(lease, reading, definitions, range_count=range_count, wish=wish, on_ready=on_ready)
        answer = yield from _write_last(written, repositories, wish=wish, on_ready=on_ready)
    except PayloadsUnreachableError as error:
        give_back_unreachable(lease, repositories, telemetry, error)
        return PlanEnd(Planned.RETRY)
    except RetryPlanningError as error:
        if isinstance(error.cause, PayloadsUnreachableError):
            give_back_unreachable(lease, repositories, telemetry, error.cause)
            return PlanEnd(Planned.RETRY)
        return _retry_or_fail(lease, workflow, repositories, telemetry, error)
    except (StageResultsInvalidError, StageResultsMissingError) as error:
        reason = f"Cannot process stage {lease.stage_number} - previous stage results invalid: {error}"
        return _fail(lease, repositories, telemetry, reason)
    except (HookError, InvalidValueError, MalformedRowError, PayloadUnreadableError, StoreStateError) as error:
        return _fail(lease, repositories, telemetry, f"Planning stage {lease.stage_number} failed: {error}")
    if answer.outcome is not PlanOutcome.RECORDED:
        telemetry.emit("plan_refused", lease.job_id, stage=lease.stage_number, outcome=answer.outcome)
        return PlanEnd(Planned.REFUSED)
    telemetry.emit("stage_planned", lease.job_id, stage=lease.stage_number)
    return PlanEnd(Planned.PLANNED, answer.lease)


def _definitions(
    lease: Lease,
    reading: JobReading,
    context: JobExecutionContext[Any],
) -> Iterator[TaskDefinition[Any]]:
    number, controller = lease.stage_number, reading.workflow.controller
    orchestration = reading.orchestration_before(number)
    if orchestration is not None and orchestration.action is OrchestrationAction.CREATE_TASKS:
        name = "create_tasks_from_orchestration"
        hook = partial(
            controller.create_tasks_from_orchestration,
            number,
            context.job_id,
            context.parameters,
            orchestration,
        )
    else:
        name = "create_stage_tasks"
        hook = partial(
            controller.create_stage_tasks,
            number,
            context.job_id,
            context.parameters,
            reading.results_by_stage(),
        )
    return read_plan(
        context,
        name,
        hook,
        stage_number=number,
        model=reading.workflow.task(number).parameter_model,
        task_type=lease.task_type,
    )


def _write(
    lease: Lease,
    reading: JobReading,
    definitions: Iterator[TaskDefinition[Any]],
    *,
    range_count: int,
    wish: FirstLease | None,
    on_ready: Callable[[], None],
) -> PlanChunk | PlanOutcome:
    """Write a plan but for its last chunk, and return that; or why no more of it is wanted."""
    atomically = reading.workflow.definition.stage(lease.stage_number).plan_atomically
    stage, stages = reading.stage(lease.stage_id), reading.repositories.stages
    payloads = reading.repositories.payloads
    digest = PlanDigest()
    already = 0 if atomically else stage.task_count
    _skip_planned(definitions, already, digest, stage, payloads)
    chunk = _Chunk(payloads, already)
    replace = atomically and stage.task_count > 0

    def filled(*, final: bool) -> PlanChunk:
        return PlanChunk(
            range_id=lease.range_id,
            token=lease.token,
            stage_id=lease.stage_id,
            first_index=chunk.first_index,
            parameters=chunk.parameters,
            keys=chunk.keys if any(chunk.keys) else [],
            digest=digest.update(chunk.parameters),
            final=final,
            claimable=not atomically,
            range_count=chunk.ranges(range_count if chunk.first_index == 0 else LATER_RANGES, wish),
            replace=replace,
        )

    for definition in definitions:
        chunk.add(definition)
        if chunk.is_due:
            outcome = stages.add_tasks(filled(final=False))
            on_ready()
            if outcome is not PlanOutcome.RECORDED:
                return outcome
            chunk = chunk.following()
            replace = False
    return filled(final=True)


def _write_last(
    chunk: PlanChunk | PlanOutcome, repositories: Repositories, *, wish: FirstLease | None, on_ready: Callable[[], None]
) -> Steps[PlanAnswer]:
    if isinstance(chunk, PlanOutcome):
        return PlanAnswer(outcome=chunk)
    answer: PlanAnswer
    if wish is None:
        answer = PlanAnswer(outcome=repositories.stages.add_tasks(chunk))
    else:
        answer = yield AddTasks(chunk, wish)
    on_ready()
    return answer


def _skip_planned(
    definitions: Iterator[TaskDefinition[Any]],
    already: int,
    digest: PlanDigest,
    stage: StageRecord,
    payloads: PayloadShelf,
) -> None:
    if already == 0:
        return
    planned = 0
    now = ""
    while planned < already:
        page = islice(definitions, min(CHUNK_TASKS, already - planned))
        texts = [payloads.refer(each.job_id, each.parameters.to_json(), _named(each)) for each in page]
        if not texts:
            break
        planned += len(texts)
        now = digest.update(texts)
    if planned < already or now != stage.plan_digest:
        msg = (
            f"the planner of stage {stage.stage_number} planned other tasks when it was run again after a crash; make it "
            "depend on its arguments only, or declare plan_atomically=True"
        )
        raise PlannerNotDeterministicError(msg)


def _named(definition: TaskDefinition[Any]) -> str:
    return f"the parameters of a task {definition.task_type!r}"


def _retry_or_fail(
    lease: Lease,
    workflow: Workflow,
    repositories: Repositories,
    telemetry: Telemetry,
    error: RetryPlanningError,
) -> PlanEnd:
    policy = workflow.definition.stage(lease.stage_number).planning_retry
    if not policy.allows(lease.attempt, error.cause):
        return _fail(lease, repositories, telemetry, f"Planning stage {lease.stage_number} failed: {error}")
    delay = policy.delay_seconds(lease.attempt, random.random())  # noqa: S311  jitter, not a secret
    going_back = RangeReturn(
        range_id=lease.range_id,
        token=lease.token,
        first=0,
        retry_delay_seconds=delay,
        error_details=str(error),
    )
    repositories.leases.return_ranges([going_back])
    telemetry.emit("planning_retried", lease.job_id, stage=lease.stage_number, attempt=lease.attempt, delay_seconds=delay)
    return PlanEnd(Planned.RETRY)


def _fail(lease: Lease, repositories: Repositories, telemetry: Telemetry, reason: str) -> PlanEnd:
    ending = JobEnding(
        job_id=lease.job_id,
        status=JobStatus.FAILED,
        error_details=redact(reason),
        range_id=lease.range_id,
        token=lease.token,
        stage_id=lease.stage_id,
        stage_status="failed",
    )
    if repositories.jobs.end_job(ending):
        telemetry.emit("job_failed", lease.job_id, stage=lease.stage_number)
        return PlanEnd(Planned.JOB_FAILED)
    return PlanEnd(Planned.REFUSED)
