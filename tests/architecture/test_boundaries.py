"""Which methods carry contracts, and that the documentation says what the code does."""

import inspect
import re
from pathlib import Path

import pytest

from stageflow import BaseController, JobStatus, StatusValidator, contract_of
from stageflow.contracts.dead_letter import LETTER_TRANSITIONS
from stageflow.contracts.status import JOB_TRANSITIONS, STAGE_TRANSITIONS, TASK_TRANSITIONS
from stageflow.repositories import (
    DeadlineRepository,
    EventRepository,
    JobRepository,
    LeaseRepository,
    LimitRepository,
    ScheduleRepository,
    StageCompletionRepository,
    StageRepository,
    TaskRepository,
)

ROOT = Path(__file__).parents[2]
BOUNDARIES = [
    JobRepository.get_job,
    JobRepository.require_job,
    JobRepository.get_jobs,
    JobRepository.create_job,
    JobRepository.create_jobs,
    JobRepository.create_job_from_params,
    JobRepository.require_seen_job,
    JobRepository.require_job_state,
    JobRepository.list_jobs,
    JobRepository.update_job,
    JobRepository.update_job_status_with_validation,
    JobRepository.end_job,
    JobRepository.resubmit_job,
    JobRepository.repair_stage,
    TaskRepository.get_task,
    TaskRepository.require_task,
    TaskRepository.list_tasks_for_job,
    TaskRepository.create_task_from_definition,
    TaskRepository.update_task_status_with_validation,
    StageRepository.require_stage,
    StageRepository.list_stages,
    StageRepository.count_running_tasks,
    StageRepository.add_tasks,
    StageRepository.add_tasks_and_lease,
    StageRepository.list_result_rows,
    StageRepository.list_partials,
    StageRepository.list_task_results,
    LeaseRepository.claim_work,
    LeaseRepository.claim_named_work,
    LeaseRepository.extend_leases,
    LeaseRepository.return_ranges,
    LeaseRepository.save_checkpoint,
    LeaseRepository.get_checkpoint,
    LeaseRepository.list_leases,
    LeaseRepository.recover,
    LeaseRepository.register_worker,
    LeaseRepository.remove_worker,
    LeaseRepository.list_workers,
    LimitRepository.declare_limits,
    LimitRepository.limit_task_type,
    LimitRepository.reset_task_type,
    LimitRepository.pause_task_type,
    LimitRepository.resume_task_type,
    LimitRepository.list_task_types,
    LimitRepository.get_job_limit,
    DeadlineRepository.start_stage_clock,
    DeadlineRepository.list_overdue,
    DeadlineRepository.end_overdue,
    EventRepository.list_events,
    ScheduleRepository.put_schedule,
    ScheduleRepository.list_schedules,
    ScheduleRepository.remove_schedule,
    ScheduleRepository.change_schedule_state,
    ScheduleRepository.list_due_schedules,
    ScheduleRepository.fire_schedule,
    ScheduleRepository.fail_schedule,
    StageCompletionRepository.complete_task_and_check_stage,
    StageCompletionRepository.complete_tasks_and_check_stages,
    StageCompletionRepository.advance_of,
    StageCompletionRepository.advance_job_stages,
    StageCompletionRepository.advance_job_stage,
    StageCompletionRepository.check_job_completion,
    StageCompletionRepository.closing_of,
    StageCompletionRepository.complete_jobs,
    StageCompletionRepository.complete_job,
    BaseController.process_job_queue_message,
    BaseController.process_task_queue_message,
    BaseController.process_job_stage,
    BaseController.aggregate_stage_results,
    BaseController.should_advance_stage,
    BaseController._handle_stage_completion,  # noqa: SLF001  asked for by this name
    BaseController._validate_and_get_stage_results,  # noqa: SLF001  likewise
]
REPOSITORIES = [
    JobRepository,
    TaskRepository,
    StageRepository,
    LeaseRepository,
    LimitRepository,
    StageCompletionRepository,
    DeadlineRepository,
    EventRepository,
    ScheduleRepository,
]


@pytest.mark.parametrize("method", BOUNDARIES, ids=lambda method: method.__qualname__)
def test_every_boundary_method_carries_a_contract(method: object) -> None:
    """The contract of each boundary method can be read back, and names every parameter."""
    contract = contract_of(method)  # type: ignore[arg-type]
    assert contract.function == method.__qualname__  # type: ignore[attr-defined]
    assert set(contract.params) == set(inspect.signature(method).parameters) - {"self"}  # type: ignore[arg-type]
    assert contract.returns is not None


@pytest.mark.parametrize("repository", REPOSITORIES, ids=lambda repository: repository.__name__)
def test_no_method_of_a_repository_is_left_out(repository: type) -> None:
    """Whatever a repository offers is a boundary: a new method is checked like the others, or fails here."""
    offered = {method for name, method in vars(repository).items() if inspect.isfunction(method) and not name.startswith("_")}
    assert offered <= set(BOUNDARIES)


def test_tasks_are_made_of_definitions_only() -> None:
    """There is no second way that would take loose parameters."""
    makers = [name for name in vars(TaskRepository) if name.startswith("create")]
    assert makers == ["create_task_from_definition"]


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("Job", JOB_TRANSITIONS),
        ("Stage", STAGE_TRANSITIONS),
        ("Task", TASK_TRANSITIONS),
        ("Dead letter", LETTER_TRANSITIONS),
    ],
)
def test_the_state_machine_page_says_what_the_validator_does(heading: str, table: dict[str, frozenset[str]]) -> None:
    """Each table of the page equals the one transition table."""
    page = (ROOT / "docs" / "state-machine.md").read_text()
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    written = {
        row[1]: set(re.findall(r"`(\w+)`", row[2])) for row in re.finditer(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    }
    assert written == {status.value: {each.value for each in following} for status, following in table.items()}  # type: ignore[attr-defined]


def test_every_status_knows_whether_it_is_terminal() -> None:
    """Terminal means that nothing follows, for jobs, stages and tasks alike, but for the resubmission or repair of a job."""
    for table in (STAGE_TRANSITIONS, TASK_TRANSITIONS):
        for status, following in table.items():
            assert StatusValidator.is_terminal(status) is (not following)
    for job_status, following_job in JOB_TRANSITIONS.items():
        assert StatusValidator.is_terminal(job_status) is (following_job <= {JobStatus.QUEUED})
