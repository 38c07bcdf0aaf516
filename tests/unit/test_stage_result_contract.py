"""What a stage's result says of its tasks, how it is stored, and what is refused of one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from stageflow import (
    InvalidValueError,
    OrchestrationAction,
    OrchestrationDataContract,
    StageResultContract,
    StageResultsFormatter,
    StageResultsInvalidError,
    StageStatus,
    TaskResult,
    TaskStatus,
)
from stageflow.contracts.stage import StageRecord, status_of_counts

NOW = datetime(2026, 5, 17, tzinfo=UTC)
JOB = "ab" * 32
OTHER = "cd" * 32


def _task(index: int, status: TaskStatus = TaskStatus.COMPLETED, *, job: str = JOB, stage: int = 3) -> TaskResult:
    return TaskResult(
        task_id=f"{job}-{stage}-{index}",
        job_id=job,
        stage_number=stage,
        task_index=index,
        task_type="t",
        status=status,
        error_details="it broke" if status is TaskStatus.FAILED else None,
        completed_at=NOW,
    )


def _fields(**changed: Any) -> dict[str, Any]:
    """Return the fields of a result with two completed tasks."""
    fields: dict[str, Any] = {
        "stage_number": 3,
        "status": StageStatus.COMPLETED,
        "task_count": 2,
        "successful_tasks": 2,
        "failed_tasks": 0,
        "success_rate": 100.0,
        "task_results": [_task(0), _task(1)],
        "completed_at": NOW,
    }
    return {**fields, **changed}


_counts = "{<TaskStatus.COMPLETED: 'completed'>: %d, <TaskStatus.FAILED: 'failed'>: %d, "
_one_each = "{<TaskStatus.COMPLETED: 'completed'>: 1, <TaskStatus.FAILED: 'failed'>: 1}"
_rest = "<TaskStatus.SKIPPED: 'skipped'>: %d, <TaskStatus.CANCELLED: 'cancelled'>: %d}"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"status": StageStatus.PROCESSING}, "a stage result needs a terminal status, got processing"),
        ({"task_count": 3}, "task_count is 3 but the four counts add up to 2"),
        ({"success_rate": 99.0}, "success_rate is 99.0 but the counts give 100.0"),
        ({"results_paged": True}, "a paged stage result carries no task_results; read them through StageResults"),
        ({"task_results": [_task(0)]}, "task_count is 2 but there are 1 task_results"),
        (
            {"task_results": [_task(0), _task(1, TaskStatus.FAILED)]},
            f"the counts say {_counts % (2, 0)}{_rest % (0, 0)} but the task_results say {_one_each}",
        ),
        (
            {"task_results": [_task(0, stage=5), _task(1, stage=4)]},
            "task_results of stages [4, 5] in the result of stage 3",
        ),
        (
            {"task_results": [_task(0), _task(1, job=OTHER)]},
            "task_results of 2 jobs in the result of stage 3; a stage belongs to one",
        ),
        (
            {"task_results": [_task(1), _task(1)]},
            "tasks [1] are there twice among the task_results; give each task one result",
        ),
        (
            {"task_count": 24, "successful_tasks": 24, "task_results": [_task(index) for index in range(12)] * 2},
            "tasks [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] are there twice among the task_results; give each task one result",
        ),
    ],
)
def test_a_result_that_contradicts_its_tasks_is_refused(changed: dict[str, Any], told: str) -> None:
    """Counts, rate, stage, job and indexes agree with the results, or the message says which does not."""
    with pytest.raises(ValidationError) as caught:
        StageResultContract(**_fields(**changed))

    assert caught.value.errors()[0]["msg"] == f"Value error, {told}"


def test_a_result_without_tasks_or_with_one_of_each_kind_agrees() -> None:
    """Each status is counted for itself."""
    tasks = [_task(0), _task(1, TaskStatus.FAILED), _task(2, TaskStatus.SKIPPED), _task(3, TaskStatus.CANCELLED)]

    result = StageResultContract.from_task_results(3, tasks)

    assert (result.successful_tasks, result.failed_tasks, result.skipped_tasks, result.cancelled_tasks) == (1, 1, 1, 1)
    assert (result.status, result.success_rate, result.task_count) == (StageStatus.CANCELLED, 25.0, 4)
    empty = StageResultContract.from_task_results(3, [], completed_at=NOW)
    assert (empty.status, empty.success_rate, empty.task_count) == (StageStatus.COMPLETED, 100.0, 0)


@pytest.mark.parametrize(
    ("successful", "failed", "skipped", "cancelled", "status"),
    [
        (0, 0, 0, 0, StageStatus.COMPLETED),
        (2, 0, 0, 0, StageStatus.COMPLETED),
        (2, 1, 0, 0, StageStatus.COMPLETED_WITH_ERRORS),
        (2, 0, 1, 0, StageStatus.COMPLETED_WITH_ERRORS),
        (2, 1, 1, 1, StageStatus.CANCELLED),
        (1, 1, 0, 1, StageStatus.CANCELLED),
        (1, 0, 1, 1, StageStatus.CANCELLED),
        (2, 1, 1, 0, StageStatus.COMPLETED_WITH_ERRORS),
        (0, 0, 0, 1, StageStatus.CANCELLED),
        (0, 1, 1, 0, StageStatus.FAILED),
        (0, 1, 0, 0, StageStatus.FAILED),
        (0, 0, 1, 0, StageStatus.SKIPPED),
    ],
)
def test_counts_stand_for_one_status(successful: int, failed: int, skipped: int, cancelled: int, status: StageStatus) -> None:
    """A cancelled task outweighs a failed one, that a skipped one."""
    assert status_of_counts(successful=successful, failed=failed, skipped=skipped, cancelled=cancelled) is status


def _record(successful: int, failed: int, skipped: int, cancelled: int) -> StageRecord:
    return StageRecord(
        stage_id=1,
        job_id=JOB,
        run=1,
        stage_number=3,
        generation=1,
        name="s",
        task_type="t",
        status=StageStatus.PROCESSING,
        task_count=successful + failed + skipped + cancelled,
        remaining=0,
        successful_tasks=successful,
        failed_tasks=failed,
        skipped_tasks=skipped,
        cancelled_tasks=cancelled,
        halted=False,
        plan_digest="",
        group_first=3,
        group_last=3,
        stored_result=None,
        created_at=NOW,
        updated_at=NOW,
    )


def test_a_stored_stage_gives_its_result_from_its_counters() -> None:
    """Without the tasks it is paged, with them it holds them."""
    paged = StageResultContract.from_stage_record(_record(4, 1, 2, 1), None, NOW)

    assert paged.model_dump(exclude={"stage_key"}) == {
        "stage_number": 3,
        "status": StageStatus.CANCELLED,
        "task_count": 8,
        "successful_tasks": 4,
        "failed_tasks": 1,
        "skipped_tasks": 2,
        "cancelled_tasks": 1,
        "success_rate": 50.0,
        "task_results": [],
        "results_paged": True,
        "completed_at": NOW,
        "metadata": {},
        "orchestration": None,
    }
    assert StageResultContract.from_stage_record(_record(0, 1, 1, 0), None, NOW).status is StageStatus.FAILED
    assert StageResultContract.from_stage_record(_record(0, 0, 1, 0), None, NOW).status is StageStatus.SKIPPED
    assert StageResultContract.from_stage_record(_record(1, 0, 1, 0), None, NOW).status is StageStatus.COMPLETED_WITH_ERRORS
    full = StageResultContract.from_stage_record(_record(2, 0, 0, 0), [_task(0), _task(1)], NOW)
    assert (full.results_paged, full.task_results) == (False, [_task(0), _task(1)])
    assert (full.status, full.success_rate, full.completed_at) == (StageStatus.COMPLETED, 100.0, NOW)
    empty = StageResultContract.from_stage_record(_record(0, 0, 0, 0), [], NOW)
    assert (empty.results_paged, empty.task_results, empty.success_rate) == (False, [], 100.0)


def test_an_entry_has_its_key_beside_it_and_not_in_it() -> None:
    """What goes into a dictionary of stage results is plain JSON."""
    result = StageResultContract(**_fields(task_count=0, successful_tasks=0, task_results=[]))

    assert result.as_dict_entry() == (
        "3",
        {
            "stage_number": 3,
            "status": "completed",
            "task_count": 0,
            "successful_tasks": 0,
            "failed_tasks": 0,
            "skipped_tasks": 0,
            "cancelled_tasks": 0,
            "success_rate": 100.0,
            "task_results": [],
            "results_paged": False,
            "completed_at": "2026-05-17T00:00:00Z",
            "metadata": {},
            "orchestration": None,
        },
    )


def _result(**changed: Any) -> StageResultContract:
    return StageResultContract(**_fields(**changed))


STORED = (
    '{"stage_number":3,"status":"completed","task_count":2,"successful_tasks":2,"failed_tasks":0,"skipped_tasks":0,'
    '"cancelled_tasks":0,"success_rate":100.0,"completed_at":"2026-05-17T00:00:00Z","metadata":{"a":"ü"},"orchestration":null}'
)


def test_the_stored_text_has_neither_the_key_nor_the_tasks() -> None:
    """A wide stage's row stays small, and reading puts back what is left out."""
    result = _result(metadata={"a": "ü"})

    assert StageResultsFormatter.to_stored(result) == STORED
    assert StageResultsFormatter.from_stored(3, STORED, [_task(0), _task(1)]) == result
    paged = StageResultsFormatter.from_stored(3, STORED, None)
    assert paged == _result(metadata={"a": "ü"}, task_results=[], results_paged=True)


