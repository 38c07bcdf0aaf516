"""The schema: versioned migrations, applied once each, in order."""

import hashlib
import sqlite3
from collections.abc import Iterator
from importlib import resources
from typing import Final, NamedTuple

from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.failure import how_to_migrate
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.verify import find_drifts, find_missing_rows, read_catalog
from stageflow.contracts.schema import SCHEMA_VERSION, SchemaReport, SchemaState
from stageflow.errors import SchemaVersionError

_MIGRATIONS_TABLE: Final = (
    "create table if not exists stageflow_migrations (version integer primary key not null, name text not null,"
    " checksum text not null, applied_at integer not null) strict"
)

_UNRECORDED: Final = (
    "there are stageflow's tables, but stageflow_migrations names no migration that made them; restore its rows from a backup, "
    "or begin with another file"
)


class Migration(NamedTuple):
    """One migration file; its name begins with its version."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class SqliteSchema(StorePart):
    """Makes, checks and compares the schema."""

    def migrate(self) -> SchemaReport:
        """Apply the migrations that are missing, each once, in order, in one transaction; safe to call from many processes.

        Raises:
            SchemaVersionError: The schema is newer than this code, or no record is left of the migrations that made it.
        """
        with self._database.transaction(create=True) as tx:
            tx.run(_MIGRATIONS_TABLE)
            present = _version_of(tx)
            if present > SCHEMA_VERSION or _is_unrecorded(tx, present):
                raise self._unfit(present, unrecorded=present == 0)
            for migration in read_migrations():
                if migration.version > present:
                    _apply(tx, migration)
        return self.verify()

    def verify(self) -> SchemaReport:
        """Compare the schema with what the migrations make; changes nothing."""
        if not self._database.exists():
            return SchemaReport(state=SchemaState.MISSING, version=0, drifts=[])
        with self._database.reading() as tx:
            present = _version_of(tx)
            if present == 0:
                drifts = [_UNRECORDED] if _is_unrecorded(tx, present) else []
                return SchemaReport(state=SchemaState.MISSING, version=0, drifts=drifts)
            catalog, missing = read_catalog(tx), find_missing_rows(tx)
            applied: dict[int, str] = dict(tx.rows("select version, checksum from stageflow_migrations"))
        drifts = find_drifts(_reference(present), catalog) if present <= SCHEMA_VERSION else []
        drifts += missing
        drifts += [
            f"migration {migration.name} was applied with another text than this code has; reinstall stageflow"
            for migration in read_migrations()
            if migration.version in applied and applied[migration.version] != migration.checksum
        ]
        return SchemaReport(state=_state_of(present), version=present, drifts=drifts)

    def check_schema(self) -> None:
        """Do nothing if this code can work with the schema.

        Raises:
            SchemaVersionError: It cannot; the message says what to do.
        """
        present, unrecorded = 0, False
        if self._database.exists():
            with self._database.reading() as tx:
                present = _version_of(tx)
                unrecorded = _is_unrecorded(tx, present)
        if present != SCHEMA_VERSION:
            raise self._unfit(present, unrecorded=unrecorded)

    def _unfit(self, present: int, *, unrecorded: bool) -> SchemaVersionError:
        url = self._database.url
        match _state_of(present):
            case SchemaState.MISSING if unrecorded:
                msg = f"the store {url}: {_UNRECORDED}"
            case SchemaState.MISSING:
                msg = f"the store {url} has no schema; {how_to_migrate(url)}"
            case SchemaState.NEWER:
                msg = (
                    f"the store {url} has schema version {present}, and this code knows {SCHEMA_VERSION}; "
                    f"install the stageflow that made it, or a newer one"
                )
            case _:
                msg = f"the store {url} has schema version {present}, older than {SCHEMA_VERSION}; {how_to_migrate(url)}"
        return SchemaVersionError(msg)


def read_migrations() -> list[Migration]:
    """Return the migrations that come with this code, by version."""
    folder = resources.files("stageflow.backends.sqlite") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [Migration(int(file.name.partition("_")[0]), file.name, file.read_text(encoding="utf-8")) for file in files]


def _version_of(tx: Transaction) -> int:
    if tx.row("select 1 from sqlite_schema where type = 'table' and name = 'stageflow_migrations'") is None:
        return 0
    row = tx.row("select coalesce(max(version), 0) from stageflow_migrations")
    return 0 if row is None else int(row[0])


def _is_unrecorded(tx: Transaction, version: int) -> bool:
    """Return whether there are tables of stageflow, but no record of the migrations that made them."""
    tables = "select 1 from sqlite_schema where type = 'table' and name = 'stageflow_jobs'"
    return version == 0 and tx.row(tables) is not None


def _state_of(version: int) -> SchemaState:
    if version == 0:
        return SchemaState.MISSING
    if version == SCHEMA_VERSION:
        return SchemaState.CURRENT
    return SchemaState.OLDER if version < SCHEMA_VERSION else SchemaState.NEWER


def _apply(tx: Transaction, migration: Migration) -> None:
    for statement in _statements(migration.text):
        tx.run(statement)
    tx.run(
        "insert into stageflow_migrations (version, name, checksum, applied_at) values (?, ?, ?, ?)",
        (migration.version, migration.name, migration.checksum, tx.now),
    )


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; ``executescript`` would commit between them."""
    lines: list[str] = []
    for line in script.splitlines():
        if lines or (line.strip() and not line.lstrip().startswith("--")):
            lines.append(line)
        if lines and sqlite3.complete_statement("\n".join(lines)):
            yield "\n".join(lines)
            lines.clear()


def _reference(version: int) -> dict[tuple[str, str], str]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        tx = Transaction(connection.cursor(), 0)
        tx.run(_MIGRATIONS_TABLE)
        for migration in read_migrations():
            if migration.version <= version:
                _apply(tx, migration)
        return read_catalog(tx)
    finally:
        connection.close()
