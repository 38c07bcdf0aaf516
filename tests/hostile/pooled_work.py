"""A workflow whose handlers write in their tasks' transactions, more often than it takes to prepare a statement."""

from collections.abc import Iterator

import psycopg

from stageflow import BaseController, Contract, JobExecutionContext, JobRegistry, TaskExecutionContext, stage, task, workflow

registry = JobRegistry()
LINES_EACH = 8
"""psycopg prepares a statement at its fifth execution."""


class Order(Contract):
    """Parameters of a task, and its result."""

    number: int


class Orders(Contract):
    """Parameters of the job."""

    count: int


@task("book")
def book(parameters: Order, context: TaskExecutionContext) -> Order:
    """Write lines of the ledger."""
    connection = context.transaction()
    assert isinstance(connection, psycopg.Connection)
    for line in range(LINES_EACH):
        connection.execute("insert into public.ledger (number, line) values (%s, %s)", (parameters.number, line))
    return parameters


@workflow("orders", registry=registry)
class OrdersController(BaseController[Orders]):
    """One stage."""

    bookings = stage(1, "book", task=book)

    @bookings.plan
    def plan_bookings(self, job: JobExecutionContext[Orders]) -> Iterator[Order]:
        """Plan one booking for each order."""
        for number in range(job.parameters.count):
            yield Order(number=number)
