"""Judge mutmut's mutants without starting pytest for each, after mutmut made them.

``python tests/mutants/forked.py`` judges the most important modules and a sample of the others, ``… forked.py engine.plan``
every mutant of the modules that are named.

mutmut notes which tests reach which function. Here pytest collects once; then each mutant has a fork, which runs the tests
that reach it, the narrowest first, up to the first that fails. At most ``MOST`` of them and ``SECONDS``: a mutant that survives
these might not survive all of them. Tests that mutmut does not know, because they are new, are asked before all others.
Verdicts are noted where ``mutmut results`` and ``mutmut show`` look for them; what was noticed is not judged again.
"""

import gc
import json
import os
import random
import signal
import sys
import time
import tomllib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
NOTES: Final = ROOT / "mutants" / "src" / "stageflow"
WHOLE: Final = {
    "contracts": "base json_fields json_text limits payload retry schedule status validated",
    "engine": "recover resubmit route writes",
}
"""The modules of which every mutant is judged; of the others ``SIZE`` are, drawn with ``SEED``."""
SIZE: Final = 300
SEED: Final = 20
MOST: Final = 60
SECONDS: Final = 5.0
LONGEST: Final = 25.0
"""Seconds after which a mutant has hung."""
KILLED, SURVIVED, NO_TESTS, SKIPPED, HUNG = 1, 0, 33, 34, 36
"""mutmut's own codes of what became of a mutant."""


class Judge:
    """Runs mutants in place of tests."""

    def __init__(self) -> None:
        reached = json.loads((ROOT / "mutants" / "mutmut-stats.json").read_text())
        self._tests: dict[str, list[str]] = reached["tests_by_mangled_function_name"]
        self._seconds: dict[str, float] = reached["duration_by_test"]
        self._breadth = Counter(test for tests in self._tests.values() for test in tests)
        self._items: dict[str, pytest.Item] = {}
        self._new: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge what is not judged, and say how it stands."""
        self._items = {item.nodeid: item for item in session.items}
        self._new = [test for test in self._items if test not in self._seconds]
        gc.collect()
        gc.freeze()  # or the first collection in each fork would copy what it shares
        tally: Counter[int] = Counter()
        for file, mutants in choose(sys.argv[1:]).items():
            notes = json.loads(file.read_text())
            verdicts = notes["exit_code_by_key"]
            for mutant in mutants:
                if verdicts[mutant] not in {KILLED, HUNG}:
                    verdicts[mutant] = self._judge(mutant, session)
                    file.write_text(json.dumps(notes, indent=4))
            tally.update(verdicts[mutant] for mutant in mutants)
            sys.stderr.write(f"{file.parent.name}/{file.name.removesuffix('.py.meta')}: {dict(tally)}\n")
        return True

    def _judge(self, mutant: str, session: pytest.Session) -> int:
        tests = self._narrow_tests(mutant.rpartition("__mutmut_")[0])
        if not tests:
            return NO_TESTS
        child = os.fork()
        if not child:
            self._run(mutant, tests, session)
        give_up = time.monotonic() + LONGEST
        while time.monotonic() < give_up:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return KILLED if os.waitstatus_to_exitcode(status) else SURVIVED
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return HUNG

    def _run(self, mutant: str, tests: list[str], session: pytest.Session) -> None:
        """Run the tests in this process, and end it."""
        from mutmut.mutation.trampoline import set_mutant_under_test  # noqa: PLC0415  only where mutants are

        set_mutant_under_test(mutant)
        with suppress(BaseException):
            for place, test in enumerate(tests):
                following = self._items[tests[place + 1]] if place + 1 < len(tests) else None
                session.config.hook.pytest_runtest_protocol(item=self._items[test], nextitem=following)
                if session.testsfailed:
                    os._exit(KILLED)
            os._exit(SURVIVED)
        os._exit(KILLED)

    def _narrow_tests(self, function: str) -> list[str]:
        """Return the tests to run: those that reach the fewest functions are most likely about this one."""
        chosen = list(self._new)
        left = SECONDS
        known = (test for test in self._tests.get(function, []) if test in self._items)
        for test in sorted(known, key=lambda test: (self._breadth[test], self._seconds[test])):
            if len(chosen) < MOST + len(self._new) and (not chosen or self._seconds[test] <= left):
                chosen.append(test)
                left -= self._seconds[test]
        return chosen


def choose(modules: list[str]) -> dict[Path, list[str]]:
    """Return the mutants to judge, by mutmut's file of notes."""
    made: dict[Path, list[str]] = {
        file: sorted(json.loads(file.read_text())["exit_code_by_key"]) for file in sorted(NOTES.glob("*/*.meta"))
    }
    if modules:
        named = [NOTES / f"{module.replace('.', '/')}.py.meta" for module in modules]
        return {file: made[file] for file in named}
    whole = {NOTES / room / f"{name}.py.meta" for room in WHOLE for name in WHOLE[room].split()}
    others = sorted(mutant for file, mutants in made.items() if file not in whole for mutant in mutants)
    sample = set(random.Random(SEED).sample(others, SIZE))  # noqa: S311 - nothing is secret
    return {file: [mutant for mutant in mutants if file in whole or mutant in sample] for file, mutants in made.items()}


def main() -> int:
    """Collect in mutmut's folder, as it does, and judge."""
    options: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]
    arguments = [*options["pytest_add_cli_args_test_selection"], *options["pytest_add_cli_args"]]
    os.chdir(ROOT / "mutants")
    sys.path[:0] = [str(ROOT / "mutants"), str(ROOT / "mutants" / "src")]
    os.environ["MUTANT_UNDER_TEST"] = "none"
    return int(pytest.main(["--rootdir=.", "-q", *arguments], plugins=[Judge()]))


if __name__ == "__main__":  # children that are spawned by tests import this file
    sys.exit(main())
