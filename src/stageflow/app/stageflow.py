"""The app: what a host application holds in its hands."""

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from stageflow.app.connected import J, WorkflowRef
from stageflow.app.control import JobControl
from stageflow.app.factory import DEFAULT_STORE, ConnectionFactory, RepositoryFactory, create_queue
from stageflow.app.letters import DeadLetters
from stageflow.app.questions import JobQuestions
from stageflow.app.schedules import Schedules
from stageflow.app.task_types import TaskTypeControl
from stageflow.app.upkeep import Upkeep
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.job import JobResult
from stageflow.contracts.payload import PayloadOptions
from stageflow.contracts.submission import Submission, SubmitOptions
from stageflow.engine.submit import submit_jobs
from stageflow.ports import BlobStore, Queue
from stageflow.worker import Dispatcher, Worker, WorkerOptions
from stageflow.worker.handlers import HandlerRunner
from stageflow.worker.messages import MessageProcessor
from stageflow.worker.worker import new_worker_id
from stageflow.workflow.registry import JobRegistry


class Stageflow(JobQuestions, JobControl, TaskTypeControl, DeadLetters, Schedules, Upkeep):
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
        super().__init__(
            registry if registry is not None else JobRegistry.instance(),
            RepositoryFactory.create_repositories(
                store,
                connection_factory=connection_factory,
                blobs=blobs,
                payloads=payloads,
                credential=credential,
            ),
            create_queue(queue, credential=credential) if isinstance(queue, str) else queue,
            options if options is not None else WorkerOptions(),
        )
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
        workflow: WorkflowRef[J],
        parameters: J,
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
        workflow: WorkflowRef[J],
        requests: Sequence[J],
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
        workflow: WorkflowRef[J],
        parameters: J,
        *,
        idempotency_key: str = "",
        new_run: bool = False,
        timeout: float | None = None,
    ) -> JobResult:
        """Submit a job, work on it in this process, and return how it ended; otherwise as :meth:`submit` and :meth:`wait`."""
        job_id = self.submit(workflow, parameters, idempotency_key=idempotency_key, new_run=new_run).job.job_id
        with self.worker():
            return self.wait(job_id, timeout=timeout)

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
