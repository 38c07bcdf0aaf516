"""What is written twice, in Python and in SQL, is equal."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.dead_letter import DeadLetterState
from stageflow.contracts.ids import control_work_type, task_work_type
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.status import (
    JOB_TRANSITIONS,
    TERMINAL_JOB_STATUSES,
    TERMINAL_STAGE_STATUSES,
    TERMINAL_TASK_STATUSES,
    JobStatus,
    StageStatus,
)
from stageflow.ports import Store


@pytest.fixture
def connection(postgres_dsn: str) -> Iterator[psycopg.Connection]:
    """Give a connection to a migrated database."""
    store: Store = PostgresStore(postgres_dsn)
    store.migrate()
    store.close()
    with psycopg.connect(postgres_dsn) as connection:
        yield connection


def _checked(connection: psycopg.Connection, constraint: str) -> set[str]:
    """Return the texts that a CHECK constraint lists."""
    statement = "select pg_get_constraintdef(oid) from pg_constraint where conname = %s"
    ((definition,),) = connection.execute(statement, (constraint,)).fetchall()
    return set(re.findall(r"'([a-z_]+)'::text", definition))


def test_check_constraints_list_the_statuses_of_the_enums(connection: psycopg.Connection) -> None:
    """No status exists on one side only."""
    assert _checked(connection, "jobs_status") == set(JobStatus)
    assert _checked(connection, "stages_status") == set(StageStatus)
    assert _checked(connection, "results_status") == TERMINAL_TASK_STATUSES
    assert _checked(connection, "ranges_kind_check") == set(WorkKind)
    assert _checked(connection, "dead_letters_state_check") == set(DeadLetterState)


@pytest.mark.parametrize("status", JobStatus)
def test_the_guard_of_job_transitions_is_the_transition_table(connection: psycopg.Connection, status: JobStatus) -> None:
    """SQL allows what StatusValidator allows, and lists it in the same order as its message does."""
    ((following,),) = connection.execute("select stageflow.job_following(%s)", (status.value,)).fetchall()
    assert following == sorted(JOB_TRANSITIONS[status])


def test_ended_and_closed_mean_the_same_on_both_sides(connection: psycopg.Connection) -> None:
    """A terminal set that forgets a status leaves a job waiting for ever."""
    ended = {one for one in JobStatus if connection.execute("select stageflow.is_ended_job(%s)", (one,)).fetchone() == (True,)}
    closed = {
        one for one in StageStatus if connection.execute("select stageflow.is_closed_stage(%s)", (one,)).fetchone() == (True,)
    }
    assert ended == TERMINAL_JOB_STATUSES
    assert closed == TERMINAL_STAGE_STATUSES


def test_work_types_are_spelled_the_same(connection: psycopg.Connection) -> None:
    """A worker that asks for a type must meet the ranges of that type."""
    row = connection.execute(
        "select stageflow.control_work_type('a.b', 12), stageflow.task_work_type('a.b', 12, 'c-d')"
    ).fetchone()
    assert row == (control_work_type("a.b", 12), task_work_type("a.b", 12, "c-d"))


def test_every_function_that_the_store_calls_first_requires_read_committed(connection: psycopg.Connection) -> None:
    """A guarded function that forgets its guard would tell nobody that it was last."""
    writing = {
        "create_jobs", "claim", "claim_named", "extend_leases", "return_ranges", "recover_leases", "recover_waiting",
        "add_tasks", "complete_tasks", "close_task", "advance_job_stage", "check_job_completion", "end_job",
        "change_job_status", "mend_movers", "mend_counters", "mend_control",
    }  # fmt: skip
    for name in writing:
        ((source,),) = connection.execute(
            "select prosrc from pg_proc where proname = %s and pronamespace = 'stageflow'::regnamespace", (name,)
        ).fetchall()
        first = source.partition("\nbegin\n")[2].strip()
        assert first.startswith("perform stageflow.require_read_committed();"), name
