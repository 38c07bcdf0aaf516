"""The command line, as a person and as a program use it."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from click.testing import CliRunner, Result

from stageflow.app.factory import create_queue
from stageflow.cli import main
from stageflow.cli.loading import opened_app
from stageflow.cli.progress import Pace, stage_line
from stageflow.contracts.lease import ClaimRequest
from stageflow.contracts.message import JobQueueMessage
from stageflow.contracts.stage import StageResultContract
from stageflow.testing.conformance.builders import chunk

WORKFLOWS = """
from collections.abc import Iterator
from stageflow import BaseController, Contract, JobExecutionContext, JobRegistry, TaskExecutionContext, stage, task, workflow

registry = JobRegistry()


class Request(Contract):
    count: int
    bad: int = -1


class Item(Contract):
    index: int
    bad: bool


@task("square")
def square(parameters: Item, context: TaskExecutionContext) -> Item:
    if parameters.bad:
        raise ValueError("password=hunter2 is wrong")
    return parameters


from stageflow import RetryPolicy


@workflow("squares", registry=registry)
class Squares(BaseController[Request]):
    squares = stage(1, "squares", task=square, retry=RetryPolicy(max_attempts=1))

    @squares.plan
    def plan_squares(self, job: JobExecutionContext[Request]) -> Iterator[Item]:
        for index in range(job.parameters.count):
            yield Item(index=index, bad=index == job.parameters.bad)
"""


def call(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the options that name a module of workflows and a store on a file."""
    name = f"flows_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(WORKFLOWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return ["--app", f"{name}:registry", "--store", f"sqlite:{tmp_path / 'jobs.db'}"]


def check_demo(document: dict[str, Any], count: int) -> None:
    """Assert what the demo promises."""
    assert document["status"] == "completed"
    assert set(document["stage_results"]) == {"1", "2"}
    fields = {*StageResultContract.model_fields, "stage_key"}
    for result in document["stage_results"].values():
        assert set(result) == fields
        assert result["task_count"] == count
    greetings, replies = (document["stage_results"][key]["task_results"] for key in ("1", "2"))
    for greeting, reply in zip(greetings, replies, strict=True):
        assert reply["result_data"]["text"] == f"World replies to: {greeting['result_data']['text']}"


