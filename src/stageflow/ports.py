"""The holes in the wall: what the engine needs of a technology.

A backend need not import these protocols to satisfy them. Every method of a store is one transaction, commits before it
returns, and raises ``StoreUnreachableError`` when it cannot tell whether it did. Methods that write take fencing tokens;
a token that is no longer the range's changes nothing and is answered by a typed outcome.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from stageflow.contracts.blob import BlobProperties
from stageflow.contracts.dead_letter import DeadLetter, NewDeadLetter
from stageflow.contracts.job import JobCompletionResult, JobEnding, JobRecord, JobUpdate, NewJob
from stageflow.contracts.lease import (
    ClaimAnswer,
    ClaimRequest,
    HeldLease,
    LeaseExtension,
    NamedClaim,
    RangeCompletion,
    RangeReturn,
    Recovery,
    SeenLease,
    TaskCompletionResult,
)
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.outbox import Announcement
from stageflow.contracts.plan import PlanChunk, PlanOutcome
from stageflow.contracts.processing import ProcessingResult
from stageflow.contracts.queue import ReceivedMessage
from stageflow.contracts.results import ResultRow
from stageflow.contracts.schema import SchemaReport
from stageflow.contracts.stage import NewStage, StageAdvancementResult, StageRecord, StageResultContract
from stageflow.contracts.status import JobStatus, TaskStatus
from stageflow.contracts.task import TaskRecord, TaskResult
from stageflow.contracts.worker import WorkerRecord


class Clock(Protocol):
    """Where time comes from; tests move it."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...


