"""Handlers that write in the transaction of their task, on each store: with the completion, or not at all."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobRegistry,
    RetryPolicy,
    Stageflow,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
    workflow,
)
from stageflow.testing.postgres_server import PostgresDatabases

OPTIONS = WorkerOptions(slots=1, poll_seconds=0.2, recover_seconds=0.2, stop_seconds=0.2)
WORKFLOWS = JobRegistry()
NEVER = RetryPolicy(max_attempts=1)
release = threading.Event()
late: list[BaseException] = []


class Item(Contract):
    """What a task is to do."""

    number: int
    action: str = "pass"


class Items(Contract):
    """Job parameters."""

    actions: list[str]


def meddle(connection: Any, parameters: Item) -> None:
    """Do to the connection what a handler may think is its own."""
    match parameters.action:
        case "revive":
            with suppress(sqlite3.Error, psycopg.Error):
                connection.execute(f"insert or rollback into ledger (number) values ({parameters.number})")  # noqa: S608  a number
            connection.execute("insert into ledger (number) values (98)")
        case "pragma":
            connection.execute("pragma query_only = on")
        case "factories":
            connection.row_factory = lambda *_: None
            connection.text_factory = bytes
        case _:
            pass


def write(parameters: Item, context: TaskExecutionContext) -> Any:
    """Write a row, then do as told."""
    connection = context.transaction()
    assert context.transaction() is connection
    connection.execute(f"insert into ledger (number) values ({parameters.number})")  # noqa: S608  a number
    match parameters.action:
        case "raise":
            msg = "no"
            raise ValueError(msg)
        case "wrong":
            return "no contract"
        case "commit":
            connection.commit()
        case "bare":
            connection.execute("rollback")
        case "checkpoint":
            context.checkpoint(parameters)
        case "hang":
            release.wait()
            try:
                connection.execute("insert into ledger (number) values (99)")
            except BaseException as error:  # noqa: BLE001  it is the test's to judge
                late.append(error)
        case _:
            meddle(connection, parameters)
    return parameters


@task("writing", timeout_seconds=2.0, retry=NEVER)
def writing(parameters: Item, context: TaskExecutionContext) -> Item:
    """Write, in a thread with a timeout."""
    return write(parameters, context)  # type: ignore[no-any-return]


@task("writing_later", retry=NEVER)
async def writing_later(parameters: Item, context: TaskExecutionContext) -> Item:
    """Write, on the event loop."""
    return write(parameters, context)  # type: ignore[no-any-return]


@workflow("writes", registry=WORKFLOWS)
class Writes(BaseController[Items]):
    """One stage of plain handlers, one of an async one."""

    first = stage(1, "first", task=writing, policy=FailurePolicy.any_may_fail())
    second = stage(2, "second", task=writing_later, policy=FailurePolicy.any_may_fail())

    @first.plan
    def plan_first(self, job: JobExecutionContext[Items]) -> Iterator[Item]:
        """One task an action."""
        for number, action in enumerate(job.parameters.actions):
            yield Item(number=number, action=action)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Items]) -> Iterator[Item]:  # noqa: ARG002  the shape of a planner
        """One task."""
        yield Item(number=50)


@pytest.fixture(params=["sqlite", "memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def app(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Stageflow]:
    """Give an app on each kind of store, with a ledger beside it."""
    release.clear()
    late.clear()
    url = {"sqlite": f"sqlite:{tmp_path / 'jobs.db'}", "memory": "sqlite::memory:"}.get(request.param, "")
    server: PostgresDatabases | None = None if url else request.getfixturevalue("postgres_server")
    if server is not None:
        url = server.create_database()
    with Stageflow(url, registry=WORKFLOWS, options=OPTIONS) as made:
        made.migrate()
        transaction = made.repositories.store.begin_transaction()
        transaction.connection.execute("create table ledger (number integer primary key)")
        transaction.commit()
        yield made
        release.set()
    if server is not None:
        server.drop_database(url)


def test_the_rows_are_those_of_the_tasks_that_completed(app: Stageflow) -> None:
    """Whoever raises, returns the wrong thing, is too late or ends the transaction leaves no row, and no later one either."""
    actions = [
        "pass",
        "raise",
        "pass",
        "wrong",
        "commit",
        "bare",
        "checkpoint",
        "hang",
        "pass",
        "revive",
        "pragma",
        "factories",
    ]
    result = app.run(Writes, Items(actions=actions), timeout=60)
    rows = result.stage_results["1"].task_results
    completed = [row.task_index for row in rows if row.status == "completed"]
    assert completed == [0, 2, 8, 11]
    assert "is async" in str(result.stage_results["2"].task_results[0].error_details)
    release.set()
    for thread in threading.enumerate():
        if thread.name == "stageflow-handler":
            thread.join(5.0)
    assert len(late) == 1
    transaction = app.repositories.store.begin_transaction()
    found = transaction.connection.execute("select number from ledger order by number").fetchall()
    transaction.roll_back()
    assert [row[0] for row in found] == completed
