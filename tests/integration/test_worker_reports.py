"""Workers whose reports take long, because a stage's finishers wait for each other or the disk is slow."""

from collections.abc import Iterator
from typing import Final

import psycopg

from stageflow import BaseController, Contract, JobExecutionContext, JobRegistry, Stageflow, TaskExecutionContext, stage, task
from stageflow.worker import WorkerOptions

_TASKS: Final = 64
# Each report takes twice as long as a lease is meant to work.
_SLOW: Final = """
create function public.dawdle() returns trigger language plpgsql as $$
begin
    perform pg_sleep(0.1);
    return null;
end
$$;
create trigger dawdle after insert on stageflow.results for each statement execute function public.dawdle();
"""


class Number(Contract):
    """What a task gets and returns."""

    index: int


@task("reports_echo")
def echo(parameters: Number, context: TaskExecutionContext) -> Number:  # noqa: ARG001  a handler keeps its form
    """Answer with the question."""
    return parameters


class WideController(BaseController[Number]):
    """One stage of many small tasks."""

    wide = stage(1, "wide", task=echo)

    @wide.plan
    def plan_wide(self, job: JobExecutionContext[Number]) -> Iterator[Number]:
        """Plan as many tasks as the job says."""
        for index in range(job.parameters.index):
            yield Number(index=index)


def test_slow_reports_do_not_shrink_leases(postgres_dsn: str) -> None:
    """Leases grow by what handlers take; were a report's wait counted, finishers that queue would report one task at a time."""
    registry = JobRegistry()
    registry.register(WideController, "reports")
    with Stageflow(postgres_dsn, registry=registry, options=WorkerOptions(slots=1)) as app:
        app.migrate()
        with psycopg.connect(postgres_dsn) as connection:
            connection.execute(_SLOW)
        assert app.run(WideController, Number(index=_TASKS), timeout=60).successful_tasks == _TASKS
        assert app.telemetry.counts["range_completed"] < _TASKS / 2
