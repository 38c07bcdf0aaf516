"""A stage: declared, opened, advanced past. Its record and its result have files of their own, and are named here too."""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from stageflow.contracts.base import Contract, LateContract, TypeName, checked_text
from stageflow.contracts.retry import NO_RETRY, RetryPolicy
from stageflow.contracts.stage_record import StageRecord
from stageflow.contracts.stage_result import (
    HYDRATED_RESULTS,
    StageAggregate,
    StageResultContract,
    StageResultsFormatter,
    status_of_counts,
)

__all__ = [
    "HYDRATED_RESULTS",
    "FailureMode",
    "FailurePolicy",
    "NewStage",
    "StageAggregate",
    "StageDefinition",
    "StageRecord",
    "StageResultContract",
    "StageResultsFormatter",
    "status_of_counts",
]

_PERCENT: Final = 100.0


def _visible(name: str) -> str:
    if not any(sign.isprintable() and not sign.isspace() for sign in name):
        msg = "a name needs at least one visible character"
        raise ValueError(msg)
    return checked_text(name, "a name")


StageName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_visible)]
"""What a person reads of a stage: 1 to 200 characters, not all of them blank, and none that a store cannot hold."""


class FailureMode(StrEnum):
    """How many tasks of a stage must succeed."""

    ALL = "all"
    ANY = "any"
    RATE = "rate"


class FailurePolicy(Contract):
    """When a stage with failed tasks lets the job go on.

    Attributes:
        minimum_success_rate: Percent of the tasks that must complete; only with ``RATE``. The stage halts as soon as the
            rate is out of reach.
        fail_fast: Halt at the first final failure; only with ``ALL``. A halted stage skips its waiting tasks.
    """

    mode: FailureMode = FailureMode.ALL
    minimum_success_rate: float | None = Field(default=None, ge=0, le=100)
    fail_fast: bool = False

    @model_validator(mode="after")
    def _fields_fit_the_mode(self) -> Self:
        if (self.mode is FailureMode.RATE) != (self.minimum_success_rate is not None):
            msg = "minimum_success_rate goes with mode RATE and nothing else; use FailurePolicy.at_least(percent)"
            raise ValueError(msg)
        if self.fail_fast and self.mode is not FailureMode.ALL:
            msg = f"fail_fast contradicts mode {self.mode}, which lets failures pass; drop one of them"
            raise ValueError(msg)
        return self

    @classmethod
    def all_must_succeed(cls, *, fail_fast: bool = False) -> Self:
        """Every task must complete; failures are collected unless ``fail_fast``."""
        return cls(mode=FailureMode.ALL, fail_fast=fail_fast)

    @classmethod
    def any_may_fail(cls) -> Self:
        """One completed task is enough."""
        return cls(mode=FailureMode.ANY)

    @classmethod
    def at_least(cls, percent: float) -> Self:
        """At least ``percent`` (0-100) of the tasks must complete.

        Raises:
            ValidationError: It is no number from 0 to 100.
        """
        return cls(mode=FailureMode.RATE, minimum_success_rate=percent)

    def passes(self, *, successful: int, total: int) -> bool:
        """Return whether a stage with these counts lets the job go on. A stage without tasks always does."""
        if total == 0:
            return True
        if self.minimum_success_rate is not None:
            return successful * _PERCENT >= self.minimum_success_rate * total
        return successful == total if self.mode is FailureMode.ALL else successful > 0


class StageDefinition(Contract):
    """A stage as declared on a controller.

    Attributes:
        after: Stages whose results the planner takes; empty for a first stage.
        retry: Policy for the stage's tasks.
        planning_retry: Policy for the planner, when it raises ``RetryableTaskError``.
        may_skip: The planner takes ``None`` where the stage before was skipped.
        plan_atomically: Tasks may be claimed only when all are planned; for planners that are not deterministic.
        timeout_seconds: From the begin of its planning on; a stage that is open after it fails its job.
    """

    number: int = Field(ge=1)
    name: StageName
    task_type: TypeName
    after: tuple[int, ...] = ()
    policy: FailurePolicy = FailurePolicy()
    retry: RetryPolicy = RetryPolicy()
    planning_retry: RetryPolicy = NO_RETRY
    may_skip: bool = False
    plan_atomically: bool = False
    timeout_seconds: float | None = Field(default=None, gt=0, le=315_360_000)


class NewStage(LateContract):
    """A stage that a job's start or advancement opens.

    Attributes:
        skipped: Stored as skipped, with a result and no tasks, instead of being planned.
    """

    stage_number: int = Field(ge=1)
    name: StageName
    task_type: TypeName
    fail_fast: bool = False
    minimum_success_rate: float | None = None
    group_first: int = Field(ge=1)
    group_last: int = Field(ge=1)
    skipped: bool = False
