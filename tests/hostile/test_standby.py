"""A hot standby: refused with what to do, and passed over where the address asks for the primary."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from stageflow import JobStatus, Stageflow
from stageflow.cli import main
from stageflow.cli.hello_world import Hello, demo_registry
from stageflow.errors import StoreUnsuitableError
from stageflow.testing import drain_work
from stageflow.testing.child_process import ServerFailedError, ServerNotFoundError, log_tail, start_child
from stageflow.testing.postgres_server import PostgresServer

APP = "stageflow.cli.hello_world:demo_registry"


class HotStandby(PostgresServer):
    """A copy of a running server, which follows it and takes no writes."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__()
        self._primary = primary

    def _initialise(self) -> None:
        if self._binaries.runner.user:
            self._scratch.give_to(self._binaries.runner.user)
        words = ["-D", str(self._data), "--write-recovery-conf", "--checkpoint=fast", "-d", self._primary.dsn("postgres")]
        if start_child(self._command("pg_basebackup", *words), self._log).wait(timeout=60) != 0:
            msg = f"pg_basebackup failed; it said:\n{log_tail(self._log)}"
            raise ServerFailedError(msg)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[str, str]]:
    """Give the address of a migrated database on a primary, and on its standby."""
    try:
        primary = PostgresServer()
    except ServerNotFoundError as error:
        pytest.fail(str(error))
    with primary:
        dsn = primary.create_database()
        with Stageflow(dsn, registry=demo_registry) as app:
            app.repositories.store.migrate()
            app.submit("hello_world", Hello(n=1))
        with HotStandby(primary) as standby:
            yield dsn, standby.dsn(str(conninfo_to_dict(dsn)["dbname"]))


@pytest.mark.parametrize("command", ["jobs", "check", "worker", "migrate", "verify"])
def test_a_command_on_a_standby_says_where_to_go(pair: tuple[str, str], command: str) -> None:
    """It is told at the start what it talks to, and how an address finds the primary."""
    _, standby = pair
    words = ["--app", APP] if command in {"check", "worker"} else []
    refused = CliRunner().invoke(main, [command, "--store", standby, *words])
    assert refused.exit_code == 3, refused.output
    assert "is a read replica; connect to the primary (target_session_attrs=read-write in the address)" in refused.output


def test_the_advice_for_a_standby_works(pair: tuple[str, str]) -> None:
    """An address of both, the standby first, with the words of the refusal: a job is done on the primary."""
    primary, standby = pair
    (first,), (second,) = (parse_qs(urlsplit(dsn).query)["host"] for dsn in (standby, primary))
    both = f"{primary.partition('?')[0]}?host={first},{second}&port=5432"
    with Stageflow(both, registry=demo_registry) as app, pytest.raises(StoreUnsuitableError, match="read replica"):
        app.submit("hello_world", Hello(n=2))
    with Stageflow(f"{both}&target_session_attrs=read-write", registry=demo_registry) as app:
        job_id = app.submit("hello_world", Hello(n=2)).job.job_id
        drain_work(app)
        assert app.job(job_id).status is JobStatus.COMPLETED
