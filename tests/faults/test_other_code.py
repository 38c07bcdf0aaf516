"""Code that is not what its neighbours expect, on each store: another release of the workflows, hooks that answer otherwise."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    StageExecutionContext,
    Stageflow,
    StageResults,
    StageStatus,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
)
from stageflow.testing import drain_work, move_clock

pytestmark = pytest.mark.faults
OPTIONS = WorkerOptions(slots=2, lease_seconds=6.0, beat_seconds=0.2, poll_seconds=0.1, recover_seconds=0.1)
PATIENCE = 60


class Order(Contract):
    """Job parameters: what the hooks answer."""

    wrong: str = ""


class Item(Contract):
    """Task parameters and result."""

    index: int


class Total(Contract):
    """Job result."""

    total: int


class Handlers:
    """How often the handler was called."""

    calls: ClassVar[list[int]] = []


@task("other_item")
def do_item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Note the call, and answer as the index says."""
    Handlers.calls.append(context.task_index)
    answers: dict[int, Any] = {7: None, 8: {"index": 8}, 9: Total(total=9)}
    answer: Item = answers[parameters.index] if parameters.index in answers else parameters
    return answer


class Hooks(BaseController[Order]):
    """Answers what it should not, where the job asks for it."""

    first = stage(1, "first", task=do_item)
    second = stage(2, "second", task=do_item, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Order]) -> Iterator[Item]:
        """Plan two tasks."""
        plans: dict[str, Any] = {
            "no plan": None,
            "a number for a plan": 5,
            "another model": [Item(index=0), Total(total=1)],
            "a dict": [Item(index=0), {"index": 1}],
            "a class": [Item],
            "a handler's None": [Item(index=7)],
            "a handler's dict": [Item(index=8)],
            "a handler's other model": [Item(index=9)],
        }
        wrong = job.parameters.wrong
        plan: Iterator[Item] = plans[wrong] if wrong in plans else iter([Item(index=0), Item(index=1)])
        return plan

    @second.plan
    def plan_second(self, job: JobExecutionContext[Order], first: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002
        """One task per result."""
        yield from first

    @first.should_advance
    def first_may_advance(self, job: JobExecutionContext[Order], stage: StageExecutionContext) -> bool:
        """Follow the policy, or say something like yes."""
        answer: Any = "yes" if job.parameters.wrong == "a judge's text" else stage.result.status is not StageStatus.FAILED
        verdict: bool = answer
        return verdict

    def aggregate_job_results(self, job: JobExecutionContext[Order], stage_results: dict[int, StageResults[Any]]) -> Total:
        """Add up, or answer a number."""
        total: Any = sum(each.index for each in self.second.of(stage_results))
        return total if job.parameters.wrong == "a number for an answer" else Total(total=total)


def registry_of(job_type: str) -> JobRegistry:
    """Return a registry that knows the workflow by this name only."""
    registry = JobRegistry()
    registry.register(Hooks, job_type)
    return registry


@pytest.fixture
def app(store_url: str) -> Iterator[Stageflow]:
    """Give an app that nobody works for."""
    Handlers.calls.clear()
    with Stageflow(store_url, registry=registry_of("hooks"), options=OPTIONS) as made:
        made.migrate()
        yield made


@pytest.mark.parametrize(
    ("wrong", "calls"),
    [
        *((plan, 0) for plan in ("no plan", "a number for a plan", "another model", "a dict", "a class")),
        *((answer, 1) for answer in ("a handler's None", "a handler's dict", "a handler's other model")),
        ("a judge's text", 2),
        ("a number for an answer", 4),
    ],
)
def test_f22_user_code_that_answers_with_another_type_fails_the_job_at_once(app: Stageflow, wrong: str, calls: int) -> None:
    """The error says what was to be returned and what was; nothing is tried again, and no planned half of a stage is run."""
    job_id = app.submit("hooks", Order(wrong=wrong)).job.job_id
    drain_work(app)
    result = app.wait(job_id, timeout=0)
    assert result.status is JobStatus.FAILED
    assert any(words in str(result.error_details) for words in (" must be ", " must return "))
    assert len(Handlers.calls) == calls
    move_clock(app, 100_000)
    app.maintain()
    assert drain_work(app) == 0
    assert app.doctor().ailments == []


def test_f17_a_worker_that_does_not_know_the_workflow_leaves_its_jobs_alone(app: Stageflow) -> None:
    """Nor does it fail, or fail them; beside one that knows it, each does its own."""
    with Stageflow(app.repositories.store.url, registry=registry_of("other"), options=OPTIONS) as older:
        job_id = app.submit("hooks", Order()).job.job_id
        assert drain_work(older) == 0
        older.maintain()
        assert app.job(job_id).status is JobStatus.QUEUED
        with older.worker(), app.worker():
            own_id = older.submit("other", Order()).job.job_id
            assert older.result(own_id, Total, timeout=PATIENCE) == Total(total=1)
            assert app.result(job_id, Total, timeout=PATIENCE) == Total(total=1)
        for each in (older, app):
            assert each.telemetry.counts["job_completed"] == 1
            assert each.telemetry.counts["slot_failed"] == 0
