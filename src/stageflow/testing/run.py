"""A workflow run in memory to its end, and what tests ask about it."""

from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from stageflow.app import Stageflow
from stageflow.app.connected import J, WorkflowRef
from stageflow.contracts.base import Contract
from stageflow.contracts.job import JobRecord, JobResult
from stageflow.contracts.results import PAGE_SIZE, StageResults
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.engine.reading import results_of
from stageflow.errors import WaitTimeoutError
from stageflow.testing.drain import drain_work
from stageflow.workflow.registry import JobRegistry, Workflow
from stageflow.workflow.stage import Stage

R = TypeVar("R", bound=Contract | None)

_SUCCEEDED: Final = frozenset({JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS})
_LONGEST_REASON: Final = 2000


@dataclass(frozen=True)
class StageRun:
    """How a stage went.

    Attributes:
        record: The stage as stored, with its counts.
        results: What the tasks that completed returned, by task index; instances of the stage's result model.
        errors: Why the tasks that did not complete did not, by task index; their traceback included.
        attempts: How often each task was tried, by task index.
    """

    record: StageRecord
    results: dict[int, Any]
    errors: dict[int, str]
    attempts: dict[int, int]

    @property
    def status(self) -> StageStatus:
        """Where the stage stands."""
        return self.record.status


class WorkflowRun:
    """How a job went that was run to its end in memory.

    Attributes:
        job: The job, as ``app.job`` returned it.
        result: The answer, as ``app.wait`` returned it.
        answer: What ``aggregate_job_results`` returned, as its model; ``None`` for a job that did not complete.
        tasks_run: Handlers that were called, retries included.
    """

    def __init__(
        self,
        job: JobRecord,
        result: JobResult,
        answer: Contract | None,
        stages: dict[int, StageRun],
        tasks_run: int,
    ) -> None:
        self.job: Final = job
        self.result: Final = result
        self.answer: Final = answer
        self.tasks_run: Final = tasks_run
        self._stages: Final = stages

    def stage(self, stage_number: int) -> StageRun:
        """Return how a stage went.

        Raises:
            AssertionError: The job never opened it; the message lists the stages that it opened.
        """
        if stage_number not in self._stages:
            opened = ", ".join(f"{number} {stage.status}" for number, stage in self._stages.items())
            msg = f"stage {stage_number} was never opened; there are: {opened}. {self._story()}"
            raise AssertionError(msg)
        return self._stages[stage_number]

    def results(self, stage: Stage[Any, R]) -> list[R]:
        """Return what the completed tasks of a declared stage returned, typed: ``run.results(MyController.replies)``."""
        return cast("list[R]", list(self.stage(stage.definition.number).results.values()))

    def assert_completed(self) -> None:
        """Do nothing if the job completed and no task failed; ``assert_status`` takes the other ways to end."""
        self.assert_status(JobStatus.COMPLETED)

    def assert_failed(self, because: str = "") -> None:
        """Do nothing if the job failed, and its error holds ``because``."""
        self.assert_status(JobStatus.FAILED)
        if because not in (self.result.error_details or ""):
            msg = f"the job should have failed because of {because!r}. {self._story()}"
            raise AssertionError(msg)

    def assert_status(self, status: JobStatus) -> None:
        """Do nothing if the job ended so."""
        if self.result.status is not status:
            msg = f"the job should be {status}. {self._story()}"
            raise AssertionError(msg)

    def assert_stage(
        self,
        stage_number: int,
        *,
        status: StageStatus | None = None,
        tasks: int | None = None,
        completed: int | None = None,
        failed: int | None = None,
        skipped: int | None = None,
    ) -> None:
        """Do nothing if the stage has this status and these counts; what is left out is not compared."""
        record = self.stage(stage_number).record
        there = {
            "status": record.status,
            "tasks": record.task_count,
            "completed": record.successful_tasks,
            "failed": record.failed_tasks,
            "skipped": record.skipped_tasks,
        }
        wanted = {"status": status, "tasks": tasks, "completed": completed, "failed": failed, "skipped": skipped}
        wrong = [
            f"{name} should be {value} but is {there[name]}"
            for name, value in wanted.items()
            if value is not None and value != there[name]
        ]
        if wrong:
            msg = f"stage {stage_number} ({record.name}): {', '.join(wrong)}. {self._story()}"
            raise AssertionError(msg)

    def _story(self) -> str:
        reason = f": {self.result.error_details[:_LONGEST_REASON]}" if self.result.error_details else ""
        return f"The job is {self.result.status}{reason}"


def run_workflow(
    workflow: WorkflowRef[J],
    parameters: J,
    *,
    registry: JobRegistry | None = None,
    timeout: float = 30,
) -> WorkflowRun:
    """Run a job in memory to its end, in the calling thread, and return how it went.

    Tasks run one after the other, and no delay is waited for: see :func:`~stageflow.testing.drain.drain_work`. The controller
    is a new instance, so apps that the test has are left alone.

    Args:
        workflow: The controller class, or its job type.
        parameters: An instance of the workflow's parameter model.
        registry: Where the workflow is registered; the default registry when left out.
        timeout: Seconds after which no further task is started.

    Raises:
        WaitTimeoutError: There was still work after ``timeout`` seconds, or a job that nobody can move.
    """
    known = registry if registry is not None else JobRegistry.instance()
    found = known.find(workflow)
    alone = JobRegistry()
    own = alone.register(type(found.controller), found.job_type, found.version)
    with Stageflow("sqlite::memory:", registry=alone) as app:
        job_id = app.submit(own.job_type, parameters).job.job_id
        tasks_run = drain_work(app, timeout=timeout)
        job = app.job(job_id)
        if not job.is_terminal:
            msg = f"nothing is left to do, but the job is {job.status} at stage {job.stage}; was it paused?"
            raise WaitTimeoutError(msg)
        answer = app.result(job_id, timeout=0) if job.status in _SUCCEEDED else None
        return WorkflowRun(job, app.wait(job_id, timeout=0), answer, _stage_runs(app, own, job), tasks_run)


def _stage_runs(app: Stageflow, workflow: Workflow, job: JobRecord) -> dict[int, StageRun]:
    stages = app.repositories.stages.list_stages(job.job_id, job.run)
    return {record.stage_number: _stage_run(app, workflow, record) for record in stages}


def _stage_run(app: Stageflow, workflow: Workflow, record: StageRecord) -> StageRun:
    results: StageResults[Any] = results_of(app.repositories, workflow, record)
    errors: dict[int, str] = {}
    attempts: dict[int, int] = {}
    first = 0
    while rows := app.repositories.stages.list_result_rows(record.stage_id, first, PAGE_SIZE, False):  # noqa: FBT003  as a page loader
        attempts.update((row.task_index, row.attempt) for row in rows)
        errors.update((row.task_index, row.error_details) for row in rows if row.error_details is not None)
        first = rows[-1].task_index + 1
    return StageRun(record=record, results=dict(results.items()), errors=errors, attempts=attempts)
