"""Where planning, closing and submitting can go wrong, and what is recorded then."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest

from stageflow import (
    BaseController,
    Contract,
    ContractViolationError,
    InvalidValueError,
    JobExecutionContext,
    JobQueueMessage,
    JobRegistry,
    JobStatus,
    OrchestrationAction,
    OrchestrationDataContract,
    PayloadOptions,
    ProcessingOutcome,
    RetryPolicy,
    StageExecutionContext,
    Stageflow,
    StageResults,
    StageResultsMissingError,
    SubmitOutcome,
    TaskDefinition,
    TaskExecutionContext,
    TaskQueueMessage,
    TaskResult,
    TaskStatus,
    WaitTimeoutError,
    WorkerOptions,
    WorkflowDefinitionError,
    stage,
    task,
    workflow,
)
from stageflow.contracts.ids import make_task_id, task_work_type
from stageflow.contracts.lease import ClaimRequest
from stageflow.engine.hooks import error_text
from stageflow.errors import ForeignMessageError, SchemaVersionError
from stageflow.testing.drain import drain_work, move_clock

registry = JobRegistry()
CHUNK = 5000


class Count(Contract):
    """Job parameters."""

    count: int
    text: str = ""


class Item(Contract):
    """Task parameters and result."""

    index: int


class Other(Contract):
    """What no stage here takes."""

    index: int


class Text(Contract):
    """Task parameters of any size."""

    text: str


class PowerCutError(KeyboardInterrupt):
    """Ends a process in the middle of a planner, as a person's Ctrl-C would in the main thread."""


@task("item")
def item(parameters: Item, context: TaskExecutionContext) -> Item:  # noqa: ARG001  the shape of a handler
    """Pass it on."""
    return parameters


@task("bulky")
def bulky(parameters: Text, context: TaskExecutionContext) -> None:
    """Do nothing."""


@task("fail_first", retry=RetryPolicy(max_attempts=1))
def fail_first(parameters: Item, context: TaskExecutionContext) -> Item:
    """Fail the first task."""
    if context.task_index == 0:
        msg = "the first one is bad"
        raise ValueError(msg)
    return parameters


class Interrupted(BaseController[Count]):
    """A planner that is cut off in its second chunk, once."""

    tries: ClassVar[int] = 0
    offset_of_second_try: ClassVar[int] = 0
    items = stage(1, "items", task=item)

    @items.plan
    def plan_items(self, job: JobExecutionContext[Count]) -> Iterator[Item]:
        """Yield the items, or stop dead."""
        cls = type(self)
        cls.tries += 1
        offset = 0 if cls.tries == 1 else cls.offset_of_second_try
        for index in range(job.parameters.count):
            if cls.tries == 1 and index == CHUNK + 10:
                raise PowerCutError
            yield Item(index=index + offset)


@workflow("repeatable", registry=registry)
class Repeatable(Interrupted):
    """Plans the same again."""


@workflow("moody", registry=registry)
class Moody(Interrupted):
    """Plans something else the second time."""

    offset_of_second_try = 1


@workflow("shorter", registry=registry)
class Atomic(BaseController[Count]):
    """Plans something else too, and has said so."""

    tries: ClassVar[int] = 0
    items = stage(1, "items", task=item, plan_atomically=True)

    @items.plan
    def plan_items(self, job: JobExecutionContext[Count]) -> Iterator[Item]:
        """Fewer items the second time."""
        cls = type(self)
        cls.tries += 1
        for index in range(job.parameters.count if cls.tries == 1 else 3):
            if cls.tries == 1 and index == CHUNK + 10:
                raise PowerCutError
            yield Item(index=index)


