"""Passwords, keys, tokens and signatures are in no output, error, event, picture of an object, or list of processes."""

import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import pytest
from click.testing import CliRunner

from stageflow import Contract, Stageflow, WorkerOptions
from stageflow.app.factory import create_queue
from stageflow.backends.azure import AzureBlobStore, AzureStorageQueue, parse_azure_url
from stageflow.backends.postgres import PostgresStore
from stageflow.cli import main
from stageflow.cli.hello_world import Hello, demo_registry
from stageflow.cli.parameters import decode_parameters
from stageflow.errors import InvalidValueError, StageflowError
from stageflow.settings import Settings, read_settings
from stageflow.telemetry import Event

SECRET = "hunter2Zx9"
KEY = "c2VjcmV0a2V5aHVudGVyMlp4OQ=="
APP = "stageflow.cli.hello_world:demo_registry"
STORES = [
    f"postgresql://me:{SECRET}@127.0.0.1:9/nowhere",
    f"postgresql://me:{SECRET}@no-such-host.invalid/x",
    f"postgresql://me:{SECRET}@127.0.0.1:9/x?no_such_option=1",
    f"postgresql://me@127.0.0.1:9/x?password={SECRET}",
    f"postgresql://me:{SECRET}@127.0.0.1:port/x",
    f"postgresql://me:{SECRET}%@127.0.0.1:9/x",
    f"postgres://me:{SECRET}@127.0.0.1:9/x?sslmode=nonsense",
    f"mysql://me:{SECRET}@127.0.0.1/x",
    f"postgresql:/me:{SECRET}@127.0.0.1/x",
]
QUEUES = [
    f"azure:DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY};QueueEndpoint=http://127.0.0.1:9/a;",
    f"azure:DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY}",
    f"azure:AccountKey={KEY}",
    f"azure:QueueEndpoint=http://127.0.0.1:9/a;SharedAccessSignature=sv=2024-01-01&sig={SECRET}",
    f"azure:https://account.queue.core.windows.net?sv=2024-01-01&sig={SECRET}",
    f"https://account.queue.core.windows.net/?sv=1&sig={SECRET}",
    f"amqp://me:{SECRET}@host/",
]
COMMANDS = [
    ["check"],
    ["jobs"],
    ["migrate"],
    ["verify"],
    ["worker"],
    ["submit", "hello_world", "--parameters", '{"n": 1}'],
    ["doctor"],
]


def _hides(*texts: str) -> None:
    for text in texts:
        assert SECRET not in text, text
        assert KEY not in text, text
        assert KEY[:-2] not in text, text


def _whole(error: BaseException | None) -> str:
    return "" if error is None else "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize("store", STORES)
