"""Strings the engine's verbs together: carries out one lease, and what its end hands over at once."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from stageflow.contracts.ids import task_work_type
from stageflow.contracts.lease import CompletionOutcome, Lease, RangeCompletion, RangeReturn, TaskCompletionResult, WorkKind
from stageflow.contracts.message import TaskQueueMessage
from stageflow.contracts.plan import FirstLease
from stageflow.engine.advance import advance_stage
from stageflow.engine.calls import Asker, Steps
from stageflow.engine.execute import execute_range
from stageflow.engine.hooks import error_text
from stageflow.engine.host import LeaseHost
from stageflow.engine.plan import FIRST_CHUNK_TASKS, Planned, plan_stage
from stageflow.engine.writes import HandlerWrites
from stageflow.errors import StoreError
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker.board import LeaseBoard, RunningLease
from stageflow.worker.bundle import Bundle
from stageflow.worker.handlers import HandlerRunner
from stageflow.worker.sizes import ClaimSizes
from stageflow.workflow.registry import JobRegistry


@dataclass
class Carried:
    """What came of a lease and of what followed at once from it."""

    completions: list[CompletionOutcome] = field(default_factory=list)
    tasks_run: int = 0
    stages_advanced: list[int] = field(default_factory=list)
    stages_planned: list[int] = field(default_factory=list)
    job_ended: bool = False


def _nobody_waits(job_id: str) -> None:
    """Do nothing: where the rows are the queue, a worker finds them."""


class Dispatcher:
    """Carries out leases on behalf of one worker id, several at a time where they come together.

    With ``plans_to_run`` whoever plans a stage runs the first of its tasks too, without a claim in between.
    """

    def __init__(
        self,
        registry: JobRegistry,
        repositories: Repositories,
        telemetry: Telemetry,
        handlers: HandlerRunner,
        *,
        worker_id: str,
        lease_seconds: float,
        death_budget: int,
        plans_to_run: bool = False,
    ) -> None:
        self._registry = registry
        self._repositories = repositories
        self._telemetry = telemetry
        self._handlers = handlers
        self._plans_to_run = plans_to_run
        self._last_permitted_death = death_budget - 1
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._asker = Asker(repositories, worker_id=worker_id, lease_seconds=lease_seconds)
        self._bundles: list[Bundle] = []
        self._going_back: list[Lease] = []
        self._bundles_lock = threading.Lock()
        self.board: Final = LeaseBoard()
        self.sizes: Final = ClaimSizes()
        self.range_count = 8
        self.by_messages = False
        """Whether messages bring the work, not claims."""
        self.on_ready: Callable[[str], None] = _nobody_waits
        """Called with the job's id after a commit of this process that may have made work of it ready."""

    def carry_out(self, lease: Lease) -> Carried:
        """Carry out a lease: plan, run or advance; then the advancing and planning that its end handed over."""
        (carried,) = self.carry_out_all([lease])
        return carried

    def carry_out_all(self, leases: list[Lease]) -> list[Carried]:
        """Carry out leases in step, each with what its end handed over."""
        whole = [Carried() for _ in leases]
        work = [(lease, self._errand(lease, carried)) for lease, carried in zip(leases, whole, strict=True)]
        bundle, started = Bundle(work, self._asker, self.board, self._give_back), time.perf_counter()
        with self._bundles_lock:
            self._bundles.append(bundle)
        try:
            bundle.run()
        finally:
            with self._bundles_lock:
                self._bundles.remove(bundle)
        self.sizes.learn_control(bundle.begun, time.perf_counter() - started)
        return whole

    def relieve_bundles(self, longer_than_seconds: float) -> None:
        """Let no job wait for another's code that runs longer than that; and give back what could not be before."""
        self._give_back([])
        with self._bundles_lock:
            bundles = list(self._bundles)
        for bundle in bundles:
            bundle.relieve(longer_than_seconds)

    def most_tasks(self, message: TaskQueueMessage) -> int:
        """Return how many tasks like those of a message are a fitting piece of work; 0 where that is not known."""
        versions = [workflow.version for workflow in self._registry.workflows() if workflow.job_type == message.job_type]
        sizes = [self.sizes.bundle(task_work_type(message.job_type, version, message.task_type)) for version in versions]
        return min((size for size in sizes if size), default=0)

    def _errand(self, lease: Lease, carried: Carried) -> Steps[None]:
        following: Lease | None = lease
        while following is not None:
            held = following
            try:
                with self.board.holding(held) as running:
                    following = yield from self._step(held, running, carried)
            except BaseException as error:
                error.add_note(f"This was {held.kind} work of stage {held.stage_number} of job {held.job_id}.")
                raise

    def _give_back(self, leases: list[Lease]) -> None:
        """Give back leases of which nothing has begun; what a store in trouble does not take is kept for the next time."""
        with self._bundles_lock:
            leases, self._going_back = [*self._going_back, *leases], []
        if not leases:
            return
        unbegun = [RangeReturn(range_id=lease.range_id, token=lease.token, first=lease.first) for lease in leases]
        try:
            answers = self._repositories.leases.return_ranges(unbegun)
        except StoreError as error:
            with self._bundles_lock:
                self._going_back += leases
            self._telemetry.emit("return_failed", leases=len(leases), error=error_text(error))
            return
        for lease, taken in zip(leases, answers, strict=True):
            self.on_ready(lease.job_id)
            event = "lease_returned" if taken else "stale_write_refused"
            self._telemetry.emit(event, lease.job_id, stage=lease.stage_number, first=lease.first)

    def _step(self, lease: Lease, running: RunningLease, carried: Carried) -> Steps[Lease | None]:
        workflow = self._registry.get(lease.job_type, lease.workflow_version)
        match lease.kind:
            case WorkKind.PLAN:
                end = yield from plan_stage(
                    lease,
                    workflow,
                    self._repositories,
                    self._telemetry,
                    range_count=self._ranges_of(lease),
                    wish=self._wish(lease),
                    on_ready=partial(self.on_ready, lease.job_id),
                )
                if end.planned is Planned.PLANNED:
                    carried.stages_planned.append(lease.stage_number)
                carried.job_ended = carried.job_ended or end.planned is Planned.JOB_FAILED
                return end.first
            case WorkKind.ADVANCE:
                advanced = yield from advance_stage(lease, workflow, self._repositories, self._telemetry)
                self.on_ready(lease.job_id)
                if advanced.stage_closed:
                    carried.stages_advanced.append(lease.stage_number)
                carried.job_ended = carried.job_ended or advanced.job_ended
                return advanced.plan
            case WorkKind.TASK:
                return (yield from self._run_tasks(lease, running, carried))

    def _wish(self, lease: Lease) -> FirstLease | None:
        if not self._plans_to_run or self.board.draining.is_set():
            return None
        work_type = task_work_type(lease.job_type, lease.workflow_version, lease.task_type)
        (size,) = self.sizes.of([work_type])
        return FirstLease(worker_id=self._worker_id, max_tasks=size, lease_seconds=self._lease_seconds)

    def _ranges_of(self, lease: Lease) -> int:
        """Return as how many ranges the first tasks of a stage start.

        What is claimed from the store is cut to size by the claim. A message names whole ranges, and costs more than a short
        task: there are no more of them than pieces of fitting work, once that is known.
        """
        fitting = self.sizes.bundle(task_work_type(lease.job_type, lease.workflow_version, lease.task_type))
        if not (self.by_messages and fitting):
            return self.range_count
        return min(self.range_count, -(-FIRST_CHUNK_TASKS // fitting))

    def _run_tasks(self, lease: Lease, running: RunningLease, carried: Carried) -> Steps[Lease | None]:
        workflow = self._registry.get(lease.job_type, lease.workflow_version)
        started, reported, advance, handler_seconds = time.perf_counter(), lease.first, None, 0.0
        alone = lease.deaths >= self._last_permitted_death > 0
        run_handler = self._handlers.run_alone if alone else self._handlers.run
        writes = HandlerWrites(self._repositories, worker_id=self._worker_id, lease_seconds=self._lease_seconds)
        host = LeaseHost(lease, workflow, running, self._repositories, writes)
        payloads = self._repositories.payloads
        for completion in execute_range(
            lease,
            workflow,
            running,
            run_handler,
            worker_id=self._worker_id,
            host=host,
            writes=writes,
            payloads=payloads,
        ):
            report_begun = time.perf_counter()
            if writes.is_offered:
                answers = writes.complete(completion)
                if not answers:
                    continue
                answer = answers[-1]
            else:
                answer = yield completion
            advance = self._take(answer, completion, running, carried)
            # Reports of one stage wait for each other: were that counted as work, leases would shrink the more, the longer the
            # wait, and the more reports there were.
            started += time.perf_counter() - report_begun
            reported = completion.first + len(completion.statuses)
            handler_seconds += sum(completion.seconds)
        tasks = reported - lease.first
        carried.tasks_run += tasks
        work_type = task_work_type(lease.job_type, lease.workflow_version, lease.task_type)
        self.sizes.learn(work_type, tasks, time.perf_counter() - started, handler_seconds)
        if reported < running.last and not running.lost:
            rest = RangeReturn(range_id=lease.range_id, token=lease.token, first=reported)
            (taken,) = self._repositories.leases.return_ranges([rest])
            self.on_ready(lease.job_id)
            if not taken:
                self._telemetry.emit("stale_write_refused", lease.job_id, stage=lease.stage_number, first=reported)
        return advance

    def _take(
        self, answer: TaskCompletionResult, completion: RangeCompletion, running: RunningLease, carried: Carried
    ) -> Lease | None:
        carried.completions.append(answer.outcome)
        match answer.outcome:
            case CompletionOutcome.STALE:
                running.lose()
                self._telemetry.emit("stale_write_refused", answer.job_id, stage=answer.stage_number, first=completion.first)
            case CompletionOutcome.RECORDED | CompletionOutcome.ALREADY_RECORDED:
                self._telemetry.emit(
                    "range_completed",
                    answer.job_id,
                    stage=answer.stage_number,
                    tasks=len(completion.statuses),
                    remaining=answer.remaining_tasks,
                )
        if answer.stage_halted:
            running.stop()
        return answer.advance
