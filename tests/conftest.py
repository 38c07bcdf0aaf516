"""The servers that tests need: found, started when the first test asks, and named in the header."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings

from stageflow.testing.azurite_server import AzuriteServer, describe_azurite
from stageflow.testing.child_process import ServerNotFoundError
from stageflow.testing.postgres_binaries import find_postgres
from stageflow.testing.postgres_server import PostgresDatabases, PostgresServer

POSTGRES_DSN = "STAGEFLOW_TEST_POSTGRES_DSN"
AZURITE = "STAGEFLOW_TEST_AZURITE"

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if "CI" in os.environ else "dev")

_missing: set[str] = set()


@dataclass(frozen=True)
class GivenAzurite:
    """An emulator, or an account, that the environment names."""

    connection_string: str


def pytest_report_header() -> list[str]:
    """Say which servers the tests will use."""
    return [f"postgres: {_describe_postgres()}", f"azurite: {_describe_azurite()}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, so that it can be left out by hand."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if {"postgres_dsn", "postgres_server"} & set(fixtures):
            item.add_marker(pytest.mark.postgres)
        if {"azurite", "azurite_server"} & set(fixtures):
            item.add_marker(pytest.mark.azurite)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what could not be tested."""
    for reason in sorted(_missing):
        terminalreporter.section("A SERVER IS MISSING, TESTS DID NOT RUN", red=True, bold=True)
        terminalreporter.line(reason)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresDatabases]:
    """Give a PostgreSQL on which databases may be created."""
    if POSTGRES_DSN in os.environ:
        yield PostgresDatabases(os.environ[POSTGRES_DSN])
        return
    try:
        server = PostgresServer()
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


def _give_up(error: ServerNotFoundError) -> None:
    _missing.add(str(error))
    if "CI" in os.environ:
        pytest.fail(str(error))
    pytest.skip(str(error))


def _describe_postgres() -> str:
    if POSTGRES_DSN in os.environ:
        return f"the server that {POSTGRES_DSN} names"
    try:
        binaries = find_postgres(None, run_as=None)
    except ServerNotFoundError as error:
        return f"MISSING: {error}"
    return f"{binaries.version} from {binaries.folder}"


def _describe_azurite() -> str:
    if AZURITE in os.environ:
        return f"the account that {AZURITE} names"
    try:
        return describe_azurite()
    except ServerNotFoundError as error:
        return f"MISSING: {error}"
