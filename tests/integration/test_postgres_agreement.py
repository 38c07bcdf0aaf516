"""What is written twice, in Python and in SQL, is equal."""

import re
from collections.abc import Iterable, Iterator
from typing import LiteralString

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
from stageflow.testing.conformance.builders import create, new_job


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
    assert _checked(connection, "results_status") == TERMINAL_TASK_STATUSES
    assert _checked(connection, "dead_letters_state_check") == set(DeadLetterState)


def _sound(connection: psycopg.Connection, function: str, arguments: str, texts: Iterable[str]) -> set[str]:
    """Return those of the texts with which a row is sound; ``{}`` in the arguments is where they go."""
    statement = f"select stageflow.{function}({arguments.format('%s')})"
    return {text for text in texts if connection.execute(statement, (text,)).fetchone() == (True,)}


def test_rows_are_sound_with_the_statuses_of_the_enums(connection: psycopg.Connection) -> None:
    """No status exists on one side only."""
    texts = {*JobStatus, *StageStatus, *WorkKind, "ready", "leased", "waiting", "held", "lost", ""}
    job_id = "0" * 64
    assert _sound(connection, "is_sound_job", f"'{job_id}', 1, {{}}, 1, 1, 1", texts) == set(JobStatus)
    assert _sound(connection, "is_sound_stage", "1, 1, 1, {}, 3, 2, 1", texts) == set(StageStatus)
    assert _sound(connection, "is_sound_range", "{}, 0, 1, 'ready', null", texts) == set(WorkKind)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("update stageflow.jobs set status = 'lost'", "jobs_sound"),
        ("update stageflow.jobs set stage = 3", "jobs_sound"),
        ("update stageflow.jobs set stage = 0", "jobs_sound"),
        ("update stageflow.jobs set run = 0", "jobs_sound"),
        ("update stageflow.jobs set workflow_version = 0", "jobs_sound"),
        ("update stageflow.jobs set job_id = upper(job_id)", "jobs_sound"),
        ("update stageflow.jobs set job_id = left(job_id, 62)", "jobs_sound"),
        ("update stageflow.stages set status = 'lost'", "stages_sound"),
        ("update stageflow.stages set remaining = 1", "stages_sound"),
        ("update stageflow.stages set remaining = -1, successful_tasks = 1", "stages_sound"),
        ("update stageflow.stages set failed_tasks = 1", "stages_sound"),
        ("update stageflow.stages set run = 0", "stages_sound"),
        ("update stageflow.stages set stage_number = 0", "stages_sound"),
        ("update stageflow.stages set generation = 0", "stages_sound"),
        ("update stageflow.ranges set state = 'lost'", "ranges_sound"),
        ("update stageflow.ranges set state = 'leased'", "ranges_sound"),
        ("update stageflow.ranges set token = 1", "ranges_sound"),
        ("update stageflow.ranges set last = first", "ranges_sound"),
        ("update stageflow.ranges set kind = 'rest'", "ranges_sound"),
    ],
)
def test_an_unsound_row_is_refused(
    connection: psycopg.Connection, postgres_dsn: str, statement: LiteralString, constraint: str
) -> None:
    """By the check of its table, whoever writes it."""
    store = PostgresStore(postgres_dsn)
    create(store, new_job())
    store.close()
    with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
        connection.execute(statement)


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