def test_the_demo_prints_one_document() -> None:
    """With --json, stdout is one JSON document with both stage results, and replies quote the greeting of their index."""
    answer = subprocess.run(
        [sys.executable, "-m", "stageflow", "demo", "--tasks", "3", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    check_demo(json.loads(answer.stdout), 3)
    assert answer.stderr == ""


def test_a_wide_stage_prints_its_first_thousand_results() -> None:
    """One JSON document stays readable: a thousand task results of each stage, and how many there are."""
    answer = call("demo", "--tasks", "1001", "--json")
    assert answer.exit_code == 0, answer.output
    for result in json.loads(answer.stdout)["stage_results"].values():
        assert (result["task_count"], result["results_paged"]) == (1001, True)
        assert [each["task_index"] for each in result["task_results"]] == list(range(1000))


def test_the_demo_shows_a_table_and_no_colour_without_a_terminal() -> None:
    """A person sees stages and replies; what is piped holds no escape codes."""
    answer = call("demo", "--tasks", "2")
    assert answer.exit_code == 0
    assert "World replies to: Hello World from task 1!" in answer.output
    assert "\x1b" not in answer.output


def test_the_demo_runs_on_postgresql_and_azure(postgres_dsn: str, azurite: Any) -> None:
    """The same document comes from a real server, with and without an external queue."""
    for queue in ([], ["--queue", f"azure:{azurite.connection_string}?prefix=cli-demo"]):
        answer = call("demo", "--tasks", "3", "--json", "--store", postgres_dsn, *queue)
        assert answer.exit_code == 0, answer.output
        check_demo(json.loads(answer.stdout), 3)


def test_a_job_is_submitted_worked_on_and_looked_at(setup: list[str]) -> None:
    """submit, jobs, worker, watch, status, tasks: each by itself, over the same store."""
    submitted = call("submit", "squares", "--parameters", '{"count": 3}', "--json", *setup)
    assert submitted.exit_code == 0, submitted.output
    job_id = json.loads(submitted.stdout)["job"]["job_id"]
    again = call("submit", "squares", "--parameters", '{"count": 3}', "--json", *setup)
    assert json.loads(again.stdout)["outcome"] == "running"
    assert [job["job_id"] for job in json.loads(call("jobs", "--json", *setup).stdout)] == [job_id]
    worker = subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-m", "stageflow", "worker", *setup],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert worker.stdout is not None
    assert "is ready" in worker.stdout.readline()
    watched = call("watch", job_id[:10], "--json", *setup)
    assert json.loads(watched.stdout)["status"] == "completed"
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    assert "stopped" in worker.stdout.read()
    worker.stdout.close()
    assert "completed" in call("status", job_id[:10], *setup).output
    assert [each["status"] for each in json.loads(call("tasks", job_id[:10], "--json", *setup).stdout)] == ["completed"] * 3


def test_a_job_that_exists_already_says_so_and_what_of_the_request_changed_nothing(setup: list[str]) -> None:
    """A queued job is not called running, and options that only a new job takes are not dropped in silence."""
    request = ["squares", "--parameters", '{"count": 1}']
    job_id = call("submit", *request, "--timeout", "600", *setup).stdout.split()[0]
    again = call("submit", *request, *setup)
    assert (again.stdout, again.stderr) == (f"{job_id} exists already, queued\n", "")
    told = f"job {job_id} exists already, so --not-before and --timeout changed nothing; --new-run"
    late = ["--not-before", "2000-01-01", "--timeout", "5"]
    assert told in call("submit", *request, *late, *setup).stderr
    ran = call("run", *request, *late, *setup)
    assert ran.exit_code == 0, ran.output
    assert told in ran.stderr
    assert call("submit", *request, *setup).stdout == f"{job_id} exists already, completed\n"


def test_a_failed_job_exits_1_and_says_why_without_secrets(setup: list[str]) -> None:
    """The exit code tells a script, the error tells a person, and what looks like a password is hidden."""
    answer = call("run", "squares", "--parameters", '{"count": 3, "bad": 1}', *setup)
    assert answer.exit_code == 1
    assert "ValueError" in answer.output
    assert "hunter2" not in answer.output
    job_id = json.loads(call("jobs", "--json", "--status", "failed", *setup).stdout)[0]["job_id"]
    assert call("status", job_id, *setup).exit_code == 1
    failed = json.loads(call("tasks", job_id, "--failed", "--json", *setup).stdout)
    assert [each["task_index"] for each in failed] == [1]
    assert call("tasks", job_id, "--failed", *setup).exit_code == 0


def test_status_tells_how_many_tasks_run(setup: list[str]) -> None:
    """A person and a program see what is leased, next to what has ended and what is left."""
    call("submit", "squares", "--parameters", '{"count": 5}', *setup)
    with opened_app(setup[1], setup[3], None) as app:
        store = app.repositories.store
        (job,) = app.repositories.jobs.list_jobs()
        request: dict[str, Any] = {"worker_id": "ada", "max_leases": 1, "lease_seconds": 60.0}
        (plan,) = store.claim(ClaimRequest(work_types=["squares/1"], max_tasks=[1], **request)).leases
        store.add_tasks(chunk(plan, 5))
        store.claim(ClaimRequest(work_types=["squares/1/square"], max_tasks=[3], **request))
    (stage,) = json.loads(call("status", job.job_id, "--json", *setup).stdout)["stages"]
    assert (stage["running"], stage["remaining"], stage["task_count"]) == (3, 5, 5)
    shown = call("status", job.job_id, *setup).output
    assert max(map(len, shown.splitlines())) <= 80
    assert re.findall(r"\w+", shown.splitlines()[2])[-3:] == ["skipped", "running", "left"]
    assert re.findall(r"[\w+]+", shown.splitlines()[4]) == ["1", "squares", "processing", "5", "0", "0", "0", "3", "5"]


def test_a_queued_job_is_cancelled(setup: list[str]) -> None:
    """A cancelled job stays cancelled."""
    call("submit", "squares", "--parameters", '{"count": 1}', *setup)
    job_id = json.loads(call("jobs", "--json", *setup).stdout)[0]["job_id"]
    assert "cancelled" in call("cancel", job_id, *setup).output
    assert json.loads(call("status", job_id, "--json", *setup).stdout)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["submit", "circles"], 2, "registered: squares"),
        (["submit", "squares", "--parameters", '{"count": "3"}'], 2, "count: Input should be a valid integer, got '3'"),
        (["submit", "squares", "--parameters", '{"count": "3"}'], 2, "Give a JSON object with count, bad (optional)."),
        (["submit", "squares"], 2, "count: Field required. Give a JSON object with count"),
        (["submit", "squares", "--parameters", "3"], 2, "got 3. Give a JSON object with count"),
        (["submit", "squares", "--parameters", "nonsense"], 2, "Invalid JSON"),
        (["submit", "squares", "--parameters", '{"count": 1, "count": 2}'], 2, "key 'count' twice"),
        (["submit", "squares", "--parameters", '{"count": 1, "bad": [{"a": 1, "b": {}, "a": 2}]}'], 2, "key 'a' twice"),
        (["submit", "squares", "--parameters", "[" * 100_000 + "]" * 100_000], 2, "nested too deeply"),
        (["run", "squares", "--parameters", '{"count":' * 100_000 + "1" + "}" * 100_000], 2, "nested too deeply"),
        (["run", "squares", "--parameters", f'{{"count": {"9" * 5000}}}'], 2, "number out of range"),
        (["status", "ffff"], 2, "no job whose id begins"),
        (["cancel", ""], 2, "blank"),
        (["jobs", "--queue", " "], 2, "blank"),
    ],
)
def test_bad_input_is_told_apart(setup: list[str], arguments: list[str], code: int, said: str) -> None:
    """An unknown type, wrong parameters and an unknown job each get one clear message and exit code 2."""
    assert call("migrate", *setup).exit_code == 0
    answer = call(*arguments, *setup)
    assert answer.exit_code == code
    assert said in answer.output
    assert "Traceback" not in answer.output


