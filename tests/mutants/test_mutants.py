"""The mutants of the stores are made for the source as it is, and tests do kill mutants."""

import json
import os
import subprocess
import sys
from typing import Final

import pytest

from stageflow.testing.postgres_server import PostgresDatabases
from tests.mutants.lists import MUTANTS
from tests.mutants.mutant import Mutant, MutantError
from tests.mutants.postgres import POSTGRES
from tests.mutants.relevance import modules_for
from tests.mutants.run import ROOT, known_killers
from tests.mutants.sqlite import SQLITE

_KILLED: Final = (
    "complete_tasks: fence by the token",
    "halt_stages: mark of the halt",
    "completion: fence against a repeat",
)


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_changes_one_place_of_the_source(mutant: Mutant) -> None:
    """Whoever changes the source changes the list with it; it cannot rot."""
    mutant.check()
    assert mutant.text != mutant.replacement
    assert modules_for(mutant)


def test_each_mutant_has_a_title_of_its_own() -> None:
    """None hides behind another's."""
    assert len(MUTANTS) == len(POSTGRES) + len(SQLITE)


def test_each_mutant_was_killed() -> None:
    """A new one is judged before it goes in: ``python -m benchmarks mutants --only TITLE --remember``."""
    assert set(known_killers()) == {title for title, mutant in MUTANTS.items() if not mutant.equivalent}


def test_a_mutant_of_another_source_is_refused() -> None:
    """The error says what to do."""
    with pytest.raises(MutantError, match=r"occurs 0 times.*write the mutant anew"):
        Mutant("gone", "errors.py", "this text is nowhere").check()


def test_tests_kill_mutants(postgres_server: PostgresDatabases) -> None:
    """A runner that lets every mutant live, or none, would say nothing of the tests."""
    environment = os.environ | {"STAGEFLOW_TEST_POSTGRES_DSN": postgres_server.dsn("postgres")}
    command = [sys.executable, "-m", "benchmarks", "mutants", "--narrow", "--only", "; ".join(_KILLED)]
    ran = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [line["name"] for line in lines] == ["mutants.postgres", "mutants.sqlite"]
    assert {title for line in lines for title in line["details"]["killers"]} == set(_KILLED)
    assert [line["details"]["survived"] for line in lines] == [[], []]
