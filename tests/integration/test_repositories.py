"""The repositories over both stores: models in, models out, and nothing else."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from stageflow import (
    Contract,
    ContractViolationError,
    InvalidTransitionError,
    InvalidValueError,
    JobNotFoundError,
    JobRecord,
    JobRegistry,
    JobStatus,
    JobUpdate,
    RepositoryFactory,
    RepositoryRegistry,
    SchemaVersionError,
    Stageflow,
    StageStatus,
    StoreError,
    TaskDefinition,
    TaskNotFoundError,
    TaskResult,
    TaskStatus,
    TaskUpdate,
)
from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.ids import control_work_type, make_task_id, task_work_type
from stageflow.contracts.lease import ClaimOutcome, ClaimRequest, CompletionOutcome, Lease
from stageflow.contracts.plan import PlanChunk, PlanOutcome
from stageflow.contracts.stage import StageResultContract
from stageflow.repositories import Repositories

NOBODY = "0" * 64


class Item(Contract):
    """Job and task parameters."""

    index: int = 0


@pytest.fixture(params=["sqlite", "postgres"])
def repositories(request: pytest.FixtureRequest) -> Iterator[Repositories]:
    """Give the repositories of each kind of store, migrated."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    made = RepositoryFactory.create_repositories(url)
    made.store.migrate()
    yield made
    made.store.close()


def definition(job_id: str, index: int, *, stage_number: int = 1) -> TaskDefinition[Item]:
    """Return a task of a job that was made by hand: its task type is its job type."""
    return TaskDefinition(
        job_id=job_id,
        job_type="by_hand",
        task_type="by_hand",
        stage_number=stage_number,
        task_index=index,
        key=f"item/{index}",
        parameters=Item(index=index),
    )


def claim(repositories: Repositories, *work_types: str) -> Lease:
    """Lease one piece of work."""
    answer = repositories.leases.claim_work(
        ClaimRequest(
            worker_id="w",
            work_types=list(work_types),
            max_tasks=[1] * len(work_types),
            max_leases=1,
            lease_seconds=30.0,
        )
    )
    assert answer.outcome is ClaimOutcome.WORK
    return answer.leases[0]


def planned_job(repositories: Repositories, count: int, *, total_stages: int = 1) -> JobRecord:
    """Create a job and plan its first stage by hand, one task after the other."""
    job = repositories.jobs.create_job_from_params("by_hand", Item(), total_stages)
    for index in range(count):
        repositories.tasks.create_task_from_definition(definition(job.job_id, index))
    plan = claim(repositories, control_work_type("by_hand", 1))
    chunk = PlanChunk(
        range_id=plan.range_id,
        token=plan.token,
        stage_id=plan.stage_id,
        first_index=count,
        parameters=[],
        digest="by hand",
        final=True,
    )
    assert repositories.stages.add_tasks(chunk) is PlanOutcome.RECORDED
    return job


def result(job_id: str, index: int, status: TaskStatus = TaskStatus.COMPLETED) -> TaskResult:
    """Return how a task ended."""
    return TaskResult(
        task_id=make_task_id(job_id, 1, index),
        job_id=job_id,
        stage_number=1,
        task_index=index,
        task_type="by_hand",
        status=status,
        result_data={"index": index} if status is TaskStatus.COMPLETED else None,
        error_details=None if status is TaskStatus.COMPLETED else "broken",
        completed_at=datetime.now(UTC),
    )


