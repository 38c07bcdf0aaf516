"""When to try a task again: pure arithmetic, no clock and no dice."""

from typing import Self

from pydantic import Field, model_validator

from stageflow.contracts.base import Contract
from stageflow.errors import (
    ContractViolationError,
    InvalidValueError,
    PayloadUnreadableError,
    PermanentTaskError,
    TaskCancelledError,
)

_HOPELESS = (ContractViolationError, InvalidValueError, PayloadUnreadableError, PermanentTaskError, TaskCancelledError)


class RetryPolicy(Contract):
    """How often and how soon a failed task is tried again.

    The delay before attempt ``n + 1`` is drawn from ``[0, min(cap, initial * multiplier ** (n - 1))]``: exponential
    backoff with full jitter (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Attributes:
        max_attempts: Attempts in all, the first included; 1 means no retry.
        initial_seconds: Upper bound of the first delay.
        multiplier: Growth of that bound per attempt.
        cap_seconds: Largest upper bound of a delay.
        jitter: Draw the delay from the whole interval; ``False`` waits its upper bound exactly.
        retry_on: Errors worth another attempt, subclasses included.
    """

    max_attempts: int = Field(default=3, ge=1, le=1000)
    initial_seconds: float = Field(default=1.0, ge=0, le=86_400)
    multiplier: float = Field(default=2.0, ge=1, le=100)
    cap_seconds: float = Field(default=300.0, ge=0, le=604_800)
    jitter: bool = True
    retry_on: tuple[type[Exception], ...] = (Exception,)

    @model_validator(mode="after")
    def _cap_is_not_below_the_first_delay(self) -> Self:
        if self.cap_seconds < self.initial_seconds:
            msg = f"cap_seconds {self.cap_seconds} is below initial_seconds {self.initial_seconds}; raise the cap"
            raise ValueError(msg)
        return self

    def allows(self, attempt: int, error: BaseException) -> bool:
        """Return whether a task whose ``attempt`` (from 1) ended with ``error`` is to be tried again.

        Contract violations, values that cannot be stored, payloads that are missing or altered, and
        :class:`PermanentTaskError` are never worth another attempt.
        """
        if isinstance(error, _HOPELESS):
            return False
        return attempt < self.max_attempts and isinstance(error, self.retry_on)

    def delay_seconds(self, attempt: int, draw: float) -> float:
        """Return how long to wait after ``attempt`` (from 1) failed.

        Args:
            attempt: The attempt that failed.
            draw: A uniform random number in ``[0, 1)``; ignored without jitter.
        """
        bound = self.initial_seconds
        for _ in range(attempt - 1):
            if bound >= self.cap_seconds:
                break
            bound *= self.multiplier
        bound = min(bound, self.cap_seconds)
        return bound * draw if self.jitter else bound


NO_RETRY = RetryPolicy(max_attempts=1)
