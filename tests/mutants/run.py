"""Runs tests against a mutant, in a forked child: the first failure kills the mutant."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import pytest

from tests.mutants.mutant import Mutant
from tests.mutants.plugin import install
from tests.mutants.relevance import modules_for

ROOT: Final = Path(__file__).parents[2]
POSTGRES_TESTS: Final = (
    "tests/conformance/test_postgres_store.py",
    "tests/integration/test_postgres_locks.py",
    "tests/integration/test_postgres_isolation.py",
)
SQLITE_TESTS: Final = ("tests/conformance/test_sqlite_store.py",)
WIDE_TESTS: Final = (
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


class _Choice:
    """A plugin that keeps the relevant tests, or the others, and remembers the first that fails."""

    def __init__(self, mutant: Mutant | None, *, wide: bool) -> None:
        self._modules = None if mutant is None else modules_for(mutant)
        self._wide = wide
        self._folder = "memory" if mutant is None or mutant.file.endswith(".py") else "postgres"
        self.killer: str | None = None
        self.tests = 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep what is asked for."""
        items[:] = [item for item in items if self._wanted(item)]

    def _wanted(self, item: pytest.Item) -> bool:
        if not isinstance(item, pytest.Function):
            return False
        module = item.function.__module__.rpartition(".")[2]
        if module == "test_stores":
            return self._folder in item.name
        return self._modules is None or (module in self._modules) is not self._wide

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the first failure."""
        self.tests += report.when == "call"
        if report.failed and self.killer is None:
            self.killer = report.nodeid.rpartition("::")[2]


def judge(mutant: Mutant, *, wide: bool = False) -> Verdict:
    """Run the relevant tests (``wide``: the others, races and the model) against a mutant.

    The servers that the tests need are found as ever; name one in ``STAGEFLOW_TEST_POSTGRES_DSN`` to start none for each mutant.
    """
    started = monotonic()
    forking = multiprocessing.get_context("fork")
    here, there = forking.Pipe(duplex=False)
    child = forking.Process(target=_run, args=(mutant, wide, there))
    child.start()
    there.close()
    killer, tests = here.recv() if here.poll(SECONDS_A_MUTANT) else ("it took too long", 0)
    child.kill()
    child.join()
    return Verdict(mutant, killer, tests, monotonic() - started)


def _run(mutant: Mutant, wide: bool, answer: Connection) -> None:  # noqa: FBT001  a process target
    os.setsid()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            answer.send(_outcome(mutant, wide=wide))
        finally:
            os._exit(0)


def _outcome(mutant: Mutant, *, wide: bool) -> tuple[str | None, int]:
    install(mutant)
    choice = _Choice(mutant, wide=wide)
    code = pytest.main([*_arguments(mutant, wide=wide)], plugins=[choice])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED} and choice.killer is None:
        return f"pytest ended with {code}", choice.tests
    return choice.killer, choice.tests


def _arguments(mutant: Mutant, *, wide: bool) -> Sequence[str]:
    files = SQLITE_TESTS if mutant.file.endswith(".py") else POSTGRES_TESTS
    chosen = (*files, *(WIDE_TESTS[2:] if mutant.file.endswith(".py") else WIDE_TESTS)) if wide else files
    return (
        "-x", "-q", "-p", "no:randomly", "-o", "filterwarnings=ignore", "-p", "no:cacheprovider", f"--timeout={SECONDS_A_TEST}", f"--rootdir={ROOT}",
        *(str(ROOT / file) for file in chosen),
    )  # fmt: skip


def warm() -> None:
    """Import what the tests import, so that each child has it already."""
    for module in ("stageflow", "stageflow.app", "stageflow.testing.conformance.store", "stageflow.testing.conformance.storms"):
        __import__(module)
    sys.stdout.flush()