def test_an_unreachable_store_exits_3_without_the_password() -> None:
    """A script can tell an outage from a failure."""
    answer = call("verify", "--store", "postgresql://someone:hunter2@127.0.0.1:1/nowhere")
    assert answer.exit_code == 3
    assert "hunter2" not in answer.output


def test_a_store_that_was_not_migrated_exits_4(postgres_dsn: str, setup: list[str]) -> None:
    """A worker refuses to start on an empty database and names the command that helps."""
    answer = call("submit", "squares", "--parameters", '{"count": 1}', "--app", setup[1], "--store", postgres_dsn)
    assert answer.exit_code == 4
    assert "stageflow migrate" in answer.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "--json"],
        ["check"],
        ["jobs"],
        ["jobs", "--json"],
        ["status", "a"],
        ["watch", "a"],
        ["tasks", "a"],
    ],
)
@pytest.mark.parametrize("content", [None, b""])
def test_looking_at_a_store_that_is_not_there_makes_none(
    setup: list[str], tmp_path: Path, arguments: list[str], content: bytes | None
) -> None:
    """A mistyped path is told with what to do, and leaves no file behind, nor tables in a file that is none of ours."""
    path = tmp_path / "jobs.db"
    if content is not None:
        path.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    answer = call(*arguments, *setup)
    assert answer.exit_code == 4, answer.output
    assert "--json" in arguments or "stageflow migrate" in answer.output
    assert sorted(tmp_path.iterdir()) == before
    assert content is None or path.read_bytes() == content


def test_verify_names_the_command_for_an_empty_database(postgres_dsn: str) -> None:
    """A database without a schema is told with what to do."""
    answer = call("verify", "--store", postgres_dsn)
    assert answer.exit_code == 4
    assert "stageflow migrate" in answer.output


def test_a_stage_that_a_job_does_not_have_is_named_with_those_it_has(setup: list[str]) -> None:
    """An empty table would say that the stage has no tasks."""
    call("submit", "squares", "--parameters", '{"count": 1}', *setup)
    job_id = json.loads(call("jobs", "--json", *setup).stdout)[0]["job_id"]
    assert call("tasks", job_id, "--stage", "1", *setup).exit_code == 0
    answer = call("tasks", job_id, "--stage", "7", *setup)
    assert answer.exit_code == 2
    assert "no stage 7; its stages are 1 (squares)" in answer.output


