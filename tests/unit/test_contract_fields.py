"""What others build on: the names of fields, the values of enums, the defaults. None of it goes away by accident."""

import tomllib
from pathlib import Path

import pytest

import stageflow
from stageflow import (
    Contract,
    FailurePolicy,
    JobCompletionResult,
    JobQueueMessage,
    JobRecord,
    JobResult,
    JobStatus,
    OrchestrationDataContract,
    RetryPolicy,
    StageAdvancementResult,
    StageResultContract,
    StageStatus,
    TaskCompletionResult,
    TaskDefinition,
    TaskQueueMessage,
    TaskRecord,
    TaskResult,
    TaskStatus,
    WorkerOptions,
)
from stageflow.contracts.base import INLINE_BYTES
from stageflow.contracts.message import WIRE_VERSION
from stageflow.contracts.stage import HYDRATED_RESULTS, FailureMode

PROMISED_FIELDS: list[tuple[type[Contract], str]] = [
    (
        JobRecord,
        (
            "job_id job_type status stage total_stages parameters stage_results metadata result_data error_details created_at "
            "updated_at run workflow_version"
        ),
    ),
    (
        TaskRecord,
        (
            "task_id parent_job_id job_type task_type status stage task_index parameters result_data metadata error_details "
            "attempt retry_count heartbeat created_at updated_at key"
        ),
    ),
    (TaskDefinition, "job_id job_type task_type stage_number task_index key parameters task_id"),
    (
        TaskResult,
        (
            "task_id job_id stage_number task_index attempt task_type status result_data error_details execution_time_seconds "
            "completed_at"
        ),
    ),
    (
        StageResultContract,
        (
            "stage_number stage_key status task_count successful_tasks failed_tasks skipped_tasks cancelled_tasks success_rate "
            "task_results results_paged completed_at metadata orchestration"
        ),
    ),
    (OrchestrationDataContract, "action items next_stage_parameters item_count metadata reason stages"),
    (TaskCompletionResult, "outcome task_updated is_last_task_in_stage job_id stage_number remaining_tasks"),
    (StageAdvancementResult, "outcome job_updated new_stage is_final_stage"),
    (JobCompletionResult, "job_id job_complete job_updated final_stage total_tasks successful_tasks failed_tasks task_results"),
    (JobResult, "job_id job_type status total_tasks successful_tasks failed_tasks stage_results result_data error_details"),
    (JobQueueMessage, "wire_version kind job_id job_type run stage_number"),
    (TaskQueueMessage, "wire_version kind job_id job_type run stage_number task_type generation first last"),
]
NUMBERED = [TaskResult, StageResultContract, TaskQueueMessage, JobQueueMessage, TaskCompletionResult]


@pytest.mark.parametrize(("model", "names"), PROMISED_FIELDS)
def test_a_contract_has_the_fields_that_were_promised(model: type[Contract], names: str) -> None:
    """Each under its name."""
    assert set(names.split()) <= {*model.model_fields, *model.model_computed_fields}


@pytest.mark.parametrize("model", NUMBERED)
def test_a_stage_number_is_an_integer(model: type[Contract]) -> None:
    """Text only where JSON is written or read."""
    assert model.model_fields["stage_number"].annotation is int


@pytest.mark.parametrize("model", [StageResultContract, JobCompletionResult])
def test_every_task_result_inside_another_contract_is_one(model: type[Contract]) -> None:
    """Never a dict."""
    assert model.model_fields["task_results"].annotation == list[TaskResult]


def test_statuses_are_those_that_were_promised() -> None:
    """With paused from the first version on."""
    assert " ".join(JobStatus) == "queued processing paused completed completed_with_errors failed cancelled"
    assert " ".join(TaskStatus) == "queued processing completed failed skipped cancelled"
    assert " ".join(StageStatus) == "pending planning processing completed completed_with_errors failed skipped cancelled"


def test_tasks_are_tried_three_times() -> None:
    """Exponential backoff from a second to five minutes, with jitter."""
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.initial_seconds, policy.cap_seconds, policy.jitter) == (3, 1.0, 300.0, True)


def test_all_tasks_must_succeed_and_failures_are_collected() -> None:
    """Letting failures pass, and stopping at the first, are opt-in."""
    assert (FailurePolicy().mode, FailurePolicy().fail_fast) == (FailureMode.ALL, False)


def test_limits_and_versions_are_those_that_were_promised() -> None:
    """A mebibyte inline, a thousand results in a stage result, three deaths, a look each second, the first wire version."""
    assert (INLINE_BYTES, HYDRATED_RESULTS) == (1_048_576, 1000)
    assert (WorkerOptions().death_budget, WorkerOptions().poll_seconds) == (3, 1.0)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert (stageflow.__version__, WIRE_VERSION) == (project["version"], 1)
