"""Carries out the work that one message names: what workers and serverless hosts share."""

import random
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from stageflow.contracts.ids import control_work_type, task_work_type
from stageflow.contracts.job import JobRecord
from stageflow.contracts.lease import ClaimAnswer, ClaimOutcome, Lease, NamedClaim, WorkKind
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.processing import ProcessingOutcome, ProcessingResult
from stageflow.contracts.stage import StageResultContract
from stageflow.errors import ForeignMessageError, StageResultsMissingError
from stageflow.repositories import Repositories
from stageflow.worker.dispatch import Carried, Dispatcher
from stageflow.worker.slot import BUSY_SECONDS
from stageflow.workflow.registry import JobRegistry

_OUTCOMES = {
    ClaimOutcome.DONE: ProcessingOutcome.DUPLICATE,
    ClaimOutcome.EMPTY: ProcessingOutcome.DUPLICATE,
    ClaimOutcome.LEASED: ProcessingOutcome.LEASED,
    ClaimOutcome.BUSY: ProcessingOutcome.LEASED,
    ClaimOutcome.HELD: ProcessingOutcome.HELD,
}
_BUSY_PATIENCE_SECONDS: Final = 2.0
_REMEMBERED: Final = 1000
"""Jobs of which later messages are held against what the first of them read."""


@dataclass(frozen=True)
class _Job:
    """What a message is held against: of a job, what does not change while it is in one run."""

    job_id: str
    job_type: str
    workflow_version: int
    run: int
    total_stages: int

    @classmethod
    def of(cls, job: JobRecord) -> "_Job":
        return cls(job.job_id, job.job_type, job.workflow_version, job.run, job.total_stages)

    def mismatch(self, message: JobQueueMessage | TaskQueueMessage) -> str:
        """Return how a message contradicts the job, empty where it does not."""
        if message.job_type != self.job_type:
            return f"job {self.job_id} has the job type {self.job_type!r}, not {message.job_type!r}"
        if message.run > self.run or message.stage_number > self.total_stages:
            return (
                f"job {self.job_id} has {self.total_stages} stages and is in its run {self.run}; there is no stage "
                f"{message.stage_number} of run {message.run}"
            )
        return ""