class TestJobs:
    """Jobs come out as JobRecord, or not at all."""

    def test_the_same_request_is_the_same_job(self, repositories: Repositories) -> None:
        """Created once, found the second time; create_job says False for what exists."""
        first = repositories.jobs.create_job_from_params("by_hand", Item(index=1), 2)
        second = repositories.jobs.create_job_from_params("by_hand", Item(index=1), 2)
        assert first == second
        assert type(first) is JobRecord
        assert (first.status, first.stage, first.total_stages, first.parameters) == (JobStatus.QUEUED, 1, 2, {"index": 1})
        assert repositories.jobs.create_job(first) is False

    def test_what_is_not_there_is_none_or_an_error(self, repositories: Repositories) -> None:
        """Get answers None, require raises; a malformed id is neither."""
        assert repositories.jobs.get_job(NOBODY) is None
        with pytest.raises(JobNotFoundError, match="stageflow jobs"):
            repositories.jobs.require_job(NOBODY)
        with pytest.raises(InvalidValueError):
            repositories.jobs.get_job("")
        with pytest.raises(ContractViolationError, match="job_id"):
            repositories.jobs.get_job(1)  # type: ignore[arg-type]

    def test_a_status_must_be_the_enum(self, repositories: Repositories) -> None:
        """A text is a contract violation, before its id is looked at; an impossible change is an InvalidTransitionError."""
        job = repositories.jobs.create_job_from_params("by_hand", Item(), 1)
        with pytest.raises(ContractViolationError, match="JobStatus"):
            repositories.jobs.update_job_status_with_validation(job.job_id, "failed")  # type: ignore[arg-type]
        with pytest.raises(ContractViolationError, match="JobStatus"):
            repositories.jobs.update_job_status_with_validation("", "failed")  # type: ignore[arg-type]
        with pytest.raises(InvalidTransitionError):
            repositories.jobs.update_job_status_with_validation(job.job_id, JobStatus.COMPLETED)
        with pytest.raises(JobNotFoundError):
            repositories.jobs.update_job_status_with_validation(NOBODY, JobStatus.FAILED)
        assert repositories.jobs.require_job(job.job_id) == job
        failed = repositories.jobs.update_job_status_with_validation(
            job.job_id, JobStatus.FAILED, JobUpdate(error_details="by hand")
        )
        assert (failed.status, failed.error_details) == (JobStatus.FAILED, "by hand")

    def test_fields_are_updated_by_a_typed_update(self, repositories: Repositories) -> None:
        """A dict is a violation; an unknown job is False."""
        job = repositories.jobs.create_job_from_params("by_hand", Item(), 1)
        assert repositories.jobs.update_job(job.job_id, JobUpdate(metadata={"a": [1, "ü"]}))
        assert repositories.jobs.require_job(job.job_id).metadata == {"a": [1, "ü"]}
        assert repositories.jobs.update_job(NOBODY, JobUpdate(metadata={})) is False
        with pytest.raises(ContractViolationError, match="JobUpdate"):
            repositories.jobs.update_job(job.job_id, {"metadata": {}})  # type: ignore[arg-type]

    def test_jobs_are_listed_page_by_page(self, repositories: Repositories) -> None:
        """Newest first, each once."""
        made = {repositories.jobs.create_job_from_params("by_hand", Item(index=index), 1).job_id for index in range(5)}
        seen: list[JobRecord] = []
        while page := repositories.jobs.list_jobs(limit=2, after=seen[-1] if seen else None):
            seen.extend(page)
        assert {job.job_id for job in seen} == made
        assert len(seen) == 5
        assert repositories.jobs.list_jobs(status=JobStatus.FAILED) == []
        with pytest.raises(InvalidValueError, match="limit"):
            repositories.jobs.list_jobs(limit=0)

    def test_a_job_that_is_not_new_is_not_created(self, repositories: Repositories) -> None:
        """create_job takes queued jobs without results."""
        job = repositories.jobs.create_job_from_params("by_hand", Item(), 2)
        changed = job.model_copy(update={"job_id": NOBODY, "status": JobStatus.PROCESSING})
        with pytest.raises(InvalidValueError, match="queued"):
            repositories.jobs.create_job(changed)


