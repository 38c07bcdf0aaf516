"""A controller that writes its hooks by hand: each is called, is checked, and has the last word that is its own."""

from collections.abc import Iterator
from typing import Any, ClassVar, cast

import pytest
from pydantic import Field

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    OrchestrationAction,
    OrchestrationDataContract,
    RetryPolicy,
    StageAggregate,
    StageExecutionContext,
    Stageflow,
    StageResults,
    StageStatus,
    TaskDefinition,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.testing import drain_work

registry = JobRegistry()
NEVER = RetryPolicy(max_attempts=1)


class Case(Contract):
    """Job parameters: what happens in this run."""

    name: str = ""
    values: list[int] = Field(default_factory=lambda: [1, 2])


class Number(Contract):
    """Task parameters, task result and answer."""

    value: int


@task("positive", retry=NEVER)
def positive(parameters: Number, context: TaskExecutionContext) -> Number:
    """Pass on what is not negative."""
    if parameters.value < 0:
        msg = f"task {context.task_index} got {parameters.value}"
        raise ValueError(msg)
    return parameters


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each kind of store, that no worker works on."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        yield made


def ended(app: Stageflow, controller: type[BaseController[Any]], parameters: Contract) -> Any:
    """Run a job of its own to its end."""
    job_id = app.submit(controller, parameters, new_run=True).job.job_id
    drain_work(app)
    return app.wait(job_id, timeout=0)


def statuses(result: Any) -> list[str]:
    """Return the status of each stage that has a result, in order."""
    return [str(each.status) for _, each in sorted(result.stage_results.items())]


# Hooks by hand.


UNSTORABLE = {"nul": {"text": "\0"}, "surrogate": {"text": "\ud800"}}


@workflow("by_hand", registry=registry)
class ByHand(BaseController[Case]):
    """Overrides all six hooks, and notes each call."""

    calls: ClassVar[list[str]] = []
    first = stage(1, "first", task=positive)
    second = stage(2, "second", task=positive)

    def validate_job_parameters(self, parameters: Case) -> Case:
        """Leave out the zeros: the job is submitted with what comes back."""
        self.calls.append("validate_job_parameters")
        return Case(name=parameters.name, values=[value for value in parameters.values if value])

    def create_stage_tasks(
        self,
        stage_number: int,
        job_id: str,
        job_parameters: Case,
        previous_stage_results: dict[int, StageResults[Any]],
    ) -> Iterator[TaskDefinition[Any]]:
        """Plan stage 1."""
        self.calls.append(f"create_stage_tasks {stage_number} after {sorted(previous_stage_results)}")
        for value in job_parameters.values:
            yield self.definition_of(stage_number, job_id, value)

    def create_tasks_from_orchestration(
        self,
        stage_number: int,
        job_id: str,
        job_parameters: Case,
        orchestration: OrchestrationDataContract,
    ) -> Iterator[TaskDefinition[Any]]:
        """Plan stage 2 from items of a form of its own."""
        self.calls.append(f"create_tasks_from_orchestration {stage_number} for {job_parameters.name}")
        for item in orchestration.items:
            yield self.definition_of(stage_number, job_id, cast("int", item["half"]) * 2)

    def aggregate_stage_results(
        self,
        job: JobExecutionContext[Case],
        stage: StageExecutionContext,
        results: StageResults[Any],
    ) -> StageAggregate:
        """Say the sum, and decide what stage 2 does."""
        self.calls.append(f"aggregate_stage_results {stage.stage_number}")
        metadata: dict[str, Any] = {"sum": sum(each.value for each in results)}
        metadata |= UNSTORABLE.get(job.parameters.name, {})
        if job.parameters.name == "no aggregate":
            return cast("StageAggregate", metadata)
        if stage.stage_number == 2:
            return StageAggregate(metadata=metadata)
        items: list[dict[str, Any]] = [{"half": each.value} for each in results]
        create = OrchestrationDataContract(action=OrchestrationAction.CREATE_TASKS, items=items)
        return StageAggregate(metadata=metadata, orchestration=create)

    def should_advance_stage(self, job: JobExecutionContext[Case], stage: StageExecutionContext) -> bool:
        """Go on."""
        self.calls.append(f"should_advance_stage {stage.stage_number} {stage.name} {stage.result.status}")
        return cast("bool", 1) if job.parameters.name == "no bool" else True

    def aggregate_job_results(self, job: JobExecutionContext[Case], stage_results: dict[int, StageResults[Any]]) -> Number:
        """Answer with what the stages said."""
        self.calls.append(f"aggregate_job_results {sorted(stage_results)}")
        if job.parameters.name == "no contract":
            return cast("Number", {"value": 1})
        return Number(value=sum(cast("int", job.get_stage_result(number).metadata["sum"]) for number in (1, 2)))

    def definition_of(self, stage_number: int, job_id: str, value: int) -> TaskDefinition[Number]:
        """Return a task."""
        return TaskDefinition(
            job_id=job_id,
            job_type="by_hand",
            task_type="positive",
            stage_number=stage_number,
            parameters=Number(value=value),
        )


