"""Releases to upgrade from: each is its wheel, unpacked once."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import stageflow

RELEASES = Path(__file__).with_name("releases")
PROGRAM = Path(__file__).with_name("release.py")
PRESENT = Path(stageflow.__file__).parents[1]


class Release:
    """A release of stageflow, whose programs run in processes of their own."""

    def __init__(self, path: Path, store: str) -> None:
        self._path = path
        self._store = store
        self.workers: list[subprocess.Popen[str]] = []

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        return subprocess.run(  # noqa: S603  our own program
            self._command(arguments), env=self._environment(), capture_output=True, text=True, timeout=60, check=False
        )

    def must(self, *arguments: str) -> list[str]:
        """Run the program, which must succeed, and return its lines."""
        answer = self.call(*arguments)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.splitlines()

    def hire(self) -> None:
        """Start a worker and wait until it works."""
        process = subprocess.Popen(self._command(("work",)), env=self._environment(), stdout=subprocess.PIPE, text=True)  # noqa: S603  our own program
        self.workers.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def dismiss(self) -> None:
        """Kill the workers that are left."""
        for process in self.workers:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, str(PROGRAM), self._store, *arguments]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self._path)}


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the release before."""
    folder = tmp_path_factory.mktemp("release")
    (wheel,) = RELEASES.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of each kind of store."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'jobs.db'}"
    dsn: str = request.getfixturevalue("postgres_dsn")
    return dsn


@pytest.fixture
def before(unpacked: Path, store_url: str) -> Iterator[Release]:
    """Give the release before, which has made the store."""
    release = Release(unpacked, store_url)
    release.must("migrate")
    yield release
    release.dismiss()


@pytest.fixture
def present(store_url: str) -> Iterator[Release]:
    """Give this release."""
    release = Release(PRESENT, store_url)
    yield release
    release.dismiss()