class TestTasks:
    """Tasks come from definitions only, and change through guarded functions only."""

    def test_a_definition_becomes_a_record(self, repositories: Repositories) -> None:
        """Stored whole, and found by its id."""
        job = repositories.jobs.create_job_from_params("by_hand", Item(), 1)
        record = repositories.tasks.create_task_from_definition(definition(job.job_id, 0))
        assert record.key == "item/0"
        assert (record.status, record.parameters, record.attempt) == (TaskStatus.QUEUED, {"index": 0}, 1)
        assert repositories.tasks.get_task(record.task_id) == record
        with pytest.raises(ContractViolationError, match="TaskDefinition"):
            repositories.tasks.create_task_from_definition({"task_index": 1})  # type: ignore[arg-type]

    def test_a_task_that_is_not_the_next_is_refused(self, repositories: Repositories) -> None:
        """Indexes are dense; a stage that is not open, or a job that is not there, is told apart."""
        job = repositories.jobs.create_job_from_params("by_hand", Item(), 2)
        with pytest.raises(StoreError):
            repositories.tasks.create_task_from_definition(definition(job.job_id, 3))
        with pytest.raises(StoreError, match="not open for planning"):
            repositories.tasks.create_task_from_definition(definition(job.job_id, 0, stage_number=2))
        with pytest.raises(JobNotFoundError):
            repositories.tasks.create_task_from_definition(definition(NOBODY, 0))

    def test_what_is_not_there_is_none_or_an_error(self, repositories: Repositories) -> None:
        """Of an unknown job, and of a known one."""
        job = planned_job(repositories, 1)
        assert repositories.tasks.get_task(make_task_id(NOBODY, 1, 0)) is None
        assert repositories.tasks.get_task(make_task_id(job.job_id, 1, 7)) is None
        with pytest.raises(TaskNotFoundError, match="stageflow tasks"):
            repositories.tasks.require_task(make_task_id(job.job_id, 1, 7))
        with pytest.raises(JobNotFoundError):
            repositories.tasks.list_tasks_for_job(NOBODY, 1)
        with pytest.raises(InvalidValueError, match="limit"):
            repositories.tasks.list_tasks_for_job(job.job_id, 1, 0, 0)

    def test_an_operator_ends_a_task_through_the_barrier(self, repositories: Repositories) -> None:
        """Skipping the last open task closes the stage; processing and completed need a lease."""
        job = planned_job(repositories, 2)
        first, second = repositories.tasks.list_tasks_for_job(job.job_id, 1)
        with pytest.raises(InvalidTransitionError, match="claim_work"):
            repositories.tasks.update_task_status_with_validation(first.task_id, TaskStatus.PROCESSING)
        with pytest.raises(ContractViolationError, match="TaskStatus"):
            repositories.tasks.update_task_status_with_validation(first.task_id, "skipped")  # type: ignore[arg-type]
        assert repositories.tasks.update_task_status_with_validation(first.task_id, TaskStatus.QUEUED) == first
        update = TaskUpdate(error_details="not needed")
        skipped = repositories.tasks.update_task_status_with_validation(first.task_id, TaskStatus.SKIPPED, update)
        assert (skipped.status, skipped.error_details) == (TaskStatus.SKIPPED, "not needed")
        repositories.tasks.update_task_status_with_validation(second.task_id, TaskStatus.FAILED)
        assert claim(repositories, control_work_type("by_hand", 1)).kind == "advance"
        failed = repositories.tasks.list_tasks_for_job(job.job_id, 1, 0, 10, failed_only=True)
        assert [task.task_index for task in failed] == [1]