def test_every_hook_is_really_called(app: Stageflow) -> None:
    """Each in its place, once, with what came before it; and what it returns counts."""
    ByHand.calls.clear()
    result = ended(app, ByHand, Case(name="all", values=[0, 3, 4]))
    assert ByHand.calls == [
        "validate_job_parameters",
        "create_stage_tasks 1 after []",
        "aggregate_stage_results 1",
        "should_advance_stage 1 first completed",
        "create_tasks_from_orchestration 2 for all",
        "aggregate_stage_results 2",
        "should_advance_stage 2 second completed",
        "aggregate_job_results [1, 2]",
    ]
    assert result.status is JobStatus.COMPLETED
    assert [result.stage_results[key].metadata for key in ("1", "2")] == [{"sum": 7}, {"sum": 14}]
    assert app.job(result.job_id).parameters["values"] == [3, 4]
    assert app.result(result.job_id) == Number(value=21)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no aggregate", "aggregate_stage_results must return StageAggregate, it returned dict"),
        ("no bool", "should_advance_stage must return bool, it returned int: 1"),
        ("no contract", "aggregate_job_results must return Contract or NoneType, it returned dict"),
        ("nul", "the payload holds text with a NUL character"),
        ("surrogate", "the result of stage 1 cannot be stored"),
    ],
)
@pytest.mark.faults
def test_f22_a_hook_by_hand_is_checked_by_its_caller(app: Stageflow, name: str, said: str) -> None:
    """An override carries no decorator, and its answer is checked all the same."""
    result = ended(app, ByHand, Case(name=name))
    assert result.status is JobStatus.FAILED
    assert said in str(result.error_details)


# The verdict.


@workflow("judged", registry=registry)
class Judged(BaseController[Case]):
    """Its policy wants every task to succeed; its judge may say otherwise."""

    tries = stage(1, "try", task=positive, policy=FailurePolicy.all_must_succeed())
    counts = stage(2, "count", task=positive, after=tries)

    @tries.plan
    def plan_tries(self, job: JobExecutionContext[Case]) -> Iterator[Number]:
        """Plan the values."""
        for value in job.parameters.values:
            yield Number(value=value)

    @tries.should_advance
    def judge(self, job: JobExecutionContext[Case], stage: StageExecutionContext) -> bool:
        """Overrule the policy where the job says so."""
        return job.parameters.name == "lenient" or stage.result.status is not StageStatus.FAILED

    @counts.plan
    def plan_counts(self, job: JobExecutionContext[Case], tries: StageResults[Number]) -> Iterator[Number]:
        """Plan one task."""
        assert job.get_stage_result(1).failed_tasks == len(list(tries.failures()))
        yield Number(value=len(tries))


@pytest.mark.parametrize(
    ("name", "values", "status", "stages"),
    [
        ("lenient", [1, -1], JobStatus.COMPLETED_WITH_ERRORS, ["completed_with_errors", "completed"]),
        ("lenient", [-1], JobStatus.COMPLETED_WITH_ERRORS, ["completed_with_errors", "completed"]),
        ("strict", [1, -1], JobStatus.FAILED, ["failed"]),
        ("strict", [1, 2], JobStatus.COMPLETED, ["completed", "completed"]),
    ],
)
def test_should_advance_overrules_the_policy(
    app: Stageflow, name: str, values: list[int], status: JobStatus, stages: list[str]
) -> None:
    """A stage is failed if and only if it stops the job, whatever its policy had said."""
    result = ended(app, Judged, Case(name=name, values=values))
    assert (result.status, statuses(result)) == (status, stages)


# The ends of a job.


@workflow("ending", registry=registry)
class Ending(BaseController[Case]):
    """Two stages, each of which can end the job; the job's name says which does, and how."""

    first = stage(1, "first", task=positive)
    last = stage(2, "last", task=positive, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Case]) -> Iterator[Number]:
        """Plan the values."""
        for value in job.parameters.values:
            yield Number(value=value)

    @first.orchestrate
    def decide_first(self, job: JobExecutionContext[Case], results: StageResults[Number]) -> OrchestrationDataContract | None:
        """Decide in stage 1."""
        assert len(results)
        return self.decision(job.parameters.name, "first")

    @last.plan
    def plan_last(self, job: JobExecutionContext[Case], first: StageResults[Number]) -> Iterator[Number]:
        """Plan what the first stage returned."""
        assert job.total_stages == 2
        yield from first

    @last.orchestrate
    def decide_last(self, job: JobExecutionContext[Case], results: StageResults[Number]) -> OrchestrationDataContract | None:
        """Decide in stage 2."""
        assert len(results)
        return self.decision(job.parameters.name, "last")

    def decision(self, name: str, place: str) -> OrchestrationDataContract | None:
        """Return the decision that the job's name asks for in this place."""
        action, where = name.split()
        if where != place:
            return None
        return OrchestrationDataContract(action=OrchestrationAction(action), reason="enough is known")

    def aggregate_job_results(self, job: JobExecutionContext[Case], stage_results: dict[int, StageResults[Any]]) -> Number:
        """Answer with the number of stages that ran, and of those that have a result."""
        return Number(value=10 * len(stage_results) + len(job.stage_results))


