"""Runs an example as a reader would: as a script, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RunExample = Callable[..., list[str]]


@pytest.fixture(scope="session")
def run_example() -> RunExample:
    """Give a function that runs an example with arguments and variables, and returns the lines that it printed."""

    def run(name: str, *arguments: str, **variables: str) -> list[str]:
        answer = subprocess.run(  # noqa: S603  our own examples
            [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.splitlines()

    return run
