"""Names, ids and messages: what is taken as it is, and the whole of what is said of the rest."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from stageflow import (
    Contract,
    ContractViolationError,
    FailurePolicy,
    InvalidValueError,
    JobQueueMessage,
    JobRecord,
    JobStatus,
    StageDefinition,
    TaskDefinition,
    TaskQueueMessage,
    TaskStatus,
)
from stageflow.contracts.base import UtcDatetime
from stageflow.contracts.blob import validate_blob_name, validate_container_name
from stageflow.contracts.ids import make_job_id, parse_task_id, stage_key, validate_job_id, validate_task_id
from stageflow.contracts.job import NewJob, WorkflowDefinition
from stageflow.contracts.message import poison_of
from stageflow.contracts.stage import FailureMode, NewStage
from stageflow.errors import PoisonMessageError

NOW = datetime(2026, 5, 17, tzinfo=UTC)
LATER = datetime(2026, 5, 18, tzinfo=UTC)
LAST = datetime(2026, 5, 19, tzinfo=UTC)
JOB = "ab" * 32


class Number(Contract):
    """Parameters."""

    n: int = 1


class Dated(Number):
    """Parameters that are no JSON of themselves."""

    at: UtcDatetime = NOW


# Blobs


@pytest.mark.parametrize("name", ["abc", "a-b", "a1-2-b", "0" * 63])
def test_a_container_name_that_every_store_takes_is_given_back(name: str) -> None:
    """The shortest and the longest included."""
    assert validate_container_name(name) == name


@pytest.mark.parametrize("name", ["", "ab", "a" * 64, "-ab", "ab-", "a--b", "Abc", "a_b", "abc\n", "x" * 79 + "yz"])
def test_a_container_name_that_a_store_refuses_is_refused_with_the_rule(name: str) -> None:
    """The message shows the first 80 characters."""
    with pytest.raises(InvalidValueError) as caught:
        validate_container_name(name)

    assert str(caught.value) == (
        f"the container name {name[:80]!r} must be 3 to 63 of a-z, 0-9 and single hyphens between them; choose such a name"
    )


@pytest.mark.parametrize("name", ["a", "a/b", "tiles/0-1.bin", "a..b/.c", "ü", "x" * 1024, "X/XX"])
def test_a_blob_name_that_names_one_blob_is_given_back(name: str) -> None:
    """Dots inside of a part, and 1,024 characters, are fine."""
    assert validate_blob_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty, or has an empty part before, between or after its slashes"),
        ("/a", "it is empty, or has an empty part before, between or after its slashes"),
        ("a//b", "it is empty, or has an empty part before, between or after its slashes"),
        ("a/", "it is empty, or has an empty part before, between or after its slashes"),
        ("a/./b", "it has a part that stands for another folder"),
        ("../a", "it has a part that stands for another folder"),
        ("a\\b", "it has a backslash"),
        ("a\x00b", "it has a control character"),
        ("a\x1fb", "it has a control character"),
        ("a\x7fb", "it has a control character"),
        ("a\ud800b", "it has characters that UTF-8 cannot express"),
        ("x" * 79 + "y" * 946, "it has more than 1024 characters"),
    ],
)
def test_a_blob_name_that_could_name_another_is_refused_with_the_reason(name: str, reason: str) -> None:
    """Nobody leaves the container, and no two stores disagree."""
    with pytest.raises(InvalidValueError) as caught:
        validate_blob_name(name)

    assert str(caught.value) == (
        f"the blob name {name[:80]!r} is refused: {reason}; use parts separated by single slashes, such as 'tiles/0-1.bin'"
    )


# Ids


def test_ids_of_the_right_form_are_given_back() -> None:
    """And are taken apart without loss, up to the largest number."""
    largest = 2**31 - 1
    assert validate_job_id(JOB) == JOB
    assert validate_task_id(f"{JOB}-1-0") == f"{JOB}-1-0"
    assert parse_task_id(f"{JOB}-12-345") == (JOB, 12, 345)
    assert parse_task_id(f"{JOB}-{largest}-{largest}") == (JOB, largest, largest)
    assert stage_key(12) == "12"


@pytest.mark.parametrize("job_id", ["", "ab", "AB" * 32, "ab" * 32 + "\n", "g" * 64, "x" * 79 + "yz"])
def test_text_that_is_no_job_id_is_refused(job_id: str) -> None:
    """The message says where a right one comes from."""
    with pytest.raises(InvalidValueError) as caught:
        validate_job_id(job_id)

    assert str(caught.value) == (
        f"job_id must be 64 lower-case hexadecimal digits, got {job_id[:80]!r}. Use the job_id that submit returned."
    )


@pytest.mark.parametrize(
    "task_id",
    ["", JOB, f"{JOB}-0-1", f"{JOB}-1-01", f"{JOB}-1", f"{JOB}-2147483648-0", f"{JOB}-1-2147483648", "x" * 99 + "yz"],
)
def test_text_that_is_no_task_id_is_refused(task_id: str) -> None:
    """Stages count from 1, indexes from 0, and neither is larger than a store can hold."""
    with pytest.raises(InvalidValueError) as caught:
        validate_task_id(task_id)

    assert str(caught.value) == (
        f"task_id must be <job_id>-<stage>-<index>, got {task_id[:100]!r}. Use a task_id that stageflow returned."
    )


@pytest.mark.parametrize(
    ("call", "function", "parameter", "expected", "advice"),
    [
        (validate_job_id, "validate_job_id", "job_id", "str", "Pass the id as text."),
        (validate_task_id, "validate_task_id", "task_id", "str", "Pass the id as text."),
        (parse_task_id, "validate_task_id", "task_id", "str", "Pass the id as text."),
        (stage_key, "stage_key", "stage_number", "int", "Stage numbers are integers; only stored JSON has them as text."),
    ],
)
def test_an_id_of_another_type_is_a_violation_of_the_contract(
    call: Any, function: str, parameter: str, expected: str, advice: str
) -> None:
    """A programmer's bug, told like that of any other boundary."""
    with pytest.raises(ContractViolationError) as caught:
        call(b"password=x")

    error = caught.value
    assert str(error) == f"{parameter} must be {expected}, got bytes: b'password=***'. {advice}"
    assert (error.function, error.parameter, error.path) == (function, parameter, parameter)
    assert (error.expected, error.actual, error.preview) == (expected, "bytes", "b'password=***'")


