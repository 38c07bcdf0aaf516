"""Runs tests against mutants: collected once, then in a forked child for each mutant, which its first failure kills."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import pytest
from pydantic import TypeAdapter

from stageflow.backends.postgres import PostgresStore
from stageflow.testing.postgres_server import PostgresDatabases
from tests.mutants.installing import install
from tests.mutants.mutant import Mutant, MutantError
from tests.mutants.one_database import share_one_database
from tests.mutants.relevance import modules_for

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = (
    "tests/conformance/test_postgres_store.py",
    "tests/conformance/test_sqlite_store.py",
    "tests/integration/test_postgres_guards.py",
    "tests/integration/test_postgres_isolation.py",
    "tests/integration/test_postgres_lock_order.py",
    "tests/integration/test_postgres_locks.py",
    "tests/integration/test_postgres_rivals.py",
    "tests/integration/test_postgres_agreement.py",
    "tests/model/test_stores.py",
)
_KILLERS: Final = Path(__file__).with_name("killers.json")
SECONDS_A_TEST: Final = 30
SECONDS_A_MUTANT: Final = 600
SECONDS_TO_TIDY: Final = 10


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

    Raises:
        MutantError: The tests were not run to their end.
    """
    options = ("-qq", "--no-header", "-p", "no:randomly", "-p", "no:cacheprovider", "--capture=no", "-o", "filterwarnings=")
    databases = PostgresDatabases(dsn)
    base = databases.create_database()
    with closing(PostgresStore(base)) as store:
        store.migrate()
    code = pytest.main(
        [*options, f"--timeout={SECONDS_A_TEST}", f"--rootdir={ROOT}", *(str(ROOT / name) for name in TESTS)],
        plugins=[_Campaign(mutants, tell, base, wide=wide)],
    )
    databases.drop_database(base)
    if code is not pytest.ExitCode.OK:
        msg = f"the tests were not run to their end ({code!r}); have pytest run {' '.join(TESTS)} and mend what it tells"
        raise MutantError(msg)


def known_killers() -> dict[str, str]:
    """Return the test that killed each mutant when it was judged last, by the mutant's title; it is run first."""
    return TypeAdapter(dict[str, str]).validate_json(_KILLERS.read_bytes())


def remember(verdicts: Iterable[Verdict]) -> None:
    """Write down which test killed which mutant, beside what is known of the others."""
    killers = known_killers() | {verdict.mutant.title: verdict.killer for verdict in verdicts if verdict.killer is not None}
    _KILLERS.write_text(json.dumps(killers, indent=1, sort_keys=True) + "\n", encoding="utf-8")


class _Campaign:
    """A plugin that runs the collected tests once for each mutant."""

    def __init__(self, mutants: Sequence[Mutant], tell: Callable[[Verdict], None], base: str, *, wide: bool) -> None:
        self._mutants = mutants
        self._base = base
        self._tell = tell
        self._wide = wide
        self._known = known_killers()
        self._answer: Connection
        self._killer: str | None = None
        self._tests = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge each mutant, in the place of the usual loop."""
        if session.testsfailed:
            msg = "tests cannot be collected"
            raise session.Interrupted(msg)
        for mutant in self._mutants:
            self._tell(self._judge(session, mutant))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Answer with the first failure at once: what is left of the test may have no end."""
        self._tests += report.when == "call"
        if report.failed and self._killer is None:
            self._killer = report.nodeid.rpartition("::")[2]
            self._answer.send((self._killer, self._tests))

    def _judge(self, session: pytest.Session, mutant: Mutant) -> Verdict:
        started = monotonic()
        forking = multiprocessing.get_context("fork")
        here, there = forking.Pipe(duplex=False)
        self._answer = there
        child = forking.Process(target=self._run_in_child, args=(session, mutant))
        child.start()
        there.close()
        killer, tests = here.recv() if here.poll(SECONDS_A_MUTANT) else ("it took too long", 0)
        child.join(SECONDS_TO_TIDY)
        child.kill()
        child.join()
        return Verdict(mutant, killer, tests, monotonic() - started)

    def _run_in_child(self, session: pytest.Session, mutant: Mutant) -> None:
        os.setsid()
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            install(mutant)
            finish = share_one_database(self._base)
            self._run(session, self._chosen(session, mutant))
            finish()
            if self._killer is None:
                self._answer.send((None, self._tests))

    def _chosen(self, session: pytest.Session, mutant: Mutant) -> list[pytest.Item]:
        killer = self._known.get(mutant.title)
        likely = [item for item in session.items if item.name == killer and _can_notice(item, mutant)]
        return [*likely, *(item for item in session.items if item.name != killer and _is_wanted(item, mutant, wide=self._wide))]

    def _run(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        for item, following in zip(items, [*items[1:], None], strict=True):
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._killer is not None:
                session._setupstate.teardown_exact(None)  # noqa: SLF001  as pytest does when a run stops early
                return


def _is_wanted(item: pytest.Item, mutant: Mutant, *, wide: bool) -> bool:
    return _can_notice(item, mutant) and (_module_of(item) in modules_for(mutant)) is not wide


def _can_notice(item: pytest.Item, mutant: Mutant) -> bool:
    """Tell whether a test is of the mutant's store, and can have the shared database."""
    if not isinstance(item, pytest.Function) or _module_of(item) == "schema":
        return False  # which wants a database without a schema
    embedded = mutant.file.endswith(".py")
    if item.path.name == "test_stores.py":
        return ("memory" if embedded else "postgres") in item.name
    return embedded == ("TestSqliteMemory" in item.nodeid) and (embedded or "Sqlite" not in item.nodeid)


def _module_of(item: pytest.Item) -> str:
    """Return the module that defines a test, which is not the one that collects it where it is inherited."""
    assert isinstance(item, pytest.Function)
    module: str = item.function.__module__
    return module.rpartition(".")[2]
