"""Runs tests against mutants: collected once, then in a forked child for each mutant, which its first failure kills."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.testing.postgres_server import PostgresDatabases
from tests.mutants.installing import install
from tests.mutants.mutant import Mutant
from tests.mutants.one_database import share_one_database
from tests.mutants.relevance import modules_for

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = (
    "tests/conformance/test_postgres_store.py",
    "tests/conformance/test_sqlite_store.py",
    "tests/integration/test_postgres_isolation.py",
    "tests/integration/test_postgres_lock_order.py",
    "tests/integration/test_postgres_locks.py",
    "tests/integration/test_postgres_rivals.py",
    "tests/integration/test_postgres_agreement.py",
    "tests/model/test_stores.py",
)
SECONDS_A_TEST: Final = 60
SECONDS_A_MUTANT: Final = 600


class Verdict(NamedTuple):
    """What became of a mutant.

    Attributes:
        killer: The test that failed; None where all passed.
        tests: How many were run.
    """

    mutant: Mutant
    killer: str | None
    tests: int
    seconds: float


def judge(mutants: Sequence[Mutant], tell: Callable[[Verdict], None], dsn: str, *, wide: bool = False) -> None:
    """Run the relevant tests (``wide``: the others, the races and the model) against each mutant.

    Args:
        tell: Called with each verdict.
        dsn: A server on which databases may be made; the one that ``STAGEFLOW_TEST_POSTGRES_DSN`` names, which the tests use.
        wide: Whether those tests run that the narrow choice left out.
    """
    options = ("-qq", "--no-header", "-p", "no:randomly", "-p", "no:cacheprovider", "--capture=no", "-o", "filterwarnings=")
    databases = PostgresDatabases(dsn)
    base = databases.create_database()
    with closing(PostgresStore(base)) as store:
        store.migrate()
    pytest.main(
        [*options, f"--timeout={SECONDS_A_TEST}", f"--rootdir={ROOT}", *(str(ROOT / name) for name in TESTS)],
        plugins=[_Campaign(mutants, tell, base, wide=wide)],
    )
    databases.drop_database(base)


class _Campaign:
    """A plugin that runs the collected tests once for each mutant."""

    def __init__(self, mutants: Sequence[Mutant], tell: Callable[[Verdict], None], base: str, *, wide: bool) -> None:
        self._mutants = mutants
        self._base = base
        self._tell = tell
        self._wide = wide
        self._killer: str | None = None
        self._tests = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge each mutant, in the place of the usual loop."""
        for mutant in self._mutants:
            self._tell(self._judge(session, mutant))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the first failure."""
        self._tests += report.when == "call"
        if report.failed and self._killer is None:
            self._killer = report.nodeid.rpartition("::")[2]

    def _judge(self, session: pytest.Session, mutant: Mutant) -> Verdict:
        started = monotonic()
        forking = multiprocessing.get_context("fork")
        here, there = forking.Pipe(duplex=False)
        child = forking.Process(target=self._run_in_child, args=(session, mutant, there))
        child.start()
        there.close()
        killer, tests = here.recv() if here.poll(SECONDS_A_MUTANT) else ("it took too long", 0)
        child.kill()
        child.join()
        return Verdict(mutant, killer, tests, monotonic() - started)

    def _run_in_child(self, session: pytest.Session, mutant: Mutant, answer: Connection) -> None:
        os.setsid()
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            install(mutant)
            finish = share_one_database(self._base)
            self._run(session, [item for item in session.items if _is_wanted(item, mutant, wide=self._wide)])
            finish()
            answer.send((self._killer, self._tests))

    def _run(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        for item, following in zip(items, [*items[1:], None], strict=True):
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._killer is not None:
                session._setupstate.teardown_exact(None)  # noqa: SLF001  as pytest does when a run stops early
                return


def _is_wanted(item: pytest.Item, mutant: Mutant, *, wide: bool) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    if item.function.__module__.endswith("conformance.schema"):
        return False  # which wants a database without a schema
    embedded = mutant.file.endswith(".py")
    if item.path.name == "test_stores.py":
        return wide and ("memory" if embedded else "postgres") in item.name
    if embedded != ("TestSqliteMemory" in item.nodeid) or ("Sqlite" in item.nodeid and not embedded):
        return False
    return (item.function.__module__.rpartition(".")[2] in modules_for(mutant)) is not wide
