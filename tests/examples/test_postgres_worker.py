"""Two processes that share a database."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def test_a_job_submitted_here_is_worked_on_there(run_example: Callable[..., list[str]], postgres_dsn: str) -> None:
    """The worker's process did the work, and stopped when it was told to."""
    assert run_example("postgres_worker.py", STAGEFLOW_STORE=postgres_dsn) == [
        "1007 primes below 8000",
        "counted in the worker's process: True",
        "the worker stopped cleanly: True",
    ]


def test_a_missing_address_is_a_sentence() -> None:
    """Without the variable it says which."""
    script = Path(__file__).parents[2] / "examples" / "postgres_worker.py"
    answer = subprocess.run([sys.executable, str(script)], env={}, capture_output=True, text=True, check=False)  # noqa: S603  our own example
    assert answer.returncode == 1
    assert "set STAGEFLOW_STORE" in answer.stderr