@workflow("free", registry=registry)
class Free(BaseController[Count]):
    """Plans by the general hook, and wrongly where the text says so."""

    items = stage(1, "items", task=item)
    again = stage(2, "again", task=item, after=items)

    def validate_job_parameters(self, parameters: Count) -> Count:
        """Return another model where the text says so."""
        return Other(index=1) if parameters.text == "other model" else parameters  # type: ignore[return-value]

    def create_stage_tasks(
        self,
        stage_number: int,
        job_id: str,
        job_parameters: Count,
        previous_stage_results: dict[int, StageResults[Any]],
    ) -> Iterator[TaskDefinition[Any]]:
        """Yield definitions, or what the text says."""
        assert sorted(previous_stage_results) == list(range(1, stage_number))
        number = stage_number + 1 if job_parameters.text == "wrong stage" else stage_number
        for index in range(job_parameters.count):
            if job_parameters.text == "no definition":
                yield Item(index=index)  # type: ignore[misc]
            parameters = Other(index=index) if job_parameters.text == "wrong model" else Item(index=index)
            key = "same" if job_parameters.text == "same key" else None
            yield TaskDefinition(
                job_id=job_id,
                job_type="free",
                task_type="item",
                stage_number=number,
                task_index=7 if job_parameters.text == "wrong index" else 0,
                key=key,
                parameters=parameters,
            )

    def aggregate_job_results(self, job: JobExecutionContext[Count], stage_results: dict[int, StageResults[Any]]) -> Contract:
        """Return a model that the annotation does not name."""
        return Item(index=len(stage_results) + job.parameters.count)


@pytest.fixture
def app() -> Iterator[Stageflow]:
    """Give an app in memory that no worker works on."""
    with Stageflow("sqlite::memory:", registry=registry, payloads=PayloadOptions(max_bytes=1_048_576)) as made:
        yield made


def cut_off(app: Stageflow, controller: type[BaseController[Any]]) -> str:
    """Submit a job whose planner is cut off in its second chunk, and let its lease expire."""
    job_id = app.submit(controller, Count(count=CHUNK + 20), new_run=True).job.job_id
    with pytest.raises(PowerCutError):
        drain_work(app)
    stored = app.progress(job_id).stages[0]
    assert 0 < stored.task_count <= CHUNK
    assert not stored.planned
    move_clock(app, 3600)
    assert app.maintain().recovery.returned == 1
    return job_id


def test_a_planner_that_was_cut_off_goes_on_where_it_was(app: Stageflow) -> None:
    """What is stored is kept, and every task is there once."""
    Repeatable.tries = 0
    job_id = cut_off(app, Repeatable)
    drain_work(app)
    job = app.job(job_id)
    assert job.status is JobStatus.COMPLETED
    assert job.stage_results["1"].task_count == CHUNK + 20


def test_a_planner_that_plans_something_else_fails_the_job(app: Stageflow) -> None:
    """The digest of what is stored does not lie."""
    Moody.tries = 0
    job_id = cut_off(app, Moody)
    drain_work(app)
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert "planned other tasks" in str(job.error_details)


def test_an_atomic_plan_begins_anew(app: Stageflow) -> None:
    """Nothing was claimable, so nothing of the first try is left."""
    Atomic.tries = 0
    job_id = cut_off(app, Atomic)
    assert drain_work(app) == 3
    assert app.job(job_id).stage_results["1"].task_count == 3


@workflow("lazy", registry=registry)
class Lazy(BaseController[Count]):
    """Plans nothing the second time."""

    tries: ClassVar[int] = 0
    items = stage(1, "items", task=item)

    @items.plan
    def plan_items(self, job: JobExecutionContext[Count]) -> Iterator[Item]:
        """Yield the items, or stop dead, or have nothing to do."""
        cls = type(self)
        cls.tries += 1
        for index in range(job.parameters.count if cls.tries == 1 else 0):
            if index == CHUNK + 10:
                raise PowerCutError
            yield Item(index=index)


def test_a_planner_that_plans_less_fails_the_job(app: Stageflow) -> None:
    """Tasks that are stored cannot be taken back."""
    Lazy.tries = 0
    job_id = cut_off(app, Lazy)
    drain_work(app)
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert "planned other tasks" in str(job.error_details)


@workflow("wide_failure", registry=registry)
class WideFailure(BaseController[Count]):
    """A stage that is too wide for its results to travel with it, and fails."""

    fails = stage(1, "fails", task=fail_first)

    @fails.plan
    def plan_fails(self, job: JobExecutionContext[Count]) -> Iterator[Item]:
        """Plan the items."""
        for index in range(job.parameters.count):
            yield Item(index=index)


