"""Versioned, forward-only migrations, and the functions that go with the newest of them."""

import hashlib
import time
from dataclasses import dataclass
from typing import Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from stageflow.backends.postgres.session import Connection
from stageflow.backends.postgres.sql_text import named_texts, query
from stageflow.contracts.schema import SCHEMA_VERSION, SchemaState
from stageflow.errors import SchemaVersionError, StoreError

SCHEMA: Final = "stageflow"

_LOCK: Final = 7_235_419_016_287_103
"""Key of the advisory lock under which one process migrates at a time; any number would do."""

_LOCK_TIMEOUT: Final = "200ms"
"""How long to wait for the tables at a time; who comes meanwhile waits behind. Less than any deadlock_timeout in use."""
_PATIENCE_SECONDS: Final = 60.0

BOOKKEEPING: Final[LiteralString] = """
create table if not exists stageflow.migrations (
    version integer primary key, name text not null, checksum text not null, applied_at timestamptz not null default now());
create table if not exists stageflow.functions (
    name text primary key, checksum text not null, source_hash text not null, applied_at timestamptz not null default now());
"""


UNRECORDED: Final = (
    "the schema has stageflow's tables, but stageflow.migrations names no migration that made them; restore its rows from a "
    "backup, or drop the schema, which loses every job, and run `stageflow migrate`"
)


@dataclass(frozen=True)
class Migration:
    """A migration file ``<version>_<name>.sql``."""

    version: int
    name: str
    text: LiteralString

    @property
    def checksum(self) -> str:
        """Tells whether the file is still what was applied."""
        return checksum(self.text)


def checksum(text: str) -> str:
    """Return the SHA-256 of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return all migrations, oldest first."""
    split = [(stem.partition("_"), text) for stem, text in named_texts("migrations")]
    return [Migration(version=int(number), name=name, text=text) for (number, _, name), text in split]


def functions() -> dict[str, LiteralString]:
    """Return the functions' texts by name."""
    return dict(named_texts("functions"))


@dataclass(frozen=True)
class Applied:
    """What a database says was applied to it.

    Attributes:
        checksums: Of the migrations, by version.
        stale_functions: Functions that are not (or no longer) what this code brings.
        unrecorded: Whether there are tables of stageflow, but no record of the migrations that made them.
    """

    checksums: dict[int, str]
    stale_functions: list[str]
    unrecorded: bool

    @property
    def version(self) -> int:
        """Version of the newest applied migration; 0 where there is none."""
        return max(self.checksums, default=0)

    @property
    def state(self) -> SchemaState:
        """How the schema relates to this code."""
        if not self.checksums:
            return SchemaState.MISSING
        if self.version > SCHEMA_VERSION:
            return SchemaState.NEWER
        return SchemaState.CURRENT if self.version == SCHEMA_VERSION else SchemaState.OLDER

    def changed_migrations(self) -> list[Migration]:
        """Return migrations whose text is not what was applied."""
        return [item for item in migrations() if self.checksums.get(item.version) not in {None, item.checksum}]


def read_applied(connection: Connection) -> Applied:
    """Read the bookkeeping of a database."""
    cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
    ((has_bookkeeping, has_tables),) = cursor.execute(query("has_bookkeeping")).fetchall()
    if not has_bookkeeping:
        return Applied(checksums={}, stale_functions=sorted(functions()), unrecorded=has_tables)
    checksums: dict[int, str] = dict(cursor.execute(query("list_migrations")).fetchall())
    recorded = {name: (text, intact) for name, text, intact in cursor.execute(query("list_functions")).fetchall()}
    stale = [name for name, text in functions().items() if recorded.get(name) != (checksum(text), True)]
    return Applied(checksums=checksums, stale_functions=sorted(stale), unrecorded=has_tables and not checksums)


def apply(connection: Connection) -> Applied:
    """Bring a database to the newest version, in one transaction; does nothing where it is there.

    Raises:
        SchemaVersionError: The database is newer than this code, a migration was changed after it was applied, or no record is
            left of those that were.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        before = read_applied(connection)
        if before.unrecorded:
            raise SchemaVersionError(UNRECORDED)
        if before.state is SchemaState.NEWER:
            msg = f"the schema has version {before.version}, this code knows {SCHEMA_VERSION}; upgrade stageflow"
            raise SchemaVersionError(msg)
        if changed := before.changed_migrations():
            names = ", ".join(f"{item.version} ({item.name})" for item in changed)
            msg = f"migration {names} was applied with another text; install the release that the database was made with"
            raise SchemaVersionError(msg)
        missing = [item for item in migrations() if item.version not in before.checksums]
        if missing or before.stale_functions:
            connection.execute("create schema if not exists stageflow")
            connection.execute(BOOKKEEPING)
        if missing and before.checksums:
            _take_tables(connection)
        for item in missing:
            connection.execute(item.text)
            connection.execute(
                "insert into stageflow.migrations (version, name, checksum) values (%s, %s, %s)",
                (item.version, item.name, item.checksum),
            )
        for name in before.stale_functions:
            _replace_function(connection, name, functions()[name])
        return read_applied(connection)


def _take_tables(connection: Connection) -> None:
    """Lock the tables that workers use, all of them or none: they take them in several orders, and would meet us half way.

    Raises:
        StoreError: That was not to be had for a minute.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with connection.transaction():
                connection.execute("select set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
                connection.execute("lock table stageflow.ranges, stageflow.stages, stageflow.jobs in access exclusive mode")
        except psycopg.errors.LockNotAvailable as error:
            if time.monotonic() >= until:
                msg = "the tables were in use for a minute without a break; end what holds them for long, and migrate again"
                raise StoreError(msg) from error
        else:
            connection.execute("set local lock_timeout = 0")
            return


def _replace_function(connection: Connection, name: str, text: LiteralString) -> None:
    """Create a function or replace it; with other arguments or results it is dropped first."""
    if not _replaced_in_place(connection, name, text):
        connection.execute(sql.SQL("drop function {}").format(sql.Identifier(SCHEMA, name)))
        connection.execute(text)
    connection.execute(
        "insert into stageflow.functions (name, checksum, source_hash)"
        " select %s, %s, md5(p.prosrc) from pg_catalog.pg_proc p"
        " where p.proname = %s and p.pronamespace = 'stageflow'::regnamespace"
        " on conflict (name) do update set"
        " checksum = excluded.checksum, source_hash = excluded.source_hash, applied_at = excluded.applied_at",
        (name, checksum(text), name),
    )


def _replaced_in_place(connection: Connection, name: str, text: LiteralString) -> bool:
    """Try ``create or replace``, which keeps the function's identity for callers that are running; undone where it cannot."""
    count = "select count(*) from pg_catalog.pg_proc p where p.proname = %s and p.pronamespace = 'stageflow'::regnamespace"
    replaced = False
    try:
        with connection.transaction() as attempt:
            connection.execute(text)
            replaced = connection.execute(count, (name,)).fetchone() == (1,)
            if not replaced:
                raise psycopg.Rollback(attempt)
    except psycopg.errors.InvalidFunctionDefinition:
        return False
    return replaced