def test_a_command_that_fails_hides_the_stores_password(
    store: str, command: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Unreachable, misspelt or unknown: the message says what to do and not what the password is."""
    caplog.set_level(logging.DEBUG)
    for arguments, environment in ([*command, "--store", store], {}), (command, {"STAGEFLOW_STORE": store}):
        failed = CliRunner().invoke(main, [*arguments, "--app", APP], env=environment)
        assert failed.exit_code not in {0, 1}
        _hides(failed.output, caplog.text)
        assert isinstance(failed.exception, SystemExit)


@pytest.mark.parametrize("queue", QUEUES)
def test_a_command_that_fails_hides_the_queues_key(queue: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Account keys and shared access signatures stay in the connection string."""
    caplog.set_level(logging.DEBUG, logger="stageflow")
    store = f"sqlite:{tmp_path / 'store.db'}"
    assert CliRunner().invoke(main, ["migrate", "--store", store]).exit_code == 0
    failed = CliRunner().invoke(main, ["check", "--store", store, "--queue", queue, "--app", APP])
    assert failed.exit_code in {2, 3}
    _hides(failed.output, caplog.text)


@pytest.mark.parametrize("store", STORES)
def test_errors_and_their_causes_hide_the_password(store: str) -> None:
    """Who prints the whole chain of causes, as a logger does, prints no password."""
    with pytest.raises(StageflowError) as caught, Stageflow(store, registry=demo_registry) as app:
        app.submit("hello_world", Hello(n=1))
    _hides(_whole(caught.value))


def test_a_wrong_password_is_not_repeated() -> None:
    """A server that refuses it gives no reason to print it."""
    with create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(StageflowError) as caught:
        PostgresStore(f"postgresql://me:{SECRET}@127.0.0.1:{port}/x").now()
    _hides(_whole(caught.value))


def test_pictures_of_objects_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """``repr``, as debuggers and error trackers show it, has the address and nothing more."""
    monkeypatch.setenv("STAGEFLOW_STORE", STORES[0])
    monkeypatch.setenv("STAGEFLOW_QUEUE", QUEUES[0])
    settings = read_settings()
    store = PostgresStore(STORES[0])
    app = Stageflow(STORES[0], registry=demo_registry)
    queue = create_queue(QUEUES[0])
    assert isinstance(queue, AzureStorageQueue)
    blobs = AzureBlobStore.from_connection_string(QUEUES[0].removeprefix("azure:").replace("Queue", "Blob"))
    assert settings == Settings(store=STORES[0], queue=QUEUES[0], app=None)
    for each in (
        settings,
        store,
        store.url,
        app,
        app.repositories,
        app.repositories.store.url,
        queue,
        queue.url,
        blobs,
        blobs.url,
    ):
        _hides(repr(each), str(each))
    _hides(repr(parse_azure_url(QUEUES[0])))
    app.close()
    store.close()


class Login(Contract):
    """Parameters with a secret."""

    password: str
    pin: int = 0


@pytest.mark.parametrize(
    "text", [f'{{"password": ["{SECRET}"]}}', f'{{"password": "{SECRET}", "pin": "x"}}', f'{{"passwrd": "{SECRET}"}}']
)
def test_parameters_that_are_refused_are_not_repeated(text: str) -> None:
    """What was given for a field with a secret's name is not shown, nor are other fields of the object."""
    with pytest.raises(InvalidValueError) as caught:
        decode_parameters(Login, text)
    _hides(_whole(caught.value))


def test_a_reason_for_cancelling_is_redacted(tmp_path: Path) -> None:
    """What an operator pastes into a reason is stored, and shown to everybody who reads the job."""
    seen: list[Event] = []
    with Stageflow(f"sqlite:{tmp_path / 's.db'}", registry=demo_registry) as app, app.telemetry.listening(seen.append):
        job_id = app.submit("hello_world", Hello(n=1)).job.job_id
        job = app.cancel(job_id, reason=f"wrong store postgresql://me:{SECRET}@host/db, sig={SECRET}")
        assert (job.error_details or "").startswith("wrong store postgresql://me:***@host/db")
        _hides(job.to_json(), app.job(job_id).to_json(), repr(seen))


@contextmanager
def _worker(folder: Path, dsn: str) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"STAGEFLOW_STORE": dsn, "STAGEFLOW_APP": APP, "PGPASSFILE": str(folder / "none")}
    words = [sys.executable, "-m", "stageflow", "worker"]
    with subprocess.Popen(  # noqa: S603  our own command
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
    ) as worker:
        yield worker


def test_a_worker_given_its_store_by_the_environment_shows_it_in_no_process_list(tmp_path: Path, postgres_dsn: str) -> None:
    """Everybody on a machine can read what its processes were called with; not their environment."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    store.close()
    with_secret = postgres_dsn + f"&password={SECRET}"
    with Stageflow(postgres_dsn, registry=demo_registry) as app:
        job_id = app.submit("hello_world", Hello(n=1)).job.job_id
        with _worker(tmp_path, with_secret) as worker:
            app.wait(job_id, timeout=60)
            lines = [Path(f"/proc/{worker.pid}/cmdline").read_text()]
            worker.terminate()
            output, _ = worker.communicate(timeout=60)
    _hides(output, *lines)
    assert "stageflow" in lines[0]


def test_worker_options_hold_no_secret() -> None:
    """Options are logged by who likes to; there is nothing in them to hide."""
    assert not {name for name in WorkerOptions.model_fields if "store" in name or "dsn" in name or "key" in name}
