"""The stores on which faults are injected."""

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty store of each kind, which other processes can open too."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'jobs.db'}"
    dsn: str = request.getfixturevalue("migrated_dsn")
    return dsn
