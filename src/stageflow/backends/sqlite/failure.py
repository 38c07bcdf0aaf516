"""What SQLite's errors mean to the rest of stageflow."""

import sqlite3
from typing import Final

from stageflow.contracts.damage import MEND_ROW
from stageflow.errors import (
    SchemaVersionError,
    StageflowError,
    StoreError,
    StoreStateError,
    StoreUnreachableError,
    StoreUnsuitableError,
)

_PRIMARY_CODE: Final = 0xFF
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_UNREACHABLE: Final = {
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that the folder exists and that this process may write there",
    sqlite3.SQLITE_PERM: "access is denied; give this process permission to read and write it and its folder",
    sqlite3.SQLITE_IOERR: "reading or writing it failed; check the disk",
    sqlite3.SQLITE_FULL: "the disk is full; free some space, then go on: nothing half-written was kept",
    sqlite3.SQLITE_NOLFS: "the file has outgrown the file system",
}
_UNSUITABLE: Final = {
    sqlite3.SQLITE_READONLY: "it is read-only; give this process permission to write it and its folder",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database; give the path of another file",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a backup and run `pragma integrity_check`",
}


def primary_code(error: sqlite3.Error) -> int | None:
    """Return the primary result code of an error that came from SQLite itself, ``None`` for one of the driver's."""
    try:
        return error.sqlite_errorcode & _PRIMARY_CODE
    except AttributeError:
        return None


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another connection holds the lock that the statement needs."""
    return primary_code(error) in _BUSY


def translate(error: sqlite3.Error, url: str) -> StageflowError:
    """Return the error of stageflow that a driver's error stands for."""
    code = primary_code(error)
    text = str(error)
    if code in _BUSY:
        return StoreUnreachableError(f"the store {url} is locked by another process ({text}); end it, or try again")
    if code in _UNREACHABLE:
        return StoreUnreachableError(f"the store {url} cannot be used: {_UNREACHABLE[code]} ({text})")
    if code in _UNSUITABLE:
        return StoreUnsuitableError(f"the store {url} cannot be used: {_UNSUITABLE[code]} ({text})")
    if code == sqlite3.SQLITE_CONSTRAINT:
        return StoreStateError(f"the store {url} refused a row that the protocol rules out: {text}; {MEND_ROW}")
    if text.startswith(("no such table", "no such column", "no such view")) or " has no column named " in text:
        return schema_missing(url, text)
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in text:
        return StoreUnreachableError(f"the store {url} was closed; open a new SqliteStore")
    return StoreError(f"the store {url} failed: {text}")


def schema_missing(url: str, reason: str) -> SchemaVersionError:
    """Return the error of a store without the tables that this code needs."""
    return SchemaVersionError(f"the store {url} has no schema that fits ({reason}); {how_to_migrate(url)}")


def how_to_migrate(url: str) -> str:
    """Return what to do about a schema that is missing or too old; no other process reaches a store in memory."""
    return "call `migrate()` on this store first" if url.endswith(":memory:") else f"run `stageflow migrate --store {url}`"
