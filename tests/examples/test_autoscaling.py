"""The manifests of the autoscalers parse, and what they ask the database is right and cheap."""

import re
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import yaml  # type: ignore[import-untyped]

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.ids import control_work_type, task_work_type
from stageflow.testing.conformance.builders import (
    Again,
    advance,
    claim_all,
    claim_plan,
    complete_ok,
    complete_one,
    create,
    new_job,
    new_stage,
    report,
    start,
    tasks_type,
)

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
FOLDER: Final = EXAMPLES / "autoscaling"
TASK_TYPE: Final = "primes_count"
JOB: Final = new_job("scaled", job_type="primes", stages=2, first_stage=new_stage(1, task_type=TASK_TYPE))

# Ready, leased and waiting work of the type that is asked for, and as much of another.
_GROW: Final = """
insert into stageflow.ranges (stage_id, kind, work_type, first, last, state, token, lease_expires_at, not_before, created_at)
select 1000 + i, 'task', (array['primes/1/primes_count', 'other/1/other'])[1 + i %% 2], 0, 2, state,
    case when state = 'leased' then i end, case when state = 'leased' then now() end,
    case when state = 'waiting' then now() + make_interval(secs => i - 50000) end, now()
from (
    select i,
        case when i %% 100 = 0 then 'leased' else (array['ready', 'ready', 'waiting', 'held'])[1 + i / 2 %% 4] end as state
    from generate_series(1, %(rows)s) i
) many
"""