def test_a_wide_stage_that_fails_says_how_many_tasks_did(app: Stageflow) -> None:
    """Beyond a thousand tasks the job's error still has the counts and the first failure; the others are listed."""
    job_id = app.submit(WideFailure, Count(count=1001)).job.job_id
    with app.worker():
        answer = app.wait(job_id, timeout=60)
    counts = "stage 1 failed: 1 of 1001 tasks failed, 0 were skipped, 1000 completed; first failure, task 0: Traceback"
    assert str(answer.error_details).startswith(counts)
    (failed,) = app.repositories.tasks.list_tasks_for_job(job_id, 1, failed_only=True)
    assert "the first one is bad" in str(failed.error_details)


@workflow("cut_at_the_end", registry=registry)
class CutAtTheEnd(BaseController[Count]):
    """A parallel group that ends the job, whose last closer is cut off once between the stage and the job."""

    closed: ClassVar[list[int]] = []
    cuts: ClassVar[int] = 0
    forks = stage(1, "forks", task=item)
    left = stage(2, "left", task=item, after=forks)
    right = stage(3, "right", task=item, after=forks)

    @forks.plan
    def plan_forks(self, job: JobExecutionContext[Count]) -> Iterator[Item]:
        """Plan one item."""
        yield Item(index=job.parameters.count)

    @forks.orchestrate
    def fork(self, job: JobExecutionContext[Count], results: StageResults[Item]) -> OrchestrationDataContract:  # noqa: ARG002
        """Run the other two together."""
        return OrchestrationDataContract(action=OrchestrationAction.PARALLEL_STAGES, stages=[2, 3])

    @left.plan
    def plan_left(self, job: JobExecutionContext[Count], forks: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """Plan what there was."""
        yield from forks

    @right.plan
    def plan_right(self, job: JobExecutionContext[Count], forks: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """Plan what there was."""
        yield from forks

    def should_advance_stage(self, job: JobExecutionContext[Count], stage: StageExecutionContext) -> bool:
        """Note the stage."""
        self.closed.append(stage.stage_number)
        return super().should_advance_stage(job, stage)

    def aggregate_job_results(self, job: JobExecutionContext[Count], stage_results: dict[int, StageResults[Any]]) -> Item:  # noqa: ARG002
        """Stop dead the first time, answer the second."""
        cls = type(self)
        cls.cuts += 1
        if cls.cuts == 1:
            raise PowerCutError
        return Item(index=sum(each.index for results in stage_results.values() for each in results))


def test_an_end_that_was_cut_off_is_finished_from_what_is_stored(app: Stageflow) -> None:
    """The stage's result was stored before the power went: it is read, not made again, and the job ends with its answer."""
    CutAtTheEnd.cuts = 0
    CutAtTheEnd.closed.clear()
    job_id = app.submit(CutAtTheEnd, Count(count=7)).job.job_id
    with pytest.raises(PowerCutError):
        drain_work(app)
    assert sorted(app.job(job_id).stage_results) == ["1", "2", "3"]
    assert app.job(job_id).status is JobStatus.PROCESSING
    move_clock(app, 3600)
    assert app.maintain().recovery.returned == 1
    drain_work(app)
    assert app.result(job_id, timeout=0) == Item(index=21)
    assert sorted(CutAtTheEnd.closed) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no definition", "must yield TaskDefinition"),
        ("wrong stage", "not of stage 1"),
        ("wrong model", "takes Item"),
        ("wrong index", "says task_index 7"),
        ("same key", "same"),
    ],
)
def test_a_wrong_plan_fails_the_job(app: Stageflow, text: str, said: str) -> None:
    """What a planning hook yields is checked one by one."""
    job_id = app.submit(Free, Count(count=2, text=text), new_run=True).job.job_id
    assert drain_work(app) == 0
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert said in str(job.error_details)


def test_the_answer_must_be_annotated_with_its_model(app: Stageflow) -> None:
    """An answer is stored as it is; reading it as a model needs to know which."""
    job_id = app.submit(Free, Count(count=2), new_run=True).job.job_id
    with pytest.raises(WaitTimeoutError, match="is a worker running"):
        app.wait(job_id, timeout=0.01)
    drain_work(app)
    assert app.wait(job_id).result_data == {"index": 4}
    with pytest.raises(WorkflowDefinitionError, match="annotated"):
        app.result(job_id)