@pytest.mark.parametrize(
    ("name", "answer", "stages"),
    [("COMPLETE_JOB first", 11, ["completed", "skipped"]), ("COMPLETE_JOB last", 22, ["completed", "completed"])],
)
def test_a_job_that_completes_early_has_its_answer(app: Stageflow, name: str, answer: int, stages: list[str]) -> None:
    """COMPLETE_JOB asks aggregate_job_results, without the stages it skips; the last stage may say it too."""
    result = ended(app, Ending, Case(name=name))
    assert (result.status, statuses(result)) == (JobStatus.COMPLETED, stages)
    assert app.result(result.job_id) == Number(value=answer)
    decided = [each.orchestration for each in result.stage_results.values() if each.orchestration is not None]
    assert [each.reason for each in decided] == ["enough is known"]


@pytest.mark.parametrize(("name", "number"), [("FAIL_JOB first", 1), ("FAIL_JOB last", 2)])
def test_a_job_that_is_failed_has_no_answer_and_the_reason(app: Stageflow, name: str, number: int) -> None:
    """FAIL_JOB ends the job from any stage; the stage that said so keeps its own result."""
    result = ended(app, Ending, Case(name=name))
    assert (result.status, result.result_data) == (JobStatus.FAILED, None)
    assert result.error_details == f"stage {number} ended the job: enough is known"
    assert statuses(result) == ["completed"] * number


@pytest.mark.parametrize("action", ["SKIP_STAGE", "CREATE_TASKS"])
def test_the_last_stage_has_nothing_to_steer(app: Stageflow, action: str) -> None:
    """Whatever needs a next stage is an error after the last one."""
    result = ended(app, Ending, Case(name=f"{action} last"))
    assert result.status is JobStatus.FAILED
    assert f"stage 2 is the last one, {action} has nothing to act on" in str(result.error_details)


@workflow("failing_group", registry=registry)
class FailingGroup(BaseController[Case]):
    """Two stages that run together, one of which fails the job, and one that would come after."""

    forks = stage(1, "fork", task=positive)
    left = stage(2, "left", task=positive, after=forks)
    right = stage(3, "right", task=positive, after=forks)
    joins = stage(4, "join", task=positive, after=(left, right))

    @forks.plan
    def plan_forks(self, job: JobExecutionContext[Case]) -> Iterator[Number]:
        """Plan the values."""
        for value in job.parameters.values:
            yield Number(value=value)

    @forks.orchestrate
    def fork(self, job: JobExecutionContext[Case], results: StageResults[Number]) -> OrchestrationDataContract:
        """Run both together."""
        assert len(results) == len(job.parameters.values)
        return OrchestrationDataContract(action=OrchestrationAction.PARALLEL_STAGES, stages=[2, 3])

    @left.plan
    def plan_left(self, job: JobExecutionContext[Case], forks: StageResults[Number]) -> Iterator[Number]:
        """Plan what the first stage returned."""
        assert job.run == 1
        yield from forks

    @left.orchestrate
    def decide_left(self, job: JobExecutionContext[Case], results: StageResults[Number]) -> OrchestrationDataContract:
        """Decide in the group."""
        assert len(results)
        return OrchestrationDataContract(action=OrchestrationAction(job.parameters.name), reason="the left is bad")

    @right.plan
    def plan_right(self, job: JobExecutionContext[Case], forks: StageResults[Number]) -> Iterator[Number]:
        """Plan what the first stage returned."""
        assert job.run == 1
        yield from forks

    @joins.plan
    def plan_joins(
        self, job: JobExecutionContext[Case], left: StageResults[Number], right: StageResults[Number]
    ) -> Iterator[Number]:
        """Never reached."""
        msg = f"{job.job_id} went on after {len(left)} and {len(right)}"
        raise AssertionError(msg)


def test_a_stage_of_a_group_can_fail_the_job(app: Stageflow) -> None:
    """FAIL_JOB in a group: its siblings are closed, nothing follows, and the stage that said so is failed."""
    result = ended(app, FailingGroup, Case(name="FAIL_JOB"))
    assert result.status is JobStatus.FAILED
    assert "parallel group 2 to 3" in str(result.error_details)
    assert sorted(result.stage_results) == ["1", "2", "3"]
    assert result.stage_results["2"].status is StageStatus.FAILED


def test_a_stage_of_a_group_can_do_nothing_else(app: Stageflow) -> None:
    """A stage cannot complete a job beside siblings that still run."""
    result = ended(app, FailingGroup, Case(name="COMPLETE_JOB"))
    assert result.status is JobStatus.FAILED
    assert "only FAIL_JOB is allowed, not COMPLETE_JOB" in str(result.error_details)
