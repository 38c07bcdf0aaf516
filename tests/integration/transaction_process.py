"""A worker whose handlers write in their tasks' transactions, in a process that kills itself at a chosen step.

Run as a script with a store's URL, the step, and the path of a file that marks that it was reached.
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.backends.postgres.transactions import PostgresTransaction
from stageflow.backends.sqlite.transactions import SqliteTransaction
from stageflow.engine import execute
from stageflow.engine.writes import HandlerWrites
from stageflow.repositories import StageCompletionRepository

STEPS = ["written", "validated", "completed", "committed", "answered"]
"""Where a process can die: after the handler's write, its validated result, the completion, the commit, the whole of it."""
registry = JobRegistry()


class Orders(Contract):
    """Job parameters."""

    count: int


class Order(Contract):
    """Parameters of a task, and its result."""

    number: int
    plain: bool = False


class Total(Contract):
    """Job result."""

    total: int


class Killer:
    """Kills this process where it is at a step, once in all processes that share a mark."""

    step = ""
    mark = Path()

    @classmethod
    def at(cls, step: str) -> None:
        """Die here, if this is the step and nobody died of it before."""
        if step == cls.step and not cls.mark.exists():
            cls.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@task("book")
def book(parameters: Order, context: TaskExecutionContext) -> Order:
    """Book an order into the ledger, but for those that need no booking."""
    if not parameters.plain:
        context.transaction().execute(f"insert into ledger (number) values ({parameters.number})")  # noqa: S608  a number
        if parameters.number > 0:
            Killer.at("written")
    return parameters


@task("confirm")
def confirm(parameters: Order, context: TaskExecutionContext) -> Order:
    """Book the confirmation, under a number of its own."""
    number = 1000 + parameters.number
    context.transaction().execute(f"insert into ledger (number) values ({number})")  # noqa: S608  a number
    return parameters


@workflow("orders", registry=registry)
class OrdersController(BaseController[Orders]):
    """Two stages that both write beside their results."""

    bookings = stage(1, "book", task=book)
    confirmations = stage(2, "confirm", task=confirm, after=bookings)

    @bookings.plan
    def plan_bookings(self, job: JobExecutionContext[Orders]) -> Iterator[Order]:
        """Every third order is plain."""
        for number in range(job.parameters.count):
            yield Order(number=number, plain=number % 3 == 0)

    @confirmations.plan
    def plan_confirmations(self, job: JobExecutionContext[Orders], bookings: StageResults[Order]) -> Iterator[Order]:  # noqa: ARG002
        """One for each booking."""
        yield from bookings

    def aggregate_job_results(self, job: JobExecutionContext[Orders], stage_results: dict[int, StageResults[Any]]) -> Total:  # noqa: ARG002
        """Count."""
        return Total(total=sum(1 for _ in self.confirmations.of(stage_results)))


def make_app(store: str) -> Stageflow:
    """Return an app whose leases are short."""
    options = WorkerOptions(slots=2, lease_seconds=1.0, beat_seconds=0.3, recover_seconds=0.2, poll_seconds=0.2, death_budget=9)
    return Stageflow(store, registry=registry, options=options)


def run_sql(store: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement on a store's database, past the store."""
    if store.startswith("sqlite:"):
        with closing(sqlite3.connect(store.removeprefix("sqlite:"), timeout=30)) as connection, connection:
            return connection.execute(statement).fetchall()
    with psycopg.connect(store) as postgres:
        cursor = postgres.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def _after(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        answer = function(*args, **kwargs)
        Killer.at(step)
        return answer

    return called


def _arm() -> None:
    encode, complete = execute._encode, StageCompletionRepository.complete_tasks_and_check_stages  # noqa: SLF001  between two steps

    def encoded(kind: Any, result: Any) -> Any:
        answer = encode(kind, result)
        if not result.plain:
            Killer.at("validated")
        return answer

    def completed(*args: Any) -> Any:
        answers = complete(*args)
        if len(args) > 4:
            Killer.at("completed")
        return answers

    execute._encode = encoded  # type: ignore[assignment]  # noqa: SLF001  likewise
    StageCompletionRepository.complete_tasks_and_check_stages = completed  # type: ignore[method-assign,assignment]
    PostgresTransaction.commit = _after("committed", PostgresTransaction.commit)  # type: ignore[method-assign]
    SqliteTransaction.commit = _after("committed", SqliteTransaction.commit)  # type: ignore[method-assign]
    HandlerWrites.settled = _after("answered", HandlerWrites.settled)  # type: ignore[method-assign]


if __name__ == "__main__":
    Killer.step, Killer.mark = sys.argv[2], Path(sys.argv[3])
    _arm()
    with make_app(sys.argv[1]).worker():
        sys.stdin.read()