class TestSubmit:
    """A request is whole, or it is refused."""

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("idempotency_key", key) for key in (" ", "a\0", "a\ud800", "a" * 501, 5, None)),
            *(("priority", priority) for priority in (1001, True, "1")),
            *(("not_before", moment) for moment in (datetime(2026, 1, 1), "2026-01-01T00:00:00Z")),  # noqa: DTZ001  naive
            ("new_run", 1),
        ],
    )
    def test_an_option_of_the_wrong_kind_is_refused_by_its_name(self, app: Stageflow, option: str, value: Any) -> None:
        """Wrong types, text that no store can hold, numbers out of range, naive datetimes: one error, nothing stored."""
        with pytest.raises(InvalidValueError, match=f"submit: {option}: "):
            app.submit(Free, Count(count=1), **{option: value})
        assert app.repositories.jobs.list_jobs() == []

    @pytest.mark.parametrize("ref", [3, None, [], Count(count=1), str])
    def test_what_names_no_workflow_is_refused(self, app: Stageflow, ref: Any) -> None:
        """A workflow is its controller class or its job type."""
        with pytest.raises(ContractViolationError, match="'ref'"):
            app.submit(ref, Count(count=1))

    @pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf")])
    def test_a_wait_needs_a_length_of_time(self, app: Stageflow, timeout: float) -> None:
        """NaN compares false with everything, and would wait for ever."""
        job_id = app.submit(Free, Count(count=1)).job.job_id
        with pytest.raises(InvalidValueError, match="timeout"):
            app.wait(job_id, timeout=timeout)

    def test_a_reason_that_no_store_can_hold_is_refused(self, app: Stageflow) -> None:
        """The job goes on."""
        job_id = app.submit(Free, Count(count=1)).job.job_id
        for reason in ("a\0", "a\ud800"):
            with pytest.raises(InvalidValueError, match="the reason"):
                app.cancel(job_id, reason=reason)
        assert app.job(job_id).status is JobStatus.QUEUED

    def test_a_key_and_a_new_run_exclude_each_other(self, app: Stageflow) -> None:
        """One says the same job, the other says another."""
        with pytest.raises(InvalidValueError, match="either"):
            app.submit(Free, Count(count=1), idempotency_key="a", new_run=True)

    def test_parameters_that_are_too_large_are_refused(self, app: Stageflow) -> None:
        """The error says how large, and what to do."""
        with pytest.raises(InvalidValueError, match="blob"):
            app.submit(Free, Count(count=1, text="x" * 1_048_576))

    def test_nul_is_refused(self, app: Stageflow) -> None:
        """PostgreSQL could not store it, so SQLite does not either."""
        with pytest.raises(InvalidValueError, match="NUL"):
            app.submit(Free, Count(count=1, text="\0"))
        assert app.repositories.jobs.list_jobs() == []

    def test_another_model_is_a_contract_violation(self, app: Stageflow) -> None:
        """Whether it comes from the caller or from the validation hook."""
        with pytest.raises(ContractViolationError, match="must be Count"):
            app.submit(Free, Other(index=1))  # type: ignore[misc]  # what the test is about
        with pytest.raises(ContractViolationError, match="validate_job_parameters"):
            app.submit(Free, Count(count=1, text="other model"))

    def test_many_jobs_are_created_at_once(self, app: Stageflow) -> None:
        """Each is answered for; the same request twice is one job."""
        answers = app.submit_many(Free, [Count(count=1), Count(count=2), Count(count=1)])
        assert [answer.outcome for answer in answers] == [SubmitOutcome.CREATED, SubmitOutcome.CREATED, SubmitOutcome.RUNNING]
        assert answers[0].job.job_id == answers[2].job.job_id

    def test_a_job_commits_with_the_transaction_of_the_application_on_sqlite(self, tmp_path: Path) -> None:
        """Rolled back, it was never there; committed, it is."""
        path = tmp_path / "jobs.db"
        with Stageflow(f"sqlite:{path}", registry=registry) as app:
            connection = sqlite3.connect(path, isolation_level=None)
            for ending, there in (("rollback", 0), ("commit", 1)):
                connection.execute("begin immediate")
                submission = app.submit(Free, Count(count=1), connection=connection)
                assert submission.outcome is SubmitOutcome.CREATED
                connection.execute(ending)
                assert len(app.repositories.jobs.list_jobs()) == there
            connection.close()

    def test_a_connection_to_another_database_is_refused_on_sqlite(self, tmp_path: Path) -> None:
        """The job would be there, where nobody works on it, or not at all; one that only attaches another file is fine."""
        for name in ("own.db", "other.db"):
            with Stageflow(f"sqlite:{tmp_path / name}", registry=registry) as each:
                each.migrate()
        (tmp_path / "link.db").symlink_to(tmp_path / "own.db")
        with Stageflow(f"sqlite:{tmp_path / 'own.db'}", registry=registry) as app:
            for other in (str(tmp_path / "other.db"), str(tmp_path / "empty.db"), ":memory:"):
                with closing(sqlite3.connect(other)) as connection:
                    named = "a database in memory" if other == ":memory:" else Path(other).name
                    with pytest.raises(InvalidValueError, match=f"leads to .*{named}, and the app's store is .*own.db"):
                        app.submit(Free, Count(count=1), connection=connection)
            with closing(sqlite3.connect(tmp_path / "link.db")) as connection:
                connection.row_factory = sqlite3.Row
                connection.execute("attach ? as other", (str(tmp_path / "other.db"),))
                app.submit(Free, Count(count=1), connection=connection)
                connection.commit()
            assert len(app.repositories.jobs.list_jobs()) == 1
        with (
            Stageflow("sqlite::memory:", registry=registry) as app,
            closing(sqlite3.connect(tmp_path / "own.db")) as connection,
        ):
            app.migrate()
            with pytest.raises(InvalidValueError, match=r"own\.db, and the app's store is sqlite:///:memory:"):
                app.submit(Free, Count(count=1), connection=connection)

    def test_a_connection_that_is_closed_is_refused(self, tmp_path: Path, postgres_dsn: str) -> None:
        """It is the argument that is wrong, not the store."""
        with Stageflow(f"sqlite:{tmp_path / 'jobs.db'}", registry=registry) as app:
            app.migrate()
            file = sqlite3.connect(tmp_path / "jobs.db")
            file.close()
            with pytest.raises(InvalidValueError, match=r"closed database.*pass one that is open"):
                app.submit(Free, Count(count=1), connection=file)
        with Stageflow(postgres_dsn, registry=registry) as app:
            app.migrate()
            server = psycopg.connect(postgres_dsn)
            server.close()
            with pytest.raises(InvalidValueError, match="the connection is closed; pass the one"):
                app.submit(Free, Count(count=1), connection=server)

    def test_a_connection_to_a_database_without_a_schema_is_named_on_postgresql(self, postgres_dsn: str) -> None:
        """The error has the address of the connection, not that of the app's store, which is well."""
        with Stageflow(postgres_dsn, registry=registry) as app, psycopg.connect(postgres_dsn, dbname="template1") as connection:
            app.migrate()
            with pytest.raises(SchemaVersionError, match=r"template1.*\(the connection that was passed\) is not what"):
                app.submit(Free, Count(count=1), connection=connection)

    def test_a_job_commits_with_the_transaction_of_the_application_on_postgresql(self, postgres_dsn: str) -> None:
        """Rolled back, it was never there; committed, it is."""
        with Stageflow(postgres_dsn, registry=registry) as app:
            app.migrate()
            with psycopg.connect(postgres_dsn) as connection:
                app.submit(Free, Count(count=1), connection=connection)
                connection.rollback()
                assert app.repositories.jobs.list_jobs() == []
                app.submit(Free, Count(count=1), connection=connection)
                connection.commit()
                assert len(app.repositories.jobs.list_jobs()) == 1