class JobStore(Protocol):
    """Jobs."""

    def create_jobs(self, jobs: Sequence[NewJob], *, connection: object | None = None) -> list[bool]:
        """Create jobs, each with its first stage and the work of planning it; ``False`` where the id exists.

        Raises:
            IdempotencyConflictError: An idempotency key of this job type is taken by another job id; nothing is created.

        Args:
            connection: The application's own connection, with a transaction open: the jobs commit with it or not at all.
        """
        ...

    def get_jobs(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Return those jobs that exist, with their stage results hydrated."""
        ...

    def list_jobs(
        self,
        *,
        status: JobStatus | None,
        job_type: str | None,
        id_prefix: str,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> list[JobRecord]:
        """Return jobs newest first (created_at, then job_id, descending), from after a position on; no stage results."""
        ...

    def update_job(self, job_id: str, update: JobUpdate) -> bool:
        """Change a job's fields; ``False`` where there is no such job."""
        ...

    def change_job_status(self, job_id: str, new_status: JobStatus, update: JobUpdate) -> JobRecord | None:
        """Change a job's status under its row lock, guarded by the transition table; ``None`` where it does not exist.

        Pausing and resuming hold and open the job's ranges. A job that becomes terminal has its waiting work closed.

        Raises:
            InvalidTransitionError: The table forbids it; nothing changed.
        """
        ...

    def end_job(self, ending: JobEnding) -> bool:
        """Fail or cancel a job, close its waiting work, and store the closing stage's result.

        ``False``: it had ended, or the token is stale.
        """
        ...


class TaskStore(Protocol):
    """Stages, tasks and their results, to be read."""

    def get_stage(self, stage_id: int) -> StageRecord | None:
        """Return one stage."""
        ...

    def list_stages(self, job_id: str, run: int) -> list[StageRecord]:
        """Return the stages of a job's run that were opened, by number."""
        ...

    def count_running_tasks(self, stage_ids: Sequence[int]) -> list[int]:
        """Return for each stage, in the order asked, how many of its tasks are leased: those whose status is processing."""
        ...

    def list_tasks(
        self,
        job_id: str,
        run: int,
        stage_number: int,
        *,
        first_index: int,
        limit: int,
    ) -> list[TaskRecord]:
        """Return tasks of a stage in index order, from an index on, each with its derived status."""
        ...

    def list_failed_tasks(self, job_id: str, run: int, stage_number: int, *, first_index: int, limit: int) -> list[TaskRecord]:
        """Return failed tasks of a stage in index order, from an index on."""
        ...

    def list_result_rows(self, stage_id: int, *, first_index: int, limit: int, failed_only: bool) -> list[ResultRow]:
        """Return the newest result of each index, in index order, from an index on."""
        ...

    def list_task_results(self, stage_id: int, *, first_index: int, limit: int) -> list[TaskResult]:
        """Return the newest result of each index as contracts, in index order, from an index on."""
        ...


class PlanStore(Protocol):
    """Fan-out."""

    def add_tasks(self, chunk: PlanChunk) -> PlanOutcome:
        """Write a chunk of a stage's tasks and their ranges.

        Only the holder of the plan lease can, and only from the stage's ``task_count`` on. The first chunk moves the
        stage to planning; the final one to processing, or, if nothing remains, makes its advancement ready.

        Raises:
            StoreStateError: ``first_index`` is not the stage's ``task_count``.
            InvalidValueError: A key is there twice.
        """
        ...


class LeaseStore(Protocol):
    """Claims and leases."""

    def claim(self, request: ClaimRequest) -> ClaimAnswer:
        """Lease the best ready ranges of the asked work types, splitting off what one lease may hold."""
        ...

    def claim_named(self, claim: NamedClaim) -> ClaimAnswer:
        """Lease what is ready of the named work; the rest of it is to be announced again."""
        ...

    def extend_leases(self, worker_id: str, leases: Sequence[HeldLease], lease_seconds: float) -> LeaseExtension:
        """Raise the beat and the expiry of leases still held."""
        ...

    def return_ranges(self, returns: Sequence[RangeReturn]) -> list[bool]:
        """Give unstarted tails back; ``False`` where the lease was lost.

        A tail that begins at or after the end of its range is empty: it went back before, or an operator took it.
        """
        ...

    def list_leases(self, limit: int) -> list[SeenLease]:
        """Return leases and their beats, for a resident recoverer to watch."""
        ...

    def recover(self, *, expired: Sequence[SeenLease] | None, death_budget: int, limit: int) -> Recovery:
        """Return the work of dead workers, open what is due, close what belongs to ended jobs and halted stages.

        Args:
            expired: Leases whose beat stood still for a full lease, as the caller saw it; ``None``: go by the store's clock.
            death_budget: How many workers may die on one task before it is failed.
            limit: Most rows of each kind.
        """
        ...

    def register_worker(self, worker: WorkerRecord) -> None:
        """Write or refresh a worker's row."""
        ...

    def list_workers(self, seen_within_seconds: float) -> list[WorkerRecord]:
        """Return the workers that were seen lately."""
        ...


class CompletionStore(Protocol):
    """Fan-in: the three atomic operations."""

    def complete_tasks(
        self,
        completions: Sequence[RangeCompletion],
        *,
        worker_id: str,
        lease_seconds: float,
    ) -> list[TaskCompletionResult]:
        """Record the results of range prefixes and take them off the stages' counters.

        The one completion that empties a stage's counter also receives the lease on its advancement. Of a report that reaches
        beyond a task which ``close_task`` took out of the range, what is before that task is recorded, and the lease ends
        with it: nothing is written for that task and those after it, and the holder's next report is stale.

        Raises:
            StoreStateError: A report is longer than its range, and no operator cut it; nothing was written.
        """
        ...

    def close_task(
        self,
        job_id: str,
        stage_number: int,
        task_index: int,
        status: TaskStatus,
        error_details: str | None,
    ) -> bool:
        """End or requeue one unfinished task by an operator's hand; ``False`` where it has ended.

        ``QUEUED`` takes a leased task from its holder; ``FAILED``, ``SKIPPED`` and ``CANCELLED`` record that as its result. A
        holder keeps what is before the task; what is after it can be claimed by others at once.
        """
        ...

    def advance_job_stage(
        self,
        *,
        range_id: int,
        token: int,
        stage_id: int,
        stage_status: str,
        stage_result: str,
        next_stages: Sequence[NewStage],
        worker_id: str,
        lease_seconds: float,
    ) -> StageAdvancementResult:
        """Store a stage's result and open what follows it; compare-and-set on the current stage and on processing.

        The caller also receives the lease on planning the first stage that is opened and not skipped.
        """
        ...

    def check_job_completion(
        self,
        *,
        job_id: str,
        range_id: int | None,
        token: int | None,
        stage_id: int | None,
        stage_status: str | None,
        stage_result: str | None,
        result_data: str | None,
        skipped: Sequence[NewStage],
    ) -> JobCompletionResult:
        """Under the job's row lock: store the last stage's result, and end the job if every stage is closed.

        Without a token it only looks.
        """
        ...


class OutboxStore(Protocol):
    """What waits to be announced on an external queue, and what came back unusable."""

    def list_unannounced(self, *, older_than_seconds: float | None, limit: int) -> list[Announcement]:
        """Return ready ranges that were never announced, or were longer ago than given."""
        ...

    def mark_announced(self, range_ids: Sequence[int]) -> None:
        """Note that messages for these ranges were sent."""
        ...

    def add_dead_letter(self, letter: NewDeadLetter) -> DeadLetter:
        """Park a message; the same queue and message id again returns the letter that is there."""
        ...

    def list_dead_letters(self, *, limit: int, after: int) -> list[DeadLetter]:
        """Return parked messages, oldest first, from after a letter id on."""
        ...


class SchemaStore(Protocol):
    """The schema."""

    def migrate(self) -> SchemaReport:
        """Apply the migrations that are missing, each once, in order; safe to call from many processes."""
        ...

    def verify(self) -> SchemaReport:
        """Compare the schema with what the migrations make; changes nothing."""
        ...

    def check_schema(self) -> None:
        """Do nothing if this code can work with the schema.

        Raises:
            SchemaVersionError: It cannot; the message says what to do.
        """
        ...


class Wakeup(Protocol):
    """Waits for the store to say that there is something new."""

    def wait(self, timeout_seconds: float) -> bool:
        """Return ``True`` as soon as there may be something new, ``False`` after the timeout."""
        ...

    def interrupt(self) -> None:
        """Make a waiting thread return at once; callable from any thread and from signal handlers."""
        ...

    def close(self) -> None:
        """Free what the wakeup holds."""
        ...


class Store(JobStore, TaskStore, PlanStore, LeaseStore, CompletionStore, OutboxStore, SchemaStore, Protocol):
    """A database, whole."""

    @property
    def url(self) -> str:
        """The store's address, without secrets."""
        ...

    def now(self) -> datetime:
        """Return the store's time, aware, in UTC; it alone decides what is due."""
        ...

    def work_wakeup(self) -> Wakeup:
        """Return a wakeup that fires when work became ready."""
        ...

    def job_wakeup(self, job_id: str) -> Wakeup:
        """Return a wakeup that fires when the job ended."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class Queue(Protocol):
    """An external queue that carries hints; one for jobs and one for tasks."""

    @property
    def url(self) -> str:
        """The queue's address, without secrets."""
        ...

    def send(self, messages: Sequence[JobQueueMessage | TaskQueueMessage]) -> None:
        """Send messages, each to its queue, at least once.

        Raises:
            MessageTooLargeError: A message is over the limit; none was sent.
            QueueUnreachableError: Some may not have been sent.
        """
        ...

    def receive(self, *, max_messages: int, visibility_seconds: float) -> list[ReceivedMessage]:
        """Return messages, hidden from others for the given time, job messages first; at once, also if there are none."""
        ...

    def extend(self, message: ReceivedMessage, visibility_seconds: float) -> ReceivedMessage | None:
        """Hide a message for so long from now, 0 to give it back at once; ``None`` where it was lost.

        The answer replaces the message.
        """
        ...

    def delete(self, message: ReceivedMessage) -> bool:
        """Acknowledge a message; ``False`` where it was lost."""
        ...

    def park(self, message: ReceivedMessage) -> None:
        """Move a message to the poison queue."""
        ...

    def probe(self) -> int:
        """Reach every queue, the poison queues too, and return about how many messages wait or are hidden.

        Receives nothing: no message is hidden by it, and no delivery is counted.

        Raises:
            QueueUnreachableError: The queues cannot be reached, or one of them is missing.
        """
        ...

    def create(self) -> None:
        """Create the queues where they are missing."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class BlobStore(Protocol):
    """Named bytes in containers."""

    def list_blobs(self, container: str, *, prefix: str = "") -> Iterator[BlobProperties]:
        """Yield the blobs of a container whose name starts with ``prefix``, in name order.

        Raises:
            BlobNotFoundError: There is no such container; raised when the first blob is asked for.
        """
        ...

    def read(self, container: str, name: str) -> bytes:
        """Return the content of a blob."""
        ...

    def read_chunks(self, container: str, name: str, *, chunk_bytes: int = 4_194_304) -> Iterator[bytes]:
        """Yield the content of a blob piece by piece."""
        ...

    def write(
        self,
        container: str,
        name: str,
        content: bytes,
        *,
        content_type: str = "application/octet-stream",
    ) -> BlobProperties:
        """Write a blob whole; replaces one of the same name, creates the container where it is missing."""
        ...

    def copy(self, container: str, name: str, target_container: str, target_name: str) -> BlobProperties:
        """Copy a blob within the store."""
        ...

    def exists(self, container: str, name: str) -> bool:
        """Return whether the blob is there."""
        ...

    def delete(self, container: str, name: str) -> None:
        """Delete a blob.

        Raises:
            BlobNotFoundError: It is not there.
        """
        ...

    def properties(self, container: str, name: str) -> BlobProperties:
        """Return a blob's properties."""
        ...


class Engine(Protocol):
    """The one path on which jobs move, as a controller's boundary methods see it; ``Stageflow`` injects it."""

    def process_job_queue_message(self, message: JobQueueMessage) -> ProcessingResult:
        """Plan or advance the stage that the message names, and what follows at once from it."""
        ...

    def process_task_queue_message(self, message: TaskQueueMessage) -> ProcessingResult:
        """Run the whole range that the message names, and what follows at once from it."""
        ...

    def process_job_stage(self, job: JobRecord, stage_number: int) -> ProcessingResult:
        """Plan or advance one stage of a job, whichever is due."""
        ...

    def handle_stage_completion(self, job_id: str, stage_number: int) -> ProcessingResult:
        """Turn a finished stage into the next one, or into the end of the job."""
        ...

    def stage_result(self, job: JobRecord, stage_number: int) -> StageResultContract:
        """Return the stored result of a closed stage.

        Raises:
            StageResultsMissingError: There is none; the message lists the stages there are.
            StageResultsInvalidError: It is malformed; the message names the field.
        """
        ...