def test_a_stage_number_is_not_made_a_key_twice() -> None:
    """Neither text nor a truth is a number."""
    for wrong in ("1", True):
        with pytest.raises(ContractViolationError, match=r"^stage_number must be int, got (str|bool): "):
            stage_key(wrong)  # type: ignore[arg-type]


def test_the_id_of_a_job_is_that_of_its_request() -> None:
    """A digest that other releases and programs agree on, of type, parameters and key."""
    request = json.dumps(["w", '{"n":1}', "k"])

    assert make_job_id("w", Number(), "k") == hashlib.sha256(request.encode()).hexdigest()
    assert make_job_id("w", Number()) == "854f3637c636bfa8ff673525a35e12a08c14dc27546b50f6757e773507b5785e"
    assert make_job_id("w", Number(n=1), "") == make_job_id("w", Number())


@pytest.mark.parametrize("job_type", ["", "W", "1w", "w w", "w" * 101, "w\n"])
def test_a_job_type_that_is_no_name_has_no_id(job_type: str) -> None:
    """Its rule is in the message."""
    with pytest.raises(InvalidValueError) as caught:
        make_job_id(job_type, Number())

    assert str(caught.value) == (
        f"job type {job_type[:80]!r} must be a lower-case letter, then at most 99 of a-z 0-9 _ . - ; rename the workflow"
    )


# Messages

MESSAGE = {"wire_version": 1, "job_id": JOB, "job_type": "w", "run": 1, "stage_number": 2, "kind": "job"}