class TestBoundaryMethods:
    """A host calls with one message; a second time changes nothing."""

    def test_a_job_is_carried_by_messages_alone(self, app: Stageflow) -> None:
        """Plan, run, advance: each message does its part, and a repeat is a duplicate."""
        job = app.submit(Free, Count(count=2), new_run=True).job
        controller = registry.find(Free).controller
        first = JobQueueMessage(job_id=job.job_id, job_type="free", stage_number=1)
        planned = controller.process_job_queue_message(first)
        assert (planned.outcome, planned.stages_planned) == (ProcessingOutcome.DONE, [1])
        assert controller.process_job_queue_message(first).outcome is ProcessingOutcome.DUPLICATE
        work = TaskQueueMessage(job_id=job.job_id, job_type="free", task_type="item", stage_number=1, first=0, last=2)
        ran = controller.process_task_queue_message(work)
        assert (ran.tasks_run, ran.stages_advanced, ran.stages_planned) == (2, [1], [2])
        assert controller.process_task_queue_message(work).outcome is ProcessingOutcome.DUPLICATE
        rest = work.model_copy(update={"stage_number": 2})
        assert controller.process_task_queue_message(rest).job_ended
        assert app.job(job.job_id).status is JobStatus.COMPLETED
        assert controller.process_job_stage(app.job(job.job_id), 2).outcome is ProcessingOutcome.DUPLICATE
        assert controller._handle_stage_completion(job.job_id, 2).outcome is ProcessingOutcome.DUPLICATE  # noqa: SLF001

    def test_a_host_finishes_a_stage_whose_closer_died(self, app: Stageflow) -> None:
        """The single way from a finished stage to the next one is open to a host too, once nobody else holds it."""
        job_id = app.submit(Free, Count(count=1), new_run=True).job.job_id
        controller = registry.find(Free).controller
        assert controller.process_job_stage(app.job(job_id), 1).stages_planned == [1]
        request = ClaimRequest(
            worker_id="ghost",
            work_types=[task_work_type("free", 1, "item")],
            max_tasks=[1],
            max_leases=1,
            lease_seconds=30.0,
        )
        (lease,) = app.repositories.leases.claim_work(request).leases
        ended = TaskResult(
            task_id=make_task_id(job_id, 1, 0),
            job_id=job_id,
            stage_number=1,
            task_index=0,
            task_type="item",
            status=TaskStatus.COMPLETED,
            result_data={"index": 0},
            completed_at=app.repositories.store.now(),
        )
        assert app.repositories.completion.complete_task_and_check_stage(lease, ended, "ghost", 30.0).is_last_task_in_stage
        assert controller._handle_stage_completion(job_id, 1).outcome is ProcessingOutcome.LEASED  # noqa: SLF001
        move_clock(app, 3600)
        app.maintain()
        closed = controller._handle_stage_completion(job_id, 1)  # noqa: SLF001
        assert (closed.outcome, closed.stages_advanced) == (ProcessingOutcome.DONE, [1])
        drain_work(app)
        assert app.job(job_id).status is JobStatus.COMPLETED

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"job_id": "0" * 64}, "there is no job"),
            ({"job_type": "other"}, "not 'other'"),
            ({"stage_number": 9}, "there is no stage 9 of run 1"),
            ({"run": 2}, "there is no stage 1 of run 2"),
        ],
    )
    def test_a_message_that_names_foreign_work_is_refused(self, app: Stageflow, changes: dict[str, Any], reason: str) -> None:
        """An unknown job, another type, a stage beyond the last: no work of this store, said loudly."""
        job = app.submit(Free, Count(count=2), new_run=True).job
        controller = registry.find(Free).controller
        hint = JobQueueMessage(job_id=job.job_id, job_type="free", stage_number=1)
        work = TaskQueueMessage(job_id=job.job_id, job_type="free", task_type="item", stage_number=1, first=0, last=2)
        with pytest.raises(ForeignMessageError, match=reason):
            controller.process_job_queue_message(hint.model_copy(update=changes))
        with pytest.raises(ForeignMessageError, match=reason):
            controller.process_task_queue_message(work.model_copy(update=changes))
        with pytest.raises(ForeignMessageError, match="runs 'item', not 'other'"):
            controller.process_task_queue_message(work.model_copy(update={"task_type": "other"}))

    def test_stage_results_are_there_or_the_error_lists_those_that_are(self, app: Stageflow) -> None:
        """A missing result names the stages there are, and is a KeyError and a ValueError too."""
        job_id = app.submit(Free, Count(count=1), new_run=True).job.job_id
        controller = registry.find(Free).controller
        with pytest.raises(StageResultsMissingError, match="none"):
            controller._validate_and_get_stage_results(app.job(job_id), 1)  # noqa: SLF001
        drain_work(app)
        job = app.job(job_id)
        assert controller._validate_and_get_stage_results(job, 1).task_count == 1  # noqa: SLF001
        with pytest.raises(KeyError, match="1, 2"):
            controller._validate_and_get_stage_results(job, 3)  # noqa: SLF001


