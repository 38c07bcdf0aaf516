"""Two versions of a workflow share a store: each job stays with the version under which it was submitted."""

from collections.abc import Iterator

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobQueueMessage,
    JobRegistry,
    JobStatus,
    ProcessingOutcome,
    Stageflow,
    TaskExecutionContext,
    UnknownWorkflowError,
    stage,
    task,
)
from stageflow.testing import drain_work


class Number(Contract):
    """Parameters and result."""

    value: int


@task("add_one")
def add_one(parameters: Number, context: TaskExecutionContext) -> Number:
    """Do what version 1 does."""
    context.check()
    return Number(value=parameters.value + 1)


@task("add_two")
def add_two(parameters: Number, context: TaskExecutionContext) -> Number:
    """Do what version 2 does."""
    context.check()
    return Number(value=parameters.value + 2)


class First(BaseController[Number]):
    """Version 1."""

    adds = stage(1, "add", task=add_one)

    @adds.plan
    def plan_adds(self, job: JobExecutionContext[Number]) -> Iterator[Number]:
        """Plan one task."""
        yield job.parameters


class Second(BaseController[Number]):
    """Version 2."""

    adds = stage(1, "add", task=add_two)

    @adds.plan
    def plan_adds(self, job: JobExecutionContext[Number]) -> Iterator[Number]:
        """Plan one task."""
        yield job.parameters


def registry_of(*versions: int) -> JobRegistry:
    """Return a registry that knows these versions."""
    registry = JobRegistry()
    for version in versions:
        registry.register(First if version == 1 else Second, "adding", version)
    return registry


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name a store of each kind that several apps can open."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path_factory.mktemp('store') / 'jobs.db'}"
    dsn: str = request.getfixturevalue("migrated_dsn")
    return dsn


@pytest.mark.faults
def test_f17_a_worker_takes_the_versions_that_it_knows(store_url: str) -> None:
    """An old worker leaves new jobs alone, and a new one that knows both finishes old jobs in their own way."""
    with Stageflow(store_url, registry=registry_of(1)) as old, Stageflow(store_url, registry=registry_of(1, 2)) as new:
        old.migrate()
        before = old.submit("adding", Number(value=1), new_run=True).job
        after = new.submit("adding", Number(value=1), new_run=True).job
        other = old.submit("adding", Number(value=5), new_run=True).job
        assert (before.workflow_version, after.workflow_version) == (1, 2)
        controller = old.registry.find("adding").controller
        message = JobQueueMessage(job_id=before.job_id, job_type="adding", stage_number=1)
        assert controller.process_job_queue_message(message).outcome is ProcessingOutcome.DONE
        drain_work(old)
        assert (new.job(before.job_id).status, new.job(after.job_id).status) == (JobStatus.COMPLETED, JobStatus.QUEUED)
        assert new.job(other.job_id).status is JobStatus.COMPLETED
        drain_work(new)
        for job_id, value in ((before.job_id, 2), (after.job_id, 3)):
            assert new.job(job_id).stage_results["1"].task_results[0].result_data == {"value": value}


def test_a_newer_worker_finishes_what_was_submitted_before(store_url: str) -> None:
    """Where both versions are registered, an old job is done as version 1."""
    with Stageflow(store_url, registry=registry_of(1)) as old, Stageflow(store_url, registry=registry_of(1, 2)) as new:
        old.migrate()
        job = old.submit("adding", Number(value=1)).job
        drain_work(new)
        assert new.job(job.job_id).stage_results["1"].task_results[0].result_data == {"value": 2}


def test_a_message_of_an_unknown_version_is_an_error_that_names_those_there_are(store_url: str) -> None:
    """A host that is behind does not acknowledge what it cannot do; nothing is lost."""
    with Stageflow(store_url, registry=registry_of(1)) as old, Stageflow(store_url, registry=registry_of(2)) as new:
        new.migrate()
        job = new.submit("adding", Number(value=1)).job
        message = JobQueueMessage(job_id=job.job_id, job_type="adding", stage_number=1)
        with pytest.raises(UnknownWorkflowError, match="'adding' version 2 is registered; registered: adding version 1"):
            old.registry.find("adding").controller.process_job_queue_message(message)
        assert new.job(job.job_id).status is JobStatus.QUEUED
        drain_work(new)
        assert new.job(job.job_id).status is JobStatus.COMPLETED
