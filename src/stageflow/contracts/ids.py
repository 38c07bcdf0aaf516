"""The ids of jobs and tasks, and the keys under which stage results are stored."""

import hashlib
import json
import re
from typing import Annotated

from pydantic import BaseModel, Field

from stageflow.contracts.base import canonical_json, type_name_pattern
from stageflow.contracts.preview import preview
from stageflow.errors import ContractViolationError, InvalidValueError

_job_id = re.compile(r"[0-9a-f]{64}")
_task_id = re.compile(r"([0-9a-f]{64})-([1-9][0-9]{0,9})-(0|[1-9][0-9]{0,9})")
_largest = 2**31 - 1
_type_name = re.compile(type_name_pattern)

JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""64 lower-case hexadecimal digits."""
TaskId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}-[1-9][0-9]{0,9}-(0|[1-9][0-9]{0,9})$")]
"""``<job_id>-<stage number>-<task index>``."""


def _require_text(value: str, name: str) -> str:
    if type(value) is not str:
        raise _wrong_type(value, f"validate_{name}", name, "str", "Pass the id as text.")
    return value


def _wrong_type(value: object, function: str, parameter: str, expected: str, advice: str) -> ContractViolationError:
    actual = type(value).__name__
    return ContractViolationError(
        f"{parameter} must be {expected}, got {actual}: {preview(value)}. {advice}",
        function=function,
        parameter=parameter,
        expected=expected,
        actual=actual,
        path=parameter,
        preview=preview(value),
    )


def validate_job_id(job_id: str) -> str:
    """Return ``job_id`` if it is 64 lower-case hexadecimal digits.

    Raises:
        ContractViolationError: It is not text.
        InvalidValueError: It is text of another form, blank included.
    """
    if _job_id.fullmatch(_require_text(job_id, "job_id")) is None:
        msg = f"job_id must be 64 lower-case hexadecimal digits, got {job_id[:80]!r}. Use the job_id that submit returned."
        raise InvalidValueError(msg)
    return job_id


def validate_task_id(task_id: str) -> str:
    """Return ``task_id`` if it has the form ``<job_id>-<stage number>-<task index>``.

    Raises:
        ContractViolationError: It is not text.
        InvalidValueError: It is text of another form, blank included.
    """
    parse_task_id(task_id)
    return task_id


def make_job_id(job_type: str, parameters: BaseModel, idempotency_key: str = "") -> str:
    """Return the id of a request: SHA-256 over job type, canonical parameters and idempotency key, in hexadecimal.

    The same request always has the same id. The three parts are framed as a JSON array, so that no two different triples
    give the same text.

    Raises:
        InvalidValueError: The job type is no type name, or the parameters have no canonical JSON.
    """
    if _type_name.fullmatch(job_type) is None:
        msg = f"job type {job_type[:80]!r} must be a lower-case letter, then at most 99 of a-z 0-9 _ . - ; rename the workflow"
        raise InvalidValueError(msg)
    framed = json.dumps([job_type, canonical_json(parameters), idempotency_key])
    return hashlib.sha256(framed.encode()).hexdigest()


def make_task_id(job_id: str, stage_number: int, task_index: int) -> str:
    """Return the id of the task at an index of a stage; unique by construction, nothing is cut off."""
    return f"{job_id}-{stage_number}-{task_index}"


def parse_task_id(task_id: str) -> tuple[str, int, int]:
    """Return job id, stage number (from 1) and task index (from 0) of a task id.

    Raises:
        ContractViolationError: It is not text.
        InvalidValueError: It is text of another form, blank included.
    """
    match = _task_id.fullmatch(_require_text(task_id, "task_id"))
    if match is None or int(match[2]) > _largest or int(match[3]) > _largest:
        msg = f"task_id must be <job_id>-<stage>-<index>, got {task_id[:100]!r}. Use a task_id that stageflow returned."
        raise InvalidValueError(msg)
    return match[1], int(match[2]), int(match[3])


def stage_key(stage_number: int) -> str:
    """Return the JSON key of a stage: ``1`` gives ``"1"``. The only place where a stage number becomes text.

    Raises:
        ContractViolationError: It is no ``int``; a key is not made a second time.
    """
    if type(stage_number) is not int:
        advice = "Stage numbers are integers; only stored JSON has them as text."
        raise _wrong_type(stage_number, "stage_key", "stage_number", "int", advice)
    return str(stage_number)


def control_work_type(job_type: str, workflow_version: int) -> str:
    """Return the work type of a job's planning and advancing: what a worker must know to claim it."""
    return f"{job_type}/{workflow_version}"


def task_work_type(job_type: str, workflow_version: int, task_type: str) -> str:
    """Return the work type of a stage's tasks: what a worker must know to claim them."""
    return f"{job_type}/{workflow_version}/{task_type}"