def test_a_message_is_read_as_it_was_written() -> None:
    """As text, and as bytes."""
    job = JobQueueMessage(job_id=JOB, job_type="w", stage_number=2)

    assert job.to_wire() == json.dumps(MESSAGE, separators=(",", ":"))
    assert JobQueueMessage.from_wire(job.to_wire()) == JobQueueMessage.from_wire(job.to_wire().encode()) == job


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not a JobQueueMessage of wire version 1: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        ("3", "not a JobQueueMessage of wire version 1: Input should be an object"),
        (
            json.dumps({**MESSAGE, "job_id": 3, "job_type": 4}),
            "not a JobQueueMessage of wire version 1: job_id: Input should be a valid string",
        ),
        (
            json.dumps({**MESSAGE, "wire_version": 1.0}),
            "not a JobQueueMessage of wire version 1: wire_version: Value error, the wire version must be the whole number 1",
        ),
        (
            json.dumps({**MESSAGE, "wire_version": 2}),
            "not a JobQueueMessage of wire version 1: wire_version: Input should be 1",
        ),
        (
            '{"run":1,"run":2}',
            "the fields of the message name the key 'run' twice in one object; keep one of the two",
        ),
        (
            "[" * 100_000,
            "the message has 100,000 bytes, at most 65,536 are read; write the bulk to a blob and pass on its name",
        ),
        ("[" * 60_000, "the fields of the message are nested too deeply to be read; make the JSON flatter"),
    ],
    ids=lambda value: value[:60],
)
def test_a_message_that_is_none_is_poison_and_says_why(text: str, told: str) -> None:
    """It names the first bad field, and repeats nothing that somebody else wrote."""
    with pytest.raises(PoisonMessageError) as caught:
        JobQueueMessage.from_wire(text)

    assert str(caught.value) == told


def test_what_is_no_message_at_all_is_called_one_of_ours() -> None:
    """Where the kind is not known yet, and a place inside is named with dots."""
    with pytest.raises(ValidationError) as caught:
        StageDefinition.model_validate({"number": 1, "name": "s", "task_type": "t", "after": ("x",)})

    assert str(poison_of(caught.value)) == (
        "not a message of stageflow of wire version 1: after.0: Input should be a valid integer"
    )
    assert str(poison_of(caught.value, "Stage")).startswith("not a Stage of wire version 1: after.0: ")


# Stages


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (" \t\u200b", "Value error, a name needs at least one visible character"),
        ("a\0", "a name holds NUL or a lone surrogate, which no store can hold: 'a\\x00'; remove it"),
        ("", "String should have at least 1 character"),
        ("a" * 201, "String should have at most 200 characters"),
    ],
)
def test_a_stage_name_that_nobody_can_read_is_refused(name: str, told: str) -> None:
    """A person has to tell stages apart."""
    with pytest.raises((ValidationError, InvalidValueError)) as caught:
        NewStage(stage_number=1, name=name, task_type="t", group_first=1, group_last=1)

    assert told in str(caught.value)


def test_a_stage_name_with_something_visible_is_taken() -> None:
    """Blanks around it are the author's."""
    assert NewStage(stage_number=1, name=" a ", task_type="t", group_first=1, group_last=1).name == " a "


def test_a_policy_is_what_its_name_says() -> None:
    """Each has a way to say it."""
    assert FailurePolicy.all_must_succeed() == FailurePolicy(mode=FailureMode.ALL, minimum_success_rate=None, fail_fast=False)
    assert FailurePolicy.all_must_succeed(fail_fast=True) == FailurePolicy(mode=FailureMode.ALL, fail_fast=True)
    assert FailurePolicy.any_may_fail() == FailurePolicy(mode=FailureMode.ANY)
    assert FailurePolicy.at_least(50) == FailurePolicy(mode=FailureMode.RATE, minimum_success_rate=50)


@pytest.mark.parametrize(
    ("policy", "passing", "halting"),
    [
        (FailurePolicy.all_must_succeed(), [(0, 0), (1, 1), (3, 3)], [(0, 1), (2, 3)]),
        (FailurePolicy.any_may_fail(), [(0, 0), (1, 1), (1, 3)], [(0, 1), (0, 3)]),
        (FailurePolicy.at_least(50), [(0, 0), (1, 1), (1, 2), (2, 3), (2, 4)], [(0, 1), (1, 3), (49, 100)]),
        (FailurePolicy.at_least(0), [(0, 0), (0, 1)], []),
    ],
)
def test_a_stage_passes_as_its_policy_says(
    policy: FailurePolicy, passing: list[tuple[int, int]], halting: list[tuple[int, int]]
) -> None:
    """Exactly the rate is enough, and a stage without tasks never halts a job."""
    assert [pair for pair in passing if not policy.passes(successful=pair[0], total=pair[1])] == []
    assert [pair for pair in halting if policy.passes(successful=pair[0], total=pair[1])] == []