class MessageProcessor:
    """Satisfies the ``Engine`` port: claims what a message names, and carries it out."""

    def __init__(
        self,
        registry: JobRegistry,
        repositories: Repositories,
        dispatcher: Dispatcher,
        *,
        worker_id: str,
        lease_seconds: float,
    ) -> None:
        self._registry = registry
        self._repositories = repositories
        self._dispatcher = dispatcher
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._known: OrderedDict[str, _Job] = OrderedDict()
        self._lock = threading.Lock()

    def process_job_queue_message(self, message: JobQueueMessage) -> ProcessingResult:
        """Plan or advance the stage that the message names, and what follows at once from it.

        Raises:
            ForeignMessageError: The message names work that this store never had.
        """
        job = self._job_of(message)
        return self._control(job, message.run, message.stage_number, [WorkKind.PLAN, WorkKind.ADVANCE])

    def process_job_stage(self, job: JobRecord, stage_number: int) -> ProcessingResult:
        """Plan or advance one stage of a job, whichever is due."""
        stored = self._repositories.jobs.require_job_state(job.job_id).job
        return self._control(_Job.of(stored), job.run, stage_number, [WorkKind.PLAN, WorkKind.ADVANCE])

    def handle_stage_completion(self, job_id: str, stage_number: int) -> ProcessingResult:
        """Turn a finished stage into the next one, or into the end of the job."""
        job = self._repositories.jobs.require_job_state(job_id).job
        return self._control(_Job.of(job), job.run, stage_number, [WorkKind.ADVANCE])

    def stage_result(self, job: JobRecord, stage_number: int) -> StageResultContract:
        """Return the stored result of a closed stage, read afresh."""
        stored = self._repositories.jobs.require_job(job.job_id)
        found = {int(key): result for key, result in stored.stage_results.items()}
        if stage_number not in found:
            there = ", ".join(str(number) for number in sorted(found)) or "none"
            msg = f"job {job.job_id} has no result of stage {stage_number}; stages with a result: {there}"
            raise StageResultsMissingError(msg)
        return found[stage_number]

    def process_task_queue_message(self, message: TaskQueueMessage) -> ProcessingResult:
        """Run all of the range that the message names that is ready, and what follows at once from it.

        Raises:
            ForeignMessageError: The message names work that this store never had.
        """
        job = self._job_of(message)
        workflow = self._registry.get(job.job_type, job.workflow_version)
        task_type = workflow.definition.stage(message.stage_number).task_type
        if message.task_type != task_type:
            msg = f"stage {message.stage_number} of {job.job_type!r} runs {task_type!r}, not {message.task_type!r}"
            raise ForeignMessageError(msg)
        claim = NamedClaim(
            worker_id=self._worker_id,
            job_id=message.job_id,
            run=message.run,
            stage_number=message.stage_number,
            generation=message.generation,
            kinds=[WorkKind.TASK],
            work_types=[task_work_type(workflow.job_type, workflow.version, message.task_type)],
            first=message.first,
            last=message.last,
            lease_seconds=self._lease_seconds,
        )
        return self._carry_out_all(claim)

    def _job_of(self, message: JobQueueMessage | TaskQueueMessage) -> _Job:
        """Return the job of a message, as it was remembered or, where that contradicts the message, as it is."""
        with self._lock:
            known = self._known.pop(message.job_id, None)
        if known is None or known.mismatch(message):
            states = self._repositories.store.get_job_states([message.job_id])
            if not states:
                msg = f"there is no job {message.job_id} in this store, or it was purged; check that the queue belongs to it"
                raise ForeignMessageError(msg)
            known = _Job.of(states[0].job)
            mismatch = known.mismatch(message)
            if mismatch:
                raise ForeignMessageError(mismatch)
        with self._lock:
            self._known[message.job_id] = known
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _control(self, job: _Job, run: int, stage_number: int, kinds: list[WorkKind]) -> ProcessingResult:
        job_id = job.job_id
        workflow = self._registry.get(job.job_type, job.workflow_version)
        claim = NamedClaim(
            worker_id=self._worker_id,
            job_id=job_id,
            run=run,
            stage_number=stage_number,
            kinds=kinds,
            work_types=[control_work_type(workflow.job_type, workflow.version)],
            lease_seconds=self._lease_seconds,
        )
        answer = self._claim(claim)
        if answer.outcome is not ClaimOutcome.WORK:
            return ProcessingResult(outcome=_OUTCOMES[answer.outcome], job_id=job_id)
        return _result(job_id, self._dispatcher.carry_out(answer.leases[0]))

    def _claim(self, claim: NamedClaim) -> ClaimAnswer:
        """Claim what a message names; while a rival holds its row, ask again.

        The rival is often the relay, which notes the very announcement: a message left at that would stay hidden for a lease.
        """
        deadline = time.monotonic() + _BUSY_PATIENCE_SECONDS
        while True:
            answer = self._repositories.leases.claim_named_work(claim)
            if answer.outcome is not ClaimOutcome.BUSY or time.monotonic() >= deadline:
                return answer
            time.sleep(random.uniform(*BUSY_SECONDS))  # noqa: S311  jitter, not a secret

    def _carry_out_all(self, claim: NamedClaim) -> ProcessingResult:
        whole = Carried()
        worked = False
        while True:
            answer = self._claim(claim)
            if answer.outcome is not ClaimOutcome.WORK:
                break
            worked = True
            whole_range = [_carried_whole(lease, claim, whole, self._dispatcher.carry_out(lease)) for lease in answer.leases]
            if any(whole_range):
                break  # asking again would find nothing
        if not worked:
            return ProcessingResult(outcome=_OUTCOMES[answer.outcome], job_id=claim.job_id)
        return _result(claim.job_id, whole)


def _carried_whole(lease: Lease, claim: NamedClaim, whole: Carried, part: Carried) -> bool:
    """Add up what came of a lease, and return whether that was all that the message names."""
    _add(whole, part)
    named = lease.first == claim.first and lease.last == claim.last
    return named and part.tasks_run == lease.last - lease.first


def _add(whole: Carried, part: Carried) -> None:
    whole.completions.extend(part.completions)
    whole.tasks_run += part.tasks_run
    whole.stages_advanced.extend(part.stages_advanced)
    whole.stages_planned.extend(part.stages_planned)
    whole.job_ended = whole.job_ended or part.job_ended


def _result(job_id: str, carried: Carried) -> ProcessingResult:
    return ProcessingResult(
        outcome=ProcessingOutcome.DONE,
        job_id=job_id,
        completions=carried.completions,
        tasks_run=carried.tasks_run,
        stages_advanced=carried.stages_advanced,
        stages_planned=carried.stages_planned,
        job_ended=carried.job_ended,
    )