def test_a_huge_error_is_shortened_in_the_middle_and_redacted() -> None:
    """What is stored stays small, and shows no secret."""
    text = error_text(ValueError("password=hunter2 " + "x" * 100_000 + "\0\ud800 end"))
    assert len(text) < 25_000
    assert "left out" in text
    assert "hunter2" not in text
    assert "\0" not in text
    assert text.encode()


def test_create_tasks_reads_the_older_name() -> None:
    """stage_2_parameters is next_stage_parameters."""
    text = '{"action": "CREATE_TASKS", "items": [], "stage_2_parameters": {"a": 1}}'
    assert OrchestrationDataContract.from_json(text).next_stage_parameters == {"a": 1}


EXITS = {
    error.__name__: error for error in (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration)
}


@workflow("exits", registry=registry)
class ExitingController(BaseController[Count]):
    """Hooks that leave in ways that ``except Exception`` does not see."""

    items = stage(1, "items", task=item)

    @items.plan
    def plan_items(self, job: JobExecutionContext[Count]) -> Iterator[Item]:
        """Leave the thread, as somebody's script would; a generator's own StopIteration is a RuntimeError."""
        yield Item(index=0)
        place, _, error = job.parameters.text.partition(" ")
        if place == "plan":
            raise EXITS[error]

    def should_advance_stage(self, job: JobExecutionContext[Count], stage: StageExecutionContext) -> bool:  # noqa: ARG002
        """Leave likewise."""
        place, _, error = job.parameters.text.partition(" ")
        if place == "advance":
            raise EXITS[error]
        return True