def test_text_that_no_store_can_hold_is_refused_before_it_is_stored() -> None:
    """A replacement character that somebody wrote is text; one that stands for a lone surrogate is not stored."""
    elsewhere = _task(0).model_copy(update={"result_data": {"\ud800": 1}})  # is a row of its own
    good = _result(metadata={"a": "\ufffd"}, task_results=[elsewhere, _task(1)])
    assert StageResultsFormatter.to_stored(good) == STORED.replace("ü", "\ufffd")
    bad = _result(metadata={"a": "x"})
    for key, value, told in [
        ("\ud800", "x", "the payload holds NUL or a lone surrogate, which no store can hold: '\\ud800'; remove it"),
        ("a", "\0", "the payload holds text with a NUL character, which PostgreSQL cannot store: '\\x00'; remove it"),
    ]:
        bad.metadata.clear()
        bad.metadata[key] = value
        with pytest.raises(InvalidValueError) as caught:
            StageResultsFormatter.to_stored(bad)
        assert str(caught.value) == told


def test_what_json_cannot_express_is_refused_with_the_stage_and_what_to_correct() -> None:
    """Hooks may put things into metadata after it was checked."""
    for key, value in [("a", "\ud800"), ("a", object()), (1, "x")]:
        bad = _result()
        bad.metadata[key] = value  # type: ignore[index, assignment]  # what a hook may do all the same
        with pytest.raises(InvalidValueError) as caught:
            StageResultsFormatter.to_stored(bad)
        assert str(caught.value).startswith("the result of stage 3 cannot be stored: ")
        assert str(caught.value).endswith("; correct its metadata or orchestration")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "{",
            "is invalid at the whole: Invalid JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            STORED.replace('"failed_tasks":0', '"failed_tasks":"0"'),
            "is invalid at failed_tasks: Input should be a valid integer",
        ),
        (
            STORED.replace('"orchestration":null', '"orchestration":{"action":"CREATE_TASKS","items":[{},3]}'),
            "is invalid at orchestration.items.1: Input should be an object",
        ),
        (
            STORED.replace('"task_count":2', '"task_count":3'),
            "is invalid at the whole: Value error, task_count is 3 but the four counts add up to 2",
        ),
        (
            STORED.replace('"failed_tasks":0', '"failed_tasks":-1'),
            "is invalid at failed_tasks: Input should be greater than or equal to 0",
        ),
        (STORED.replace('"stage_number":3', '"stage_number":4'), "says stage_number 4"),
        (
            STORED.replace("ü", "\\u0000"),
            "holds text with a NUL character, which no store can hold; replace it by None or text, or leave the field out",
        ),
        (
            STORED.replace("ü", "u").ljust(500),
            "has 500 bytes, at most 400 are read; write the bulk to a blob and pass on its name",
        ),
    ],
)
def test_a_stored_text_that_is_no_result_is_told_with_its_stage_and_field(text: str, told: str) -> None:
    """Somebody wrote to the row; the message says where."""
    with pytest.raises(StageResultsInvalidError) as caught:
        StageResultsFormatter.from_stored(3, text, None, most_bytes=400)

    assert str(caught.value) == f"the stored result of stage 3 {told}"


def test_a_decision_is_stored_and_read_with_the_result() -> None:
    """What follows a stage is part of what it left."""
    decision = OrchestrationDataContract(action=OrchestrationAction.FAIL_JOB, reason="enough")
    result = _result(orchestration=decision, completed_at=NOW + timedelta(seconds=1))

    assert StageResultsFormatter.from_stored(3, StageResultsFormatter.to_stored(result), [_task(0), _task(1)]) == result
