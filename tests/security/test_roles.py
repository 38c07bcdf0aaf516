"""The documented grants are enough for what each role is for, and for nothing else."""

import json
from collections.abc import Callable

import psycopg
import pytest
from click.testing import CliRunner, Result

from stageflow import JobStatus, Stageflow
from stageflow.cli import main
from stageflow.cli.hello_world import Hello, demo_registry
from stageflow.errors import StageflowError, StoreUnsuitableError
from stageflow.testing import drain_work, move_clock

APP = "stageflow.cli.hello_world:demo_registry"


def _call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def _submitted(address: str, name: str = "World") -> str:
    with Stageflow(address, registry=demo_registry) as app:
        return app.submit("hello_world", Hello(n=3, name=name)).job.job_id


def test_a_submitter_submits_a_worker_works_and_a_reader_reads(roles: Callable[[str], str]) -> None:
    """A whole job with the documented grants alone: submitted, worked to its end, and explained."""
    job_id = _submitted(roles("submitter"))
    assert _submitted(roles("submitter")) == job_id
    with Stageflow(roles("worker"), registry=demo_registry) as app:
        drain_work(app)
        assert app.job(job_id).status is JobStatus.COMPLETED
        app.repositories.store.check_schema()
    for command in (
        ["status", job_id],
        ["explain", job_id],
        ["tasks", job_id, "--stage", "1"],
        ["doctor"],
        ["verify"],
        ["jobs"],
    ):
        shown = _call(*command, "--store", roles("reader"), "--app", APP, "--json")
        assert shown.exit_code == 0, (command, shown.output)
        assert json.loads(shown.stdout)
    unchecked = _call("doctor", "--store", roles("reader")).stdout
    assert "not looked at: the tables, because this role may not make a schema" in unchecked
    assert "not compared: the tables" in _call("verify", "--store", roles("reader")).stdout
    assert _call("status", job_id, "--store", roles("submitter"), "--app", APP).exit_code == 0


def test_a_worker_retries_recovers_and_repairs(roles: Callable[[str], str]) -> None:
    """Recovery, repair and cancelling need no more than the worker's grants."""
    first, second = _submitted(roles("submitter"), "a"), _submitted(roles("submitter"), "b")
    with Stageflow(roles("worker"), registry=demo_registry) as app:
        app.maintain()
        app.cancel(second, reason="not needed")
        drain_work(app)
        app.resubmit(second)
        drain_work(app)
        assert {app.job(job).status for job in (first, second)} == {JobStatus.COMPLETED}


def test_limits_and_schedules_need_no_more(roles: Callable[[str], str]) -> None:
    """A submitter limits its job, a worker keeps to it; a worker's schedule creates jobs, and goes."""
    with Stageflow(roles("submitter"), registry=demo_registry) as app:
        job_id = app.submit("hello_world", Hello(n=3), max_running=1).job.job_id
    with Stageflow(roles("worker"), registry=demo_registry) as app:
        app.limit_task_type("hello_world", "hello_world_greeting", max_running=2)
        app.pause_task_type("hello_world", "hello_world_reply")
        app.resume_task_type("hello_world", "hello_world_reply")
        first = app.schedule("minutely", "hello_world", Hello(n=1), cron="* * * * *").next_fire_at
        assert first is not None
        move_clock(app, (first - app.repositories.store.now()).total_seconds() + 1)
        assert app.maintain().scheduled == 1
        drain_work(app)
        app.unschedule("minutely")
        assert app.job(job_id).status is JobStatus.COMPLETED
    for command in (["types"], ["schedules", "list"]):
        assert _call(*command, "--store", roles("reader"), "--app", APP).exit_code == 0


def test_a_reader_changes_nothing(roles: Callable[[str], str]) -> None:
    """Whatever a reader asks to change is refused, with the privilege that it lacks."""
    job_id = _submitted(roles("submitter"))
    for command in (
        ["cancel", job_id],
        ["pause", job_id],
        ["submit", "hello_world", "--parameters", '{"n": 2}'],
        ["purge", "--ended-before", "2030-01-01", "--yes"],
        ["migrate"],
    ):
        refused = _call(*command, "--store", roles("reader"), "--app", APP)
        if command[0] != "migrate":
            assert refused.exit_code != 0, (command, refused.output)
    with Stageflow(roles("reader"), registry=demo_registry) as app:
        assert app.job(job_id).status is JobStatus.QUEUED
        with pytest.raises(StageflowError, match="lacks a privilege"):
            drain_work(app)


def test_a_submitter_neither_works_nor_cancels(roles: Callable[[str], str]) -> None:
    """A web front end that was taken over cannot end other people's jobs."""
    job_id = _submitted(roles("submitter"))
    with Stageflow(roles("submitter"), registry=demo_registry) as app:
        with pytest.raises(StoreUnsuitableError, match="lacks a privilege"):
            app.cancel(job_id, reason="mine")
        with pytest.raises(StoreUnsuitableError, match="lacks a privilege"):
            drain_work(app)


@pytest.mark.parametrize("role", ["worker", "submitter", "reader"])
@pytest.mark.parametrize(
    "statement",
    [
        "create table stageflow.mine (a int)",
        "create table public.mine (a int)",
        "create temporary table jobs (a int)",
        "create schema mine",
        "create function stageflow.clock(int) returns int language sql as 'select 1'",
        "delete from stageflow.jobs",
        "delete from stageflow.migrations",
        "update stageflow.migrations set version = 9",
        "truncate stageflow.results",
    ],
)
def test_no_role_makes_or_deletes_what_is_the_owners(roles: Callable[[str], str], role: str, statement: str) -> None:
    """Nobody but the owner makes tables or functions, deletes jobs, or rewrites the record of migrations."""
    with psycopg.connect(roles(role), autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())