@pytest.mark.parametrize("error", EXITS)
@pytest.mark.parametrize("place", ["plan", "advance"])
def test_a_hook_that_leaves_the_thread_fails_its_job_only(app: Stageflow, place: str, error: str) -> None:
    """The job ends with the reason, and the only slot there is lives on for the next job."""
    job_id = app.submit(ExitingController, Count(count=1, text=f"{place} {error}"), new_run=True).job.job_id
    with app.worker(WorkerOptions(slots=1)):
        answer = app.wait(job_id, timeout=30)
        well = app.submit(ExitingController, Count(count=1), new_run=True).job.job_id
        assert app.wait(well, timeout=30).status is JobStatus.COMPLETED
    assert answer.status is JobStatus.FAILED
    assert error in str(answer.error_details)


@workflow("bulky", registry=registry)
class BulkyController(BaseController[Count]):
    """Plans a task that is too large."""

    texts = stage(1, "texts", task=bulky)

    @texts.plan
    def plan_texts(self, job: JobExecutionContext[Count]) -> Iterator[Text]:
        """Yield one task after the other, of as many characters as the job says."""
        for size in (1, job.parameters.count):
            yield Text(text="x" * size)


def test_a_task_whose_parameters_are_too_large_fails_the_job(app: Stageflow) -> None:
    """The reason says how large and what to do; nothing runs."""
    job_id = app.submit(BulkyController, Count(count=1_048_576), new_run=True).job.job_id
    assert drain_work(app) == 0
    job = app.job(job_id)
    assert job.status is JobStatus.FAILED
    assert "write it to a blob" in str(job.error_details)


def test_large_parameters_are_written_in_several_chunks(app: Stageflow) -> None:
    """A chunk is bounded in characters too, so that planning is bounded in memory."""
    job_id = app.submit(BulkyController, Count(count=1_048_000), new_run=True).job.job_id
    assert drain_work(app) == 2
    assert app.job(job_id).status is JobStatus.COMPLETED
