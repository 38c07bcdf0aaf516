"""One clear message and an exit code for everything that can go wrong."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import click

from stageflow.contracts.preview import redact
from stageflow.errors import (
    BlobStoreUnreachableError,
    ContractDefinitionError,
    ContractViolationError,
    DeadLetterNotFoundError,
    InvalidValueError,
    JobNotFoundError,
    QueueUnreachableError,
    ScheduleNotFoundError,
    SchemaVersionError,
    StageflowError,
    StoreUnreachableError,
    StoreUnsuitableError,
    TaskNotFoundError,
    UnknownWorkflowError,
    WorkflowDefinitionError,
)

P = ParamSpec("P")

DONE, FAILED, USAGE, UNREACHABLE, MIGRATION_NEEDED = 0, 1, 2, 3, 4
INTERRUPTED = 130
"""What shells say of a process that Ctrl-C ended."""

_CALLERS_MISTAKES = (
    ContractDefinitionError,
    ContractViolationError,
    DeadLetterNotFoundError,
    ScheduleNotFoundError,
    InvalidValueError,
    JobNotFoundError,
    TaskNotFoundError,
    UnknownWorkflowError,
    WorkflowDefinitionError,
)


def exiting(command: Callable[P, int]) -> Callable[P, None]:
    """Make a command that returns its exit code, and turn errors into messages and codes."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except SchemaVersionError as error:
            code = _tell(error, MIGRATION_NEEDED)
        except (StoreUnreachableError, StoreUnsuitableError, QueueUnreachableError, BlobStoreUnreachableError) as error:
            code = _tell(error, UNREACHABLE)
        except _CALLERS_MISTAKES as error:
            code = _tell(error, USAGE)
        except StageflowError as error:
            code = _tell(error, FAILED)
        sys.exit(code)

    return run


def _tell(error: StageflowError, code: int) -> int:
    click.echo(f"stageflow: {redact(str(error))}", err=True)
    return code