def test_verify_says_up_to_date_and_names_drift(postgres_dsn: str) -> None:
    """A migrated database is up to date; one that was altered by hand is not, and each difference is named."""
    assert call("migrate", "--store", postgres_dsn).exit_code == 0
    fine = call("verify", "--store", postgres_dsn)
    assert (fine.exit_code, "up to date" in fine.output) == (0, True)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("drop index stageflow.jobs_created")
        connection.execute("alter table stageflow.tasks add column extra text")
    drifted = call("verify", "--store", postgres_dsn)
    assert drifted.exit_code == 1
    assert "jobs_created" in drifted.output
    assert "extra" in drifted.output
    assert json.loads(call("verify", "--store", postgres_dsn, "--json").stdout)["up_to_date"] is False


def test_check_names_what_it_found(setup: list[str]) -> None:
    """The whole set-up in three lines."""
    call("migrate", *setup)
    answer = call("check", *setup)
    assert answer.exit_code == 0, answer.output
    assert "squares version 1" in answer.output
    assert json.loads(call("check", "--json", *setup).stdout)["workflows"] == ["squares version 1"]


def test_check_does_not_call_a_schema_current_that_was_altered(setup: list[str], tmp_path: Path) -> None:
    """What `verify` would name is not passed over by the command that looks at all of the set-up."""
    call("migrate", *setup)
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, connection:
        connection.execute("update stageflow_migrations set checksum = 'altered' where version = 1")
    answer = call("check", *setup)
    assert answer.exit_code == 1
    assert "schema drifted (1 difference; `stageflow verify` names each)" in answer.output
    assert len(json.loads(call("check", "--json", *setup).stdout)["drifts"]) == 1


@pytest.mark.parametrize("named", ["no_such_module", "json:no_such_thing", "json:dumps"])
def test_an_app_that_cannot_be_loaded_is_a_usage_error(named: str) -> None:
    """--app must name a module, a registry or an app."""
    answer = call("check", "--app", named, "--store", "sqlite::memory:")
    assert answer.exit_code == 2
    assert "--app" in answer.output