def _query() -> str:
    lines = (FOLDER / "queue_length.sql").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def _length(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(_query().encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("name", ["keda-postgresql.yaml", "keda-azure-queue.yaml"])
def test_the_manifests_for_kubernetes_fit_together(name: str) -> None:
    """The scaler scales the workers that the same file deploys, as the identity that it names."""
    deployment, identity, scaler = _documents(name)
    assert [each["kind"] for each in (deployment, identity, scaler)] == ["Deployment", "TriggerAuthentication", "ScaledObject"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    pods = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == pods["metadata"]["labels"]
    assert {trigger["authenticationRef"]["name"] for trigger in scaler["spec"]["triggers"]} == {identity["metadata"]["name"]}
    # A scaler takes text only.
    assert all(isinstance(value, str) for trigger in scaler["spec"]["triggers"] for value in trigger["metadata"].values())
    assert pods["spec"]["terminationGracePeriodSeconds"] > 30


@pytest.mark.parametrize("name", ["container-apps.yaml", "container-apps-queue.yaml"])
def test_the_manifests_for_container_apps_use_the_secrets_that_they_name(name: str) -> None:
    """Each secret that a container or a rule refers to is there."""
    (app,) = _documents(name)
    assert app["type"] == "Microsoft.App/containerApps"
    template, secrets = app["properties"]["template"], app["properties"]["configuration"]["secrets"]
    rules = [rule["custom"] for rule in template["scale"]["rules"] if "custom" in rule]
    used = {variable["secretRef"] for container in template["containers"] for variable in container["env"]}
    assert used | {auth["secretRef"] for rule in rules for auth in rule["auth"]} == {secret["name"] for secret in secrets}
    assert all(isinstance(value, str) for rule in rules for value in rule["metadata"].values())


def test_all_manifests_ask_the_query_that_is_tested_here() -> None:
    """What the manifests ask is the file's query, and its types are those of the workflow that their workers run."""
    (trigger,) = _documents("keda-postgresql.yaml")[2]["spec"]["triggers"]
    (rule,) = _documents("container-apps.yaml")[0]["properties"]["template"]["scale"]["rules"]
    assert trigger["metadata"]["query"].strip() == _query().strip()
    assert rule["custom"]["metadata"]["query"].strip() == _query().strip()
    types = [control_work_type("primes", 1), *(task_work_type("primes", 1, name) for name in ("primes_count", "primes_total"))]
    assert f"array[{', '.join(repr(each) for each in types)}]" in _query()
    source = (EXAMPLES / "postgres_worker.py").read_text(encoding="utf-8")
    assert all(f'"{name}")' in source for name in ("primes", "primes_count", "primes_total"))


@pytest.mark.parametrize(("name", "queues"), [("keda-azure-queue.yaml", 2), ("container-apps-queue.yaml", 2)])
def test_queue_scalers_watch_both_queues_and_keep_a_worker(name: str, queues: int) -> None:
    """Planning and tasks are announced in queues of their own, by a worker, so one has to stay."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text.count("queueName: stageflow-tasks") + text.count("queueName: stageflow-jobs") == queues
    assert "minReplicaCount: 1" in text or "minReplicas: 1" in text


def test_the_query_counts_planning_and_not_what_others_do(postgres_dsn: str) -> None:
    """A job that was just submitted needs a worker, also while that plans; work of other types does not."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        start(store, new_job("another", job_type="other"), 5)
        assert _length(connection) == 0
        create(store, JOB)
        assert _length(connection) == 1
        claim_plan(store, JOB)
        assert _length(connection) == 1
    store.close()


def test_the_query_counts_tasks_that_are_ready_leased_or_due(postgres_dsn: str) -> None:
    """A task counts until its result is there; a delayed one from the moment when it is due."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        start(store, JOB, 10, range_count=2)
        assert _length(connection) == 10
        first, second = claim_all(store, tasks_type(JOB, TASK_TYPE))
        assert _length(connection) == 10
        complete_one(store, complete_ok(first, 3))
        assert _length(connection) == 7
        complete_one(store, report(first, Again(3600), *[Again(0.0)] * (first.last - first.first - 4), first=first.first + 3))
        assert _length(connection) == 6
        connection.execute("update stageflow.ranges set not_before = now() where state = 'waiting'")
        assert _length(connection) == 7
        connection.execute("update stageflow.ranges set state = 'ready', not_before = null where state = 'waiting'")
        complete_one(store, complete_ok(second))
        answers = [complete_one(store, complete_ok(lease)) for lease in claim_all(store, tasks_type(JOB, TASK_TYPE))]
        (advance_lease,) = [answer.advance for answer in answers if answer.advance is not None]
        assert _length(connection) == 1  # the advancing
        advance(store, advance_lease, new_stage(2, task_type="primes_total"))
        assert _length(connection) == 1  # the next planning
    store.close()


def test_the_query_reads_little_where_much_is_ready(postgres_dsn: str) -> None:
    """In a session with a server's own settings it keeps to the indexes, and reads at most 1,000 ranges of a kind."""
    PostgresStore(postgres_dsn).migrate()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        psycopg.ClientCursor(connection).execute(_GROW, {"rows": 100_000})
        for _ in ("never analysed", "analysed"):
            plan = "\n".join(row[0] for row in connection.execute(b"explain (analyze, timing off) " + _query().encode()))
            assert all(index in plan for index in ("ranges_ready", "ranges_waiting", "ranges_leased"))
            assert "Seq Scan" not in plan
            assert "Rows Removed" not in plan
            assert max(float(rows) for rows in re.findall(r"Scan.*actual rows=([0-9.]+)", plan)) <= 1000
            assert _length(connection) == 6000
            connection.execute("analyze")


def test_the_role_of_the_scaler_may_ask_that_and_nothing_else(postgres_dsn: str) -> None:
    """It counts ranges, and cannot read what jobs were given."""
    PostgresStore(postgres_dsn).migrate()
    with psycopg.connect(postgres_dsn) as connection:  # rolled back, for roles belong to the whole server
        connection.execute((FOLDER / "scaler_role.sql").read_bytes())
        connection.execute("set local role stageflow_scaler")
        assert _length(connection) == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("select parameters from stageflow.jobs")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("select error_details from stageflow.ranges")
        connection.rollback()
