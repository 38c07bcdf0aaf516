"""A migrated database with the three documented roles."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from stageflow.backends.postgres import PostgresStore

ROLES = Path(__file__).parents[2] / "docs" / "roles.sql"
Address = Callable[[str], str]


@pytest.fixture
def roles(postgres_dsn: str) -> Iterator[Address]:
    """Give the address of the database for ``worker``, ``submitter`` and ``reader``."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    store.close()
    prefix = f"sf_{uuid4().hex[:8]}"
    text = re.sub(r"stageflow_(worker|submitter|reader)\b", rf"{prefix}_\1", ROLES.read_text())

    def address(role: str) -> str:
        parts = urlsplit(postgres_dsn)
        return urlunsplit(parts._replace(netloc=f"{prefix}_{role}@{parts.netloc.rpartition('@')[2]}"))

    with psycopg.connect(postgres_dsn, autocommit=True) as owner:
        owner.execute(text.encode())
        yield address
        for role in ("worker", "submitter", "reader"):
            name = sql.Identifier(f"{prefix}_{role}")
            owner.execute(sql.SQL("drop owned by {}").format(name))
            owner.execute(sql.SQL("drop role {}").format(name))