def test_run_without_workflows_says_how_to_name_them() -> None:
    """Nothing registered is a usage error."""
    answer = subprocess.run(
        [sys.executable, "-m", "stageflow", "run", "squares", "--store", "sqlite::memory:"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "--app" in answer.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [("def broken(:", "SyntaxError"), ("raise ValueError('the password=hunter2 is missing')", "ValueError")],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(
    setup: list[str], tmp_path: Path, source: str, said: str
) -> None:
    """A mistake in the user's own module is one message with the place, without a traceback or a secret."""
    name = f"{setup[1].partition(':')[0]}_broken"
    (tmp_path / f"{name}.py").write_text(source)
    answer = call("check", "--app", name, "--store", "sqlite::memory:")
    assert answer.exit_code == 2
    assert f"--app {name} cannot be imported: {said}" in answer.output
    assert "Traceback" not in answer.output
    assert "hunter2" not in answer.output


def test_an_app_keeps_its_own_store(setup: list[str], tmp_path: Path) -> None:
    """A --store beside an app would be ignored, so that a job could land elsewhere: it is refused."""
    flows = setup[1].partition(":")[0]
    own = f"{flows}_app"
    text = (
        f"from stageflow import Stageflow\nfrom {flows} import registry\napp = Stageflow('sqlite::memory:', registry=registry)"
    )
    (tmp_path / f"{own}.py").write_text(text)
    answer = call("check", "--app", f"{own}:app", "--store", "sqlite:other.db")
    assert answer.exit_code == 2
    assert "leave out --store" in " ".join(answer.output.split())
    assert call("check", "--app", f"{own}:app").exit_code == 0


def test_a_prefix_of_several_ids_and_a_blank_one_choose_no_job(setup: list[str]) -> None:
    """What names no single job cancels none, even where there is but one."""
    call("submit", "squares", "--parameters", '{"count": 1}', *setup)
    assert call("cancel", "", *setup).exit_code == 2
    ids: list[str] = []
    while len({job_id[0] for job_id in ids}) == len(ids):
        submitted = call("submit", "squares", "--parameters", '{"count": 1}', "--new-run", "--json", *setup)
        ids.append(json.loads(submitted.stdout)["job"]["job_id"])
    answer = call("cancel", ids[-1][0], *setup)
    assert answer.exit_code == 2
    assert "fits several jobs" in answer.output
    assert {job["status"] for job in json.loads(call("jobs", "--json", *setup).stdout)} == {"queued"}


def test_check_leaves_the_messages_of_the_queue_where_they_are(postgres_dsn: str, azurite: Any, setup: list[str]) -> None:
    """A queue that is missing is told with what to do; a look at one hides no message and counts no delivery."""
    queue = f"azure:{azurite.connection_string}?prefix=cli-check"
    options = ["--app", setup[1], "--store", postgres_dsn, "--queue", queue]
    assert call("migrate", *options[:4]).exit_code == 0
    missing = call("check", *options)
    assert (missing.exit_code, "stageflow migrate" in missing.output) == (3, True)
    assert call("migrate", *options).exit_code == 0
    kept = create_queue(queue)
    kept.send([JobQueueMessage(job_id="a" * 64, job_type="squares", stage_number=1)])
    checked = json.loads(call("check", "--json", *options).stdout)
    assert (checked["queue"], checked["messages"]) == (kept.url, 1)
    assert "about 1 messages" in call("check", *options).output
    assert [message.delivery_count for message in kept.receive(max_messages=2, visibility_seconds=60.0)] == [1]
    kept.close()


def test_the_rate_counts_from_the_first_look_and_says_what_is_left(setup: list[str]) -> None:
    """Somebody who begins to watch late sees the pace of now, and a stage that begins between looks has a sane one."""
    assert call("run", "squares", "--parameters", '{"count": 200}', *setup).exit_code == 0
    job_id = json.loads(call("jobs", "--json", *setup).stdout)[0]["job_id"]
    with opened_app(setup[1], setup[3], None) as app:
        ended = app.progress(job_id)
    stage = ended.stages[0]
    begun = ended.model_copy(update={"stages": [stage.model_copy(update={"remaining": 100, "running": 4})]})
    assert Pace(ended).look(ended) == {1: 0.0}
    assert 0 < Pace(begun).look(ended)[1] <= 100 / 0.001
    assert stage_line(begun.stages[0], 50.0) == "stage 1 squares: 100/200 done, 4 running, 0 failed, 50/s, 2 s left"
    assert stage_line(stage, 50.0) == "stage 1 squares: 200/200 done, 0 failed"


LOOKS = [["jobs"], ["status", "a"], ["tasks", "a"], ["watch", "a"], ["cancel", "a"], ["check"], ["verify"]]
_NEWER: LiteralString = "insert into stageflow.migrations (version, name, checksum) values (99, 'later', 'x')"


@pytest.mark.parametrize(
    ("change", "said"),
    [(_NEWER, "newer|upgrade stageflow"), ("delete from stageflow.migrations", "restore its rows from a backup")],
)
def test_a_schema_that_does_not_fit_is_refused_by_every_command(postgres_dsn: str, change: LiteralString, said: str) -> None:
    """Neither a newer schema nor one without records is read as if it were ours; each answer says what to do."""
    assert call("migrate", "--store", postgres_dsn).exit_code == 0
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(change)
    for arguments in [*LOOKS, ["demo"], ["migrate"]]:
        answer = call(*arguments, "--store", postgres_dsn)
        assert (arguments, answer.exit_code) == (arguments, 4), answer.output
        assert re.search(said, answer.output), answer.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("insert into stageflow_migrations values (99, 'later', 'x', 0)", "or a newer one"),
        ("delete from stageflow_migrations", "restore its rows from a backup"),
    ],
)
def test_a_file_whose_schema_does_not_fit_is_refused_by_every_command(tmp_path: Path, change: str, said: str) -> None:
    """The same in SQLite."""
    url = f"sqlite:{tmp_path / 'unfit.db'}"
    assert call("migrate", "--store", url).exit_code == 0
    with closing(sqlite3.connect(tmp_path / "unfit.db", isolation_level=None)) as connection:
        connection.execute(change)
    for arguments in [*LOOKS, ["demo"], ["migrate"]]:
        answer = call(*arguments, "--store", url)
        assert (arguments, answer.exit_code) == (arguments, 4), answer.output
        assert said in answer.output


