"""The servers that tests need: found, started when the first test asks, and named in the header."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from stageflow.backends.postgres import PostgresStore
from stageflow.testing.azurite_server import AzuriteServer, describe_azurite, find_node, install_azurite
from stageflow.testing.child_process import ServerNotFoundError
from stageflow.testing.pgbouncer_server import PgBouncer, describe_pgbouncer
from stageflow.testing.postgres_binaries import find_postgres
from stageflow.testing.postgres_server import PostgresDatabases, PostgresServer

POSTGRES_DSN = "STAGEFLOW_TEST_POSTGRES_DSN"
"""A server to make databases on, in place of one of our own."""
POSTGRES_BIN = "STAGEFLOW_TEST_POSTGRES_BIN"
"""The folder of ``postgres`` and ``initdb``, in place of the first that is found."""
AZURITE = "STAGEFLOW_TEST_AZURITE"
"""A connection string, in place of an emulator of our own."""
UNDER_CI = os.environ.get("CI", "").lower() in {"1", "true"}

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if UNDER_CI else "dev")

_MISSING = "a server is missing: "
"""In front of the reason for which a test that needs one is skipped."""


@dataclass(frozen=True)
class GivenAzurite:
    """An emulator, or an account, that the environment names."""

    connection_string: str


def pytest_report_header() -> list[str]:
    """Say which servers the tests will use."""
    return [f"postgres: {_describe_postgres()}", f"azurite: {_describe_azurite()}", f"pgbouncer: {_describe_pgbouncer()}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, so that it can be left out by hand."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if {"postgres_dsn", "postgres_server"} & set(item.fixturenames):
            item.add_marker(pytest.mark.postgres)
        if "azurite" in item.fixturenames:
            item.add_marker(pytest.mark.azurite)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install Azurite before the first test, if one needs it: npm may take longer than a test may."""
    if session.config.option.collectonly or AZURITE in os.environ:
        return
    if any(item.get_closest_marker("azurite") for item in session.items):
        with suppress(ServerNotFoundError):  # the fixture asks again, and says what is wrong
            install_azurite(find_node())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what could not be tested."""
    skipped = [str(report.longrepr) for report in terminalreporter.getreports("skipped")]
    reasons = Counter(text.partition(_MISSING)[2] for text in skipped if _MISSING in text)
    for reason, tests in sorted(reasons.items()):
        terminalreporter.section(f"A SERVER IS MISSING, {tests} TESTS DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.line(reason)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresDatabases]:
    """Give a PostgreSQL on which databases may be created."""
    if POSTGRES_DSN in os.environ:
        yield PostgresDatabases(os.environ[POSTGRES_DSN])
        return
    try:
        server = PostgresServer(folder=_postgres_folder())
    except ServerNotFoundError as error:
        _give_up(error)
    with server:
        yield server


@pytest.fixture
def postgres_dsn(postgres_server: PostgresDatabases) -> Iterator[str]:
    """Give the address of an empty database of one's own."""
    dsn = postgres_server.create_database()
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresDatabases) -> Iterator[str]:
    """Give the address of a migrated database to copy, which is quicker than to migrate one for each test."""
    dsn = postgres_server.create_database()
    store = PostgresStore(dsn)
    store.migrate()
    store.close()
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def migrated_dsn(postgres_server: PostgresDatabases, migrated_template: str) -> Iterator[str]:
    """Give the address of a database of one's own that is migrated, and else empty."""
    dsn = postgres_server.create_database(template=migrated_template)
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def pgbouncer(postgres_dsn: str) -> Iterator[PgBouncer]:
    """Give a pooler in transaction mode in front of the test's own database, with two connections to it."""
    try:
        pooler = PgBouncer(postgres_dsn)
    except ServerNotFoundError as error:
        _give_up(error)
    with pooler:
        yield pooler


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzuriteServer | GivenAzurite]:
    """Give an Azurite that all tests share."""
    if AZURITE in os.environ:
        yield GivenAzurite(os.environ[AZURITE])
        return
    try:
        server = AzuriteServer()
    except ServerNotFoundError as error:
        _give_up(error)
    with server:
        yield server


def _give_up(error: ServerNotFoundError) -> NoReturn:
    if UNDER_CI:
        pytest.fail(str(error), pytrace=False)
    pytest.skip(f"{_MISSING}{error}")


def _describe_postgres() -> str:
    try:
        if POSTGRES_DSN in os.environ:
            return f"{PostgresDatabases(os.environ[POSTGRES_DSN]).version}, the server that {POSTGRES_DSN} names"
        binaries = find_postgres(_postgres_folder())
    except (ServerNotFoundError, psycopg.Error, ValueError) as error:
        return f"MISSING: {error}"
    return f"{binaries.version} from {binaries.source}"


def _describe_pgbouncer() -> str:
    try:
        return describe_pgbouncer()
    except ServerNotFoundError as error:
        return f"MISSING: {error}"


def _postgres_folder() -> Path | None:
    return Path(os.environ[POSTGRES_BIN]) if POSTGRES_BIN in os.environ else None


def _describe_azurite() -> str:
    if AZURITE in os.environ:
        return f"the account that {AZURITE} names"
    try:
        return describe_azurite()
    except ServerNotFoundError as error:
        return f"MISSING: {error}"
