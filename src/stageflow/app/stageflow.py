"""The app: what a host application holds in its hands."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, overload

from stageflow.app.answers import answer_of, require_answer, wait_for_end, wait_until_ended
from stageflow.app.factory import DEFAULT_STORE, ConnectionFactory, RepositoryFactory, create_queue
from stageflow.contracts.base import Contract
from stageflow.contracts.dead_letter import DeadLetter, DeadLetterState
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.event import JobEvent
from stageflow.contracts.job import JobRecord, JobResult
from stageflow.contracts.limits import TaskTypeState
from stageflow.contracts.maintenance import Maintenance
from stageflow.contracts.payload import PayloadOptions
from stageflow.contracts.repair import Repair
from stageflow.contracts.resubmission import Resubmission
from stageflow.contracts.retention import Purge
from stageflow.contracts.schedule import CatchUp, ScheduleRecord
from stageflow.contracts.schema import SchemaReport
from stageflow.contracts.status import JobStatus
from stageflow.contracts.submission import Submission, SubmitOptions
from stageflow.engine.control import pause_job, resume_job
from stageflow.engine.deadlines import end_overdue
from stageflow.engine.letters import discard_letter, list_letters, requeue_letter, require_letter
from stageflow.engine.limits import limit_task_type, list_task_types, pause_task_type, reset_task_type, resume_task_type
from stageflow.engine.outbox import relay_announcements
from stageflow.engine.purge import purge_ended
from stageflow.engine.recover import recover_work
from stageflow.engine.repair import repair_stage
from stageflow.engine.resubmit import resubmit_job
from stageflow.engine.schedules import fire_due, pause_schedule, put_schedule, remove_schedule, resume_schedule
from stageflow.engine.submit import cancel_job, submit_jobs
from stageflow.insights import Diagnosis, Explanation, JobProgress, examine_store, explain_job, job_progress
from stageflow.ports import BlobStore, Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker import Dispatcher, Worker, WorkerOptions
from stageflow.worker.handlers import HandlerRunner
from stageflow.worker.messages import MessageProcessor
from stageflow.worker.worker import new_worker_id
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry

_REANNOUNCE_SECONDS: Final = 60.0

M = TypeVar("M", bound=Contract)

WorkflowRef = type[BaseController[Any]] | str
"""A controller class, or the job type under which it is registered."""


class Stageflow:
    """Connects registered workflows to a store and, if there is one, an external queue.

    Thread-safe. From async code call it in a thread (``await asyncio.to_thread(app.submit, ...)``).

    Args:
        store: ``sqlite:PATH`` (made and migrated when missing), ``sqlite::memory:`` or ``postgresql://…``.
        registry: The workflows; the default registry when left out.
        queue: ``azure:…`` or a :class:`~stageflow.ports.Queue`; the database queue when left out.
        credential: An Azure credential object, where ``queue`` names an account only.
        connection_factory: Makes PostgreSQL connections in place of the URL.
        options: How boundary methods and workers of this app work.
        blobs: Where payloads go that are too large for a row: ``file:FOLDER``, ``azure:…`` or a
            :class:`~stageflow.ports.BlobStore`. When left out: a folder beside a SQLite file, memory for a store in memory, and
            nowhere for PostgreSQL, which then refuses them.
        payloads: From which size on, and how they are kept.
    """

    @enforce_contract
    def __init__(
        self,
        store: str = DEFAULT_STORE,
        *,
        registry: JobRegistry | None = None,
        queue: str | Queue | None = None,
        credential: object | None = None,
        connection_factory: ConnectionFactory | None = None,
        options: WorkerOptions | None = None,
        blobs: str | BlobStore | None = None,
        payloads: PayloadOptions | None = None,
    ) -> None:
        self.registry: Final = registry if registry is not None else JobRegistry.instance()
        self.options: Final = options if options is not None else WorkerOptions()
        self.telemetry: Final = Telemetry()
        self.repositories: Final[Repositories] = RepositoryFactory.create_repositories(
            store,
            connection_factory=connection_factory,
            blobs=blobs,
            payloads=payloads,
            credential=credential,
        )
        self.queue: Final[Queue | None] = create_queue(queue, credential=credential) if isinstance(queue, str) else queue
        if self.repositories.store.url.startswith("sqlite:"):
            self.repositories.store.migrate()
        self._handlers = HandlerRunner(
            self.options.processes,
            telemetry=self.telemetry,
            stop_seconds=self.options.stop_seconds,
            cancel_grace_seconds=self.options.cancel_grace_seconds,
        )
        self._worker_id = new_worker_id()
        self._bind_controllers()

    def submit(
        self,
        workflow: WorkflowRef,
        parameters: Contract,
        *,
        idempotency_key: str = "",
        new_run: bool = False,
        priority: int = 0,
        not_before: datetime | None = None,
        max_running: int | None = None,
        deadline: datetime | None = None,
        timeout_seconds: float | None = None,
        connection: object = None,
    ) -> Submission:
        """Create a job, or find the one that the same request made before.

        Args:
            workflow: The controller class or its job type.
            parameters: An instance of the workflow's parameter model.
            idempotency_key: Distinguishes requests that are equal otherwise; the same key means the same job. At most 500
                characters.
            new_run: Make a job of its own in any case.
            priority: -1000 to 1000; higher is claimed first.
            not_before: Start no earlier, by the store's clock.
            max_running: The most tasks of the job that run at once, 1 to 1000; no limit when left out.
            deadline: Fail if it has not ended by then, by the store's clock; paused time counts.
            timeout_seconds: As ``deadline``, but measured from its start. With both, the earlier one counts.
            connection: The application's own connection with a transaction open: the job commits with it or not at all.

        Raises:
            UnknownWorkflowError: The workflow is not registered.
            ContractViolationError: The parameters are not its model.
            InvalidValueError: Another argument has the wrong type or is out of range; nothing is created.
            IdempotencyConflictError: The key was used with other parameters.
        """
        options = SubmitOptions.checked(
            idempotency_key=idempotency_key,
            new_run=new_run,
            priority=priority,
            not_before=not_before,
            max_running=max_running,
            deadline=deadline,
            timeout_seconds=timeout_seconds,
        )
        found = self.registry.find(workflow)
        return submit_jobs(found, [parameters], options, self.repositories, self.telemetry, connection=connection)[0]

    @enforce_contract
    def submit_many(
        self,
        workflow: WorkflowRef,
        requests: Sequence[Contract],
        *,
        new_run: bool = False,
        priority: int = 0,
        not_before: datetime | None = None,
        max_running: int | None = None,
        deadline: datetime | None = None,
        timeout_seconds: float | None = None,
    ) -> list[Submission]:
        """Create a job for each request, all in one transaction; otherwise as :meth:`submit`."""
        options = SubmitOptions.checked(
            new_run=new_run,
            priority=priority,
            not_before=not_before,
            max_running=max_running,
            deadline=deadline,
            timeout_seconds=timeout_seconds,
        )
        return submit_jobs(self.registry.find(workflow), requests, options, self.repositories, self.telemetry)

    @enforce_contract
    def job(self, job_id: str) -> JobRecord:
        """Return a job with its stage results.

        Raises:
            JobNotFoundError: There is none with this id.
        """
        return self.repositories.jobs.require_job(job_id)

    @enforce_contract
    def progress(self, job_id: str) -> JobProgress:
        """Return how far a job is."""
        return job_progress(self.repositories, self.repositories.jobs.require_job_state(job_id).job)

    @enforce_contract
    def explain(self, job_id: str) -> Explanation:
        """Return why a job is not moving, that it is, or how it ended: from effect to cause, with times and a next step.

        Raises:
            JobNotFoundError: There is none with this id.
        """
        return explain_job(self.repositories, self.registry, job_id, queue=self.queue)

    @enforce_contract
    def history(self, job_id: str, *, after: int | None = None, limit: int = 1000) -> list[JobEvent]:
        """Return what happened to a job over all its runs, oldest first; nothing is told of tasks that simply succeeded.

        Args:
            job_id: The job.
            after: The ``event_id`` of the last event of the page before.
            limit: At most so many, 1 to 1,000.

        Raises:
            JobNotFoundError: There is none with this id.
            InvalidValueError: The limit is out of range.
        """
        return self.repositories.events.list_events(job_id, after, limit)

    @enforce_contract
    def wait(self, job_id: str, *, timeout: float | None = None) -> JobResult:
        """Return how a job ended, as soon as it has; something must be working on it.

        Args:
            job_id: The job.
            timeout: Seconds to wait at most; ``None`` waits for ever.

        Raises:
            WaitTimeoutError: It had not ended by then.
        """
        return wait_for_end(self.repositories, job_id, timeout)

    @overload
    def result(self, job_id: str, *, timeout: float | None = None) -> Contract | None: ...
    @overload
    def result(self, job_id: str, model: type[M], *, timeout: float | None = None) -> M: ...
    @enforce_contract
    def result(self, job_id: str, model: type[Contract] | None = None, *, timeout: float | None = None) -> Contract | None:
        """Return what the workflow's ``aggregate_job_results`` returned for a job, as its model.

        Args:
            job_id: The job.
            model: The model it is annotated to return, for type checkers: the answer is one of it, or an error.
            timeout: Seconds to wait at most; ``None`` waits for ever.

        Raises:
            JobFailedError: The job failed.
            JobCancelledError: The job was cancelled.
            WaitTimeoutError: It had not ended within ``timeout`` seconds.
            InvalidValueError: The answer is not of this model.
        """
        wait_until_ended(self.repositories, job_id, timeout)
        answer = answer_of(self.registry, self.repositories, self.repositories.jobs.require_job_state(job_id).job)
        return answer if model is None else require_answer(answer, model, job_id)

    @enforce_contract
    def cancel(self, job_id: str, *, reason: str = "cancelled by an operator") -> JobRecord:
        """Cancel a job at once: nothing of it starts any more, and running handlers are told."""
        return cancel_job(job_id, reason, self.repositories, self.telemetry)

    @enforce_contract
    def pause(self, job_id: str) -> JobRecord:
        """Pause a job: nothing of it starts any more; running handlers end, and their results are recorded.

        Raises:
            InvalidTransitionError: It has ended; the message says what is allowed, and nothing changed.
        """
        return pause_job(job_id, self.repositories, self.telemetry)

    @enforce_contract
    def resume(self, job_id: str) -> JobRecord:
        """Let a paused job go on where it stood.

        Raises:
            InvalidTransitionError: It is not paused; the message says what is allowed, and nothing changed.
        """
        return resume_job(job_id, self.repositories, self.telemetry)

    @enforce_contract
    def limit_task_type(
        self, job_type: str, task_type: str, *, max_running: int | None = None, max_per_second: float | None = None
    ) -> TaskTypeState:
        """Limit a task type over all workers and all versions of its job type, whatever its code declares; at once.

        It holds until it is taken back with :meth:`reset_task_type`. What runs may end; leases from before count.

        Args:
            job_type: The job type.
            task_type: The task type.
            max_running: The most of its tasks that run at once; ``None`` for no limit.
            max_per_second: The most of its tasks that start in a second; ``None`` for no limit.

        Raises:
            InvalidValueError: A limit is out of range, or nobody knows the type; nothing changed.
        """
        return limit_task_type(
            self.repositories,
            self.telemetry,
            self.registry,
            job_type=job_type,
            task_type=task_type,
            max_running=max_running,
            max_per_second=max_per_second,
        )

    @enforce_contract
    def reset_task_type(self, job_type: str, task_type: str) -> TaskTypeState:
        """Take an operator's limits of a task type back: what its code declares holds again.

        Raises:
            InvalidValueError: Nobody knows the type; nothing changed.
        """
        return reset_task_type(self.repositories, self.telemetry, self.registry, job_type=job_type, task_type=task_type)

    @enforce_contract
    def pause_task_type(self, job_type: str, task_type: str) -> TaskTypeState:
        """Let nothing of a task type start, in any job; running handlers end, and their results are recorded.

        Raises:
            InvalidValueError: Nobody knows the type; nothing changed.
        """
        return pause_task_type(self.repositories, self.telemetry, self.registry, job_type=job_type, task_type=task_type)

    @enforce_contract
    def resume_task_type(self, job_type: str, task_type: str) -> TaskTypeState:
        """Let a paused task type go on; one that is not paused stays as it is.

        Raises:
            InvalidValueError: Nobody knows the type; nothing changed.
        """
        return resume_task_type(self.repositories, self.telemetry, self.registry, job_type=job_type, task_type=task_type)

    @enforce_contract
    def task_types(self) -> list[TaskTypeState]:
        """Return the task types, by name: their limits, whether they are paused, how much runs and how much waits."""
        return list_task_types(self.repositories, self.registry)

    @enforce_contract
    def resubmit(
        self,
        job_id: str,
        *,
        from_stage: int = 1,
        dry_run: bool = False,
        deadline: datetime | None = None,
        timeout_seconds: float | None = None,
    ) -> Resubmission:
        """Run a failed or cancelled job again under the same id, as its next run; the former run stays readable.

        Args:
            job_id: The job.
            from_stage: The first stage to run again; the results of those before it are taken over, not computed again.
            dry_run: Change nothing, only say what would happen.
            deadline: Of the new run; that of the former one does not count any more.
            timeout_seconds: Of the new run, from its start on; that of the former one when left out.

        Raises:
            InvalidTransitionError: It has another status; the message says what is allowed, and nothing changed.
            InvalidValueError: It cannot go on from that stage; the message names those it can.
            UnknownWorkflowError: Its workflow is not registered.
        """
        options = SubmitOptions.checked(deadline=deadline, timeout_seconds=timeout_seconds)
        return resubmit_job(
            job_id,
            self.registry,
            self.repositories,
            self.telemetry,
            from_stage=from_stage,
            dry_run=dry_run,
            options=options,
        )

    @enforce_contract
    def repair(self, job_id: str, stage_number: int, *, tasks: Sequence[int] | None = None, dry_run: bool = False) -> Repair:
        """Run chosen tasks of a finished stage again, and all stages after it, as the next run of a job that has ended.

        Args:
            job_id: The job.
            stage_number: The stage; it is aggregated again, and what follows it is planned again.
            tasks: Indexes of its tasks; ``None`` for those that failed, and those that were skipped because of it.
            dry_run: Change nothing, only say what would happen.

        Raises:
            InvalidTransitionError: It has not ended; the message says what is allowed, and nothing changed.
            InvalidValueError: The stage cannot be repaired, or has no such tasks; the message names what can be.
            UnknownWorkflowError: Its workflow is not registered.
        """
        return repair_stage(
            job_id, stage_number, self.registry, self.repositories, self.telemetry, tasks=tasks, dry_run=dry_run
        )

    @enforce_contract
    def dead_letters(
        self, *, state: DeadLetterState | None = DeadLetterState.OPEN, limit: int = 100, after: int = 0
    ) -> list[DeadLetter]:
        """Return messages that could not be used, each with its bytes and the reason, oldest first.

        Args:
            state: Only those in this state; ``None`` for all.
            limit: At most so many, 1 to 1,000.
            after: The id of the last letter of the page before.
        """
        return list_letters(self.repositories, state=state, limit=limit, after=after)

    @enforce_contract
    def dead_letter(self, letter_id: int) -> DeadLetter:
        """Return one dead letter.

        Raises:
            DeadLetterNotFoundError: There is none with this id.
        """
        return require_letter(letter_id, self.repositories)

    @enforce_contract
    def requeue(self, letter_id: int) -> DeadLetter:
        """Send an open dead letter's bytes to its queue again, at least once.

        Raises:
            DeadLetterNotFoundError: There is none with this id.
            InvalidTransitionError: It was requeued or discarded before.
            InvalidValueError: The app has no external queue, or another than the letter came from; nothing changed.
        """
        return requeue_letter(letter_id, self.queue, self.repositories, self.telemetry)

    @enforce_contract
    def discard(self, letter_id: int) -> DeadLetter:
        """Put an open dead letter away: its bytes are kept, and it is never sent again.

        Raises:
            DeadLetterNotFoundError: There is none with this id.
            InvalidTransitionError: It was requeued or discarded before; nothing changed.
        """
        return discard_letter(letter_id, self.repositories, self.telemetry)

    @enforce_contract
    def purge(
        self, older_than: timedelta, *, status: JobStatus | None = None, dry_run: bool = True, limit: int = 1000
    ) -> Purge:
        """Delete ended jobs that were not changed for so long, with all that belongs to them; a dry run unless told otherwise.

        All runs of a job go together. Without a status also dead letters go that are as old and were requeued or discarded.

        Args:
            older_than: The age, by the store's clock.
            status: Only jobs that ended so, and no dead letters.
            dry_run: Delete nothing, only say what would go.
            limit: Delete at most so many jobs, and so many letters, 1 to 1,000,000.

        Raises:
            InvalidValueError: The age or the limit is out of range; nothing was deleted.
            InvalidTransitionError: The status is not one of a job that has ended; nothing was deleted.
        """
        return purge_ended(older_than, self.repositories, self.telemetry, status=status, dry_run=dry_run, limit=limit)

    def schedule(
        self,
        name: str,
        workflow: WorkflowRef,
        parameters: Contract,
        *,
        cron: str,
        time_zone: str = "UTC",
        catch_up: CatchUp | Literal["skip", "one", "all"] = "skip",
        priority: int = 0,
        timeout_seconds: float | None = None,
    ) -> ScheduleRecord:
        """Let a job be created at the times of a cron expression, once however many workers run; replaces one with this name.

        A schedule that says the same already stays as it is, so every process may call this at its start.

        Args:
            name: Letters, digits and ``. _ : / -``; the same name means the same schedule.
            workflow: The controller class or its job type.
            parameters: An instance of the workflow's parameter model; checked again with every firing.
            cron: Five fields: minute, hour, day of month, month, day of week.
            time_zone: In which they are meant, such as ``Europe/Vienna``.
            catch_up: What becomes of times that passed while nothing fired: ``skip``, ``one`` job for all, or ``all``, each.
            priority: Of its jobs.
            timeout_seconds: Of its jobs, each from its start on.

        Raises:
            UnknownWorkflowError: The workflow is not registered.
            ContractViolationError: The parameters are not its model.
            InvalidValueError: Another argument cannot be; nothing was stored.
        """
        return put_schedule(
            self.registry.find(workflow),
            parameters,
            self.repositories,
            self.telemetry,
            name=name,
            cron=cron,
            time_zone=time_zone,
            catch_up=catch_up,
            priority=priority,
            timeout_seconds=timeout_seconds,
        )

    def schedules(self) -> list[ScheduleRecord]:
        """Return all schedules, by name."""
        return self.repositories.schedules.list_schedules()

    @enforce_contract
    def unschedule(self, name: str) -> None:
        """Delete a schedule; the jobs that it made stay.

        Raises:
            ScheduleNotFoundError: There is none with this name.
        """
        remove_schedule(name, self.repositories, self.telemetry)

    @enforce_contract
    def pause_schedule(self, name: str) -> ScheduleRecord:
        """Let a schedule fire no more until it is resumed.

        Raises:
            ScheduleNotFoundError: There is none with this name.
        """
        return pause_schedule(name, self.repositories)

    @enforce_contract
    def resume_schedule(self, name: str) -> ScheduleRecord:
        """Let a paused or failed schedule fire again; what passed meanwhile is not made good.

        Raises:
            ScheduleNotFoundError: There is none with this name.
        """
        return resume_schedule(name, self.repositories)

    @enforce_contract
    def worker(self, options: WorkerOptions | None = None) -> Worker:
        """Return a worker for all registered workflows, not started yet.

        Raises:
            SchemaVersionError: The store's schema is missing or of another version.
            QueueError: The queue does not answer, refuses the credentials, or was not created.
        """
        self.repositories.store.check_schema()
        if self.queue is not None:
            self.queue.probe()
        return Worker(
            self.registry,
            self.repositories,
            self.telemetry,
            queue=self.queue,
            options=options if options is not None else self.options,
        )

    def run(
        self,
        workflow: WorkflowRef,
        parameters: Contract,
        *,
        idempotency_key: str = "",
        new_run: bool = False,
        timeout: float | None = None,
    ) -> JobResult:
        """Submit a job, work on it in this process, and return how it ended; otherwise as :meth:`submit` and :meth:`wait`."""
        job_id = self.submit(workflow, parameters, idempotency_key=idempotency_key, new_run=new_run).job.job_id
        with self.worker():
            return self.wait(job_id, timeout=timeout)

    def maintain(self) -> Maintenance:
        """Do the upkeep of a worker once, for hosts that have only timers.

        Recovers expired leases by the store's clock, opens delayed work that is due, fails jobs whose deadline has passed,
        fires schedules that are due, and announces ready work on the queue.
        """
        recovery = recover_work(self.repositories, self.telemetry, expired=None, death_budget=self.options.death_budget)
        overdue = end_overdue(self.repositories, self.telemetry)
        scheduled = fire_due(self.registry, self.repositories, self.telemetry)
        announced = 0
        if self.queue is not None:
            # Also what was announced long ago and is still ready: the cure for lost messages where no worker relays.
            while sent := relay_announcements(
                self.repositories,
                self.queue,
                self.telemetry,
                older_than_seconds=_REANNOUNCE_SECONDS,
            ):
                announced += sent
        return Maintenance(recovery=recovery, announced=announced, overdue=overdue, scheduled=scheduled)

    def migrate(self) -> SchemaReport:
        """Bring the store's schema to this version, and create the queues where they are missing."""
        report = self.repositories.store.migrate()
        if self.queue is not None:
            self.queue.create()
        return report

    def verify(self) -> SchemaReport:
        """Compare the store's schema with what the migrations make; changes nothing."""
        return self.repositories.store.verify()

    @enforce_contract
    def doctor(self, *, repair: bool = False) -> Diagnosis:
        """Compare the store's rows with its counters, name what is late or lost, and what to do; safe beside workers.

        Looks at the jobs that have not ended; costs by the number of their results.

        Args:
            repair: Mend counters, and tasks and stages that nothing moves, through guarded functions of the store.
        """
        return examine_store(
            self.repositories,
            repair=repair,
            uses_queue=self.queue is not None,
            job_types={workflow.job_type for workflow in self.registry.workflows()},
        )

    def close(self) -> None:
        """Close all connections; the app cannot be used afterwards."""
        self._handlers.close()
        if self.queue is not None:
            self.queue.close()
        self.repositories.payloads.close()
        self.repositories.store.close()

    def __enter__(self) -> Self:
        """Return the app."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the app."""
        self.close()

    def _bind_controllers(self) -> None:
        dispatcher = Dispatcher(
            self.registry,
            self.repositories,
            self.telemetry,
            self._handlers,
            worker_id=self._worker_id,
            lease_seconds=self.options.lease_seconds,
            death_budget=self.options.death_budget,
        )
        processor = MessageProcessor(
            self.registry,
            self.repositories,
            dispatcher,
            worker_id=self._worker_id,
            lease_seconds=self.options.lease_seconds,
        )
        for workflow in self.registry.workflows():
            workflow.controller.bind(processor)
