"""Child processes that die, and what comes back from those that do not."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    RetryPolicy,
    Stageflow,
    TaskRecord,
    TaskStatus,
    WorkerOptions,
    stage,
    workflow,
)

OPTIONS = WorkerOptions(slots=4, processes=2, poll_seconds=0.2)
PATIENCE = 60


class Deeds(Contract):
    """What each task is to do."""

    deeds: list[str]
    folder: str


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the module of the handlers, where children find it too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("child_work")


def run_deeds(work: ModuleType, folder: Path, deeds: list[str], retry: RetryPolicy) -> list[TaskRecord]:
    """Run tasks in a worker's children to the end of their job, and return the tasks."""
    registry = JobRegistry()

    @workflow("deeds", registry=registry)
    class DeedsController(BaseController[Deeds]):
        """One stage."""

        only = stage(1, "deeds", task=work.do_deed, policy=FailurePolicy.any_may_fail(), retry=retry)

        @only.plan
        def plan_deeds(self, job: JobExecutionContext[Deeds]) -> Iterator[Any]:
            """Plan one task for each deed."""
            for deed in job.parameters.deeds:
                yield work.Order(deed=work.Deed(deed), folder=job.parameters.folder)

    with Stageflow("sqlite::memory:", registry=registry, options=OPTIONS) as app:
        job_id = app.submit(DeedsController, Deeds(deeds=deeds, folder=str(folder))).job.job_id
        with app.worker():
            app.wait(job_id, timeout=PATIENCE)
        return app.repositories.tasks.list_tasks_for_job(job_id, 1)


@pytest.mark.faults
def test_f12_only_the_task_that_kills_its_own_child_is_charged(work: ModuleType, tmp_path: Path) -> None:
    """Whoever ran beside it in the pool is run again, and completes within its first attempt."""
    deeds = ["die" if index in {2, 9, 17} else "count" for index in range(24)]
    tasks = run_deeds(work, tmp_path, deeds, RetryPolicy(max_attempts=1))
    assert [each.task_index for each in tasks if each.status is TaskStatus.FAILED] == [2, 9, 17]
    assert {each.attempt for each in tasks} == {1}
    assert "it ran nothing else" in str(tasks[2].error_details)
    assert "RetryableTaskError" in str(tasks[2].error_details)


def test_a_task_that_kills_its_own_child_is_tried_as_often_as_its_policy_says(work: ModuleType, tmp_path: Path) -> None:
    """A child that dies is worth another attempt, as memory may be free by then."""
    retry = RetryPolicy(max_attempts=2, initial_seconds=0, cap_seconds=0)
    culprit, innocent = run_deeds(work, tmp_path, ["die", "count"], retry)
    assert (culprit.status, culprit.attempt) == (TaskStatus.FAILED, 2)
    assert (innocent.status, innocent.attempt) == (TaskStatus.COMPLETED, 1)


def test_an_error_that_cannot_be_pickled_is_recorded_as_the_handler_raised_it(work: ModuleType, tmp_path: Path) -> None:
    """Its class, its message and the line of the handler, not the trouble of carrying it from the child."""
    deeds = ["raise_local", "raise_demanding", "raise_mute", "count"]
    local, demanding, mute, fine = run_deeds(work, tmp_path, deeds, RetryPolicy(max_attempts=1))
    assert "child_work.MuteError: <its str() raised RuntimeError>" in str(mute.error_details)
    assert "LocalError: the tide is out" in str(local.error_details)
    assert "raise LocalError(msg)" in str(local.error_details)
    assert "child_work.DemandingError: code 7 in the harbour" in str(demanding.error_details)
    assert "pickle" not in f"{local.error_details}{demanding.error_details}"
    assert fine.status is TaskStatus.COMPLETED


def test_a_retry_policy_knows_the_errors_of_a_child_by_their_class(work: ModuleType, tmp_path: Path) -> None:
    """What retry_on names is tried again, and nothing else, wherever the handler runs."""
    retry = RetryPolicy(max_attempts=3, initial_seconds=0, cap_seconds=0, retry_on=(work.DemandingError,))
    demanding, local, _ = run_deeds(work, tmp_path, ["raise_demanding", "raise_local", "count"], retry)
    assert (demanding.attempt, local.attempt) == (3, 1)


@pytest.mark.parametrize(("deed", "kind"), [("return_coroutine", "coroutine"), ("return_other", "Order")])
def test_a_wrong_result_of_a_child_is_a_contract_violation(work: ModuleType, tmp_path: Path, deed: str, kind: str) -> None:
    """As in a thread: never retried, and the error says what came and which handler to correct."""
    wrong, _ = run_deeds(work, tmp_path, [deed, "count"], RetryPolicy(initial_seconds=0))
    assert (wrong.status, wrong.attempt) == (TaskStatus.FAILED, 1)
    assert "ContractViolationError: " in str(wrong.error_details)
    assert f"must return Counted, it returned {kind}" in str(wrong.error_details)