# Jobs and tasks


def _workflow() -> WorkflowDefinition:
    return WorkflowDefinition(
        job_type="w",
        version=2,
        stages=(
            StageDefinition(number=1, name="first", task_type="t"),
            StageDefinition(number=2, name="second", task_type="u", policy=FailurePolicy.at_least(40), after=(1,)),
            StageDefinition(number=3, name="third", task_type="v", policy=FailurePolicy.all_must_succeed(fail_fast=True)),
        ),
        parameters_model="m:P",
    )


def test_a_stage_to_open_has_all_that_its_definition_says() -> None:
    """Alone it is its own group."""
    workflow = _workflow()

    assert [workflow.stage(number).name for number in (1, 2, 3)] == ["first", "second", "third"]
    assert workflow.new_stage(2) == NewStage(
        stage_number=2,
        name="second",
        task_type="u",
        fail_fast=False,
        minimum_success_rate=40,
        group_first=2,
        group_last=2,
        skipped=False,
    )
    assert workflow.new_stage(3, group=(2, 3), skipped=True) == NewStage(
        stage_number=3,
        name="third",
        task_type="v",
        fail_fast=True,
        minimum_success_rate=None,
        group_first=2,
        group_last=3,
        skipped=True,
    )


def test_a_new_job_is_stored_with_all_that_it_was_submitted_with() -> None:
    """Nothing of the request is lost between the engine and the store."""
    new = NewJob(
        job_id=JOB,
        job_type="w",
        workflow_version=2,
        total_stages=3,
        parameters='{"n":5}',
        metadata={"a": "b"},
        idempotency_key="k",
        priority=7,
        not_before=NOW,
        max_running=4,
        deadline=LATER,
        timeout_seconds=60.0,
        first_stage=_workflow().new_stage(1),
    )

    assert JobRecord.from_new_job(new, LAST) == JobRecord(
        job_id=JOB,
        job_type="w",
        workflow_version=2,
        status=JobStatus.QUEUED,
        run=1,
        stage=1,
        total_stages=3,
        parameters={"n": 5},
        metadata={"a": "b"},
        idempotency_key="k",
        priority=7,
        not_before=NOW,
        deadline=LATER,
        timeout_seconds=60.0,
        created_at=LAST,
        updated_at=LAST,
    )


def _task(key: str | None = "a key") -> TaskDefinition[Dated]:
    return TaskDefinition[Dated](
        job_id=JOB, job_type="w", task_type="t", stage_number=2, task_index=5, key=key, parameters=Dated(n=3)
    )


def test_a_planned_task_is_stored_and_announced_with_all_that_it_is() -> None:
    """The record has every field, the message its identity alone."""
    record = _task().to_task_record(NOW)

    assert record.model_dump(exclude_defaults=True) == {
        "task_id": f"{JOB}-2-5",
        "parent_job_id": JOB,
        "job_type": "w",
        "task_type": "t",
        "status": TaskStatus.QUEUED,
        "stage": 2,
        "task_index": 5,
        "key": "a key",
        "parameters": {"n": 3, "at": "2026-05-17T00:00:00Z"},
        "retry_count": 0,
        "created_at": NOW,
        "updated_at": NOW,
    }
    assert _task().to_queue_message() == TaskQueueMessage(
        job_id=JOB, job_type="w", task_type="t", stage_number=2, first=5, last=6
    )


@pytest.mark.parametrize("key", ["", " \t", "a\0b"])
def test_a_task_key_that_nobody_can_read_is_refused(key: str) -> None:
    """It is a name for people."""
    with pytest.raises(ValidationError) as caught:
        _task(key)

    assert caught.value.errors()[0]["msg"] == (
        f"Value error, a task key needs visible text without NUL, got {key!r}; leave it out or name the task"
    )
    assert _task(" a ").key == " a "
    assert _task(None).key is None