def test_migrate_does_not_call_a_drifted_schema_up_to_date(postgres_dsn: str) -> None:
    """What no migration mends is said, with the command that names it."""
    assert call("migrate", "--store", postgres_dsn).exit_code == 0
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("drop index stageflow.jobs_created")
    answer = call("migrate", "--store", postgres_dsn)
    assert answer.exit_code == 4
    assert "run `stageflow verify`" in answer.output
    assert "up to date" not in answer.output


def test_a_module_that_exits_when_it_is_imported_is_a_usage_error(setup: list[str], tmp_path: Path) -> None:
    """A script that runs at import must not look like a submission that went well."""
    name = f"{setup[1].partition(':')[0]}_exits"
    (tmp_path / f"{name}.py").write_text("import sys\nsys.exit(0)\n")
    answer = call("submit", "squares", "--app", name, "--store", "sqlite::memory:")
    assert answer.exit_code == 2
    assert "it calls sys.exit(0)" in " ".join(answer.output.split())


def test_a_store_that_is_no_database_exits_3(tmp_path: Path) -> None:
    """A file of another kind is a store that cannot be used, whatever is asked of it."""
    (tmp_path / "picture.db").write_bytes(b"no database" * 1000)
    for arguments in (["jobs"], ["demo"], ["verify"], ["migrate"]):
        answer = call(*arguments, "--store", f"sqlite:{tmp_path / 'picture.db'}")
        assert (arguments, answer.exit_code) == (arguments, 3), answer.output
        assert "no SQLite database" in answer.output


def test_a_job_is_explained_for_people_and_for_programs(setup: list[str]) -> None:
    """Nobody works on the first, the second failed; the exit code says which."""
    waiting = json.loads(call("submit", "squares", "--parameters", '{"count": 1}', "--json", *setup).stdout)["job"]["job_id"]
    answer = call("explain", waiting[:16], *setup)
    assert answer.exit_code == 0
    assert "no live worker knows squares/1; none runs" in answer.stdout
    assert "next: start a worker that registers workflow squares version 1" in answer.stdout
    kinds = [finding["kind"] for finding in json.loads(call("explain", waiting, "--json", *setup).stdout)["findings"]]
    assert kinds == ["job_open", "planning", "no_worker"]
    assert call("run", "squares", "--parameters", '{"count": 3, "bad": 1}', *setup).exit_code == 1
    failed = json.loads(call("jobs", "--status", "failed", "--json", *setup).stdout)[0]["job_id"]
    answer = call("explain", failed, *setup)
    assert answer.exit_code == 1
    assert "task 1 failed in its attempt 1: ValueError: password=*** is wrong" in answer.stdout
    assert "hunter2" not in answer.stdout


STUCK = """
import signal, sys, threading
from collections.abc import Iterator
from stageflow import BaseController, Contract, JobExecutionContext, JobRegistry, TaskExecutionContext, stage, task, workflow

registry = JobRegistry()
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background takes away


class Request(Contract):
    pass


@task("wait")
def wait(parameters: Request, context: TaskExecutionContext) -> None:
    print("begun", file=sys.stderr, flush=True)
    threading.Event().wait()


@workflow("stuck", registry=registry)
class Stuck(BaseController[Request]):
    waiting = stage(1, "waiting", task=wait)

    @waiting.plan
    def plan_waiting(self, job: JobExecutionContext[Request]) -> Iterator[Request]:
        yield job.parameters
"""


def read_until(stream: Any, said: str) -> str:
    """Return the next line that says something; fails where there is none."""
    for line in stream:
        if said in line:
            return str(line)
    pytest.fail(f"nothing says {said!r}")


def test_the_first_interrupt_stops_and_the_second_ends_at_once(setup: list[str], tmp_path: Path) -> None:
    """Who waits for a long handler is told how long, and need not wait."""
    name = f"{setup[1].partition(':')[0]}_stuck"
    (tmp_path / f"{name}.py").write_text(STUCK)
    run = subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-m", "stageflow", "run", "stuck", "--app", f"{name}:registry"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    with run:
        assert run.stderr is not None
        read_until(run.stderr, "begun")
        run.send_signal(signal.SIGINT)
        assert "running handlers have 30 s to finish; press Ctrl-C again" in read_until(run.stderr, "stopping")
        run.send_signal(signal.SIGINT)
        assert "its lease has expired" in read_until(run.stderr, "ended at once")
        assert run.wait(timeout=20) == 130