class TestCompletion:
    """The three atomic operations."""

    def test_exactly_one_finisher_is_the_last(self, repositories: Repositories) -> None:
        """The first is not, the last is and gets the advance lease, a repeat is a typed no-op."""
        job = planned_job(repositories, 2)
        kind = task_work_type("by_hand", 1, "by_hand")
        leases = [claim(repositories, kind), claim(repositories, kind)]
        answers = [
            repositories.completion.complete_task_and_check_stage(lease, result(job.job_id, lease.first), "w", 30.0)
            for lease in leases
        ]
        assert [answer.is_last_task_in_stage for answer in answers] == [False, True]
        assert [answer.remaining_tasks for answer in answers] == [1, 0]
        again = repositories.completion.complete_task_and_check_stage(leases[1], result(job.job_id, leases[1].first), "w", 30.0)
        assert (again.outcome, again.task_updated) == (CompletionOutcome.ALREADY_RECORDED, False)
        assert not again.is_last_task_in_stage
        with pytest.raises(ContractViolationError, match="TaskResult"):
            repositories.completion.complete_task_and_check_stage(leases[0], {}, "w", 30.0)  # type: ignore[arg-type]

    def test_a_job_ends_once_its_last_stage_is_closed(self, repositories: Repositories) -> None:
        """check_job_completion only looks; complete_job stores the last result and ends the job, once."""
        job = planned_job(repositories, 1)
        lease = claim(repositories, task_work_type("by_hand", 1, "by_hand"))
        failed = result(job.job_id, 0, TaskStatus.FAILED)
        answer = repositories.completion.complete_task_and_check_stage(lease, failed, "w", 30.0)
        assert repositories.completion.check_job_completion(job.job_id).job_complete is False
        assert answer.advance is not None
        stage = repositories.stages.require_stage(answer.advance.stage_id)
        stored = repositories.stages.list_task_results(stage.stage_id, 0, 10)
        contract = StageResultContract.from_stage_record(stage, stored, datetime.now(UTC))
        passed = contract.model_copy(update={"status": StageStatus.COMPLETED_WITH_ERRORS})
        ended = repositories.completion.complete_job(answer.advance, passed, '{"sum":1}', [])
        assert (ended.job_complete, ended.job_updated, ended.status) == (True, True, JobStatus.COMPLETED_WITH_ERRORS)
        seen = repositories.completion.check_job_completion(job.job_id)
        assert [each.task_index for each in seen.task_results] == [0]
        assert repositories.completion.complete_job(answer.advance, passed, None, []).job_updated is False
        stored_job = repositories.jobs.require_job(job.job_id)
        assert (stored_job.result_data, stored_job.stage_results["1"].failed_tasks) == ({"sum": 1}, 1)
        advanced = repositories.completion.advance_job_stage(answer.advance, passed, [], "w", 30.0)
        assert advanced.outcome in {AdvanceOutcome.ALREADY_ADVANCED, AdvanceOutcome.STALE, AdvanceOutcome.JOB_ENDED}

    def test_an_unknown_stage_is_a_state_that_cannot_be(self, repositories: Repositories) -> None:
        """A lease names a stage that is there."""
        with pytest.raises(StoreError, match="no stage"):
            repositories.stages.require_stage(10**9)


def test_a_registry_keeps_one_set_per_store(tmp_path: Any) -> None:
    """Pools are shared within a process, and closed together."""
    registry = RepositoryRegistry()
    url = f"sqlite:{tmp_path / 'a.db'}"
    assert registry.get(url) is registry.get(url)
    registry.close()
    assert RepositoryRegistry.instance() is RepositoryRegistry.instance()


def test_repositories_take_a_connection_factory(postgres_dsn: str) -> None:
    """For credentials that expire, in place of an address; an app passes its own on."""
    made: list[psycopg.Connection[Any]] = []

    def connect() -> psycopg.Connection[Any]:
        made.append(psycopg.connect(postgres_dsn))
        return made[-1]

    repositories = RepositoryFactory.create_repositories(connection_factory=connect)
    repositories.store.migrate()
    job = repositories.jobs.create_job_from_params("by_hand", Item(), 1)
    repositories.store.close()
    before = len(made)
    with Stageflow(connection_factory=connect, registry=JobRegistry()) as app:
        assert app.job(job.job_id) == job
    assert len(made) > before > 0


def test_a_store_is_named_by_text() -> None:
    """Anything else is a contract violation that names the parameter."""
    with pytest.raises(ContractViolationError, match="store"):
        RepositoryFactory.create_repositories(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["mysql://x:hunter2@h/d", "", "jobs.db"])
def test_a_store_that_there_is_not_is_refused(url: str) -> None:
    """The error names the forms there are, and no secret."""
    with pytest.raises(InvalidValueError, match="sqlite:PATH") as caught:
        RepositoryFactory.create_repositories(url)
    assert "hunter2" not in str(caught.value)


def test_a_store_in_memory_says_how_it_is_migrated() -> None:
    """No command reaches the memory of another process: the advice is a call."""
    repositories = RepositoryFactory.create_repositories("sqlite::memory:")
    for look in (repositories.store.check_schema, repositories.jobs.list_jobs):
        with pytest.raises(SchemaVersionError, match=r"call `migrate\(\)` on this store"):
            look()
    repositories.store.migrate()
    assert repositories.jobs.list_jobs() == []
    repositories.store.close()


@pytest.mark.parametrize("store", ["sqlite:a\0b", "postgresql://a\0b/c", "\0"])
def test_an_address_with_a_nul_is_refused(store: str) -> None:
    """No file and no server has such a name, and the error says so before anything is opened."""
    with pytest.raises(InvalidValueError, match="has a NUL in it"):
        RepositoryFactory.create_repositories(store)
