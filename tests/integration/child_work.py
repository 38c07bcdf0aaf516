"""Handlers that child processes import: they die, raise what cannot be pickled, or return what they must not."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

from stageflow import Contract, TaskExecutionContext, task


class Deed(StrEnum):
    """What a task is to do."""

    COUNT = "count"
    DIE = "die"
    RAISE_LOCAL = "raise_local"
    RAISE_DEMANDING = "raise_demanding"
    RAISE_MUTE = "raise_mute"
    RETURN_COROUTINE = "return_coroutine"
    RETURN_OTHER = "return_other"


class Order(Contract):
    """Parameters; ``folder`` is where a task leaves a trace of each time that it ran."""

    deed: Deed
    folder: str


class Counted(Contract):
    """The result."""

    index: int


class DemandingError(Exception):
    """An error that cannot be pickled: it is not made from its ``args``."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"code {code} in {where}")
        self.lambda_of_it = lambda: code


class MuteError(Exception):
    """An error that has no text."""

    def __str__(self) -> str:
        """Fail too."""
        raise RuntimeError


@task("child_deed", cpu_bound=True)
def do_deed(parameters: Order, context: TaskExecutionContext) -> Counted:
    """Do it."""
    with (Path(parameters.folder) / f"{context.task_index}-{context.attempt}").open("a") as traces:
        traces.write(f"{os.getpid()}\n")
    match parameters.deed:
        case Deed.DIE:
            os._exit(9)
        case Deed.RAISE_LOCAL:

            class LocalError(Exception):
                """An error of a class that no other process can find."""

            msg = "the tide is out"
            raise LocalError(msg)
        case Deed.RAISE_DEMANDING:
            code, where = 7, "the harbour"
            raise DemandingError(code, where)
        case Deed.RAISE_MUTE:
            raise MuteError
        case Deed.RETURN_COROUTINE:
            return _later()  # type: ignore[no-any-return]
        case Deed.RETURN_OTHER:
            return parameters  # type: ignore[return-value]
        case Deed.COUNT:
            return Counted(index=context.task_index)


def _later() -> Any:
    async def later() -> None: ...

    return later()
