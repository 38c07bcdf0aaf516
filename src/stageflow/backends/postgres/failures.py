"""PostgreSQL's errors as stageflow's: the one place that knows SQLSTATEs."""

from typing import Final

import psycopg

from stageflow.contracts.damage import MEND_ROW
from stageflow.errors import (
    IdempotencyConflictError,
    InvalidTransitionError,
    InvalidValueError,
    IsolationLevelError,
    SchemaVersionError,
    StageflowError,
    StoreError,
    StoreStateError,
    StoreUnreachableError,
    StoreUnsuitableError,
)

_OWN: Final[dict[str, type[StageflowError]]] = {
    "SF001": IsolationLevelError,
    "SF002": StoreStateError,
    "SF003": InvalidTransitionError,
    "SF004": IdempotencyConflictError,
    "SF005": InvalidValueError,
}
"""SQLSTATEs that the functions raise themselves, with a whole message."""

_NO_SCHEMA: Final = frozenset({"3F000", "42P01", "42883", "42703", "42P02", "42704"})
_ROLLED_BACK: Final = frozenset({"40001", "40P01", "55P03", "57014"})
_READ_ONLY: Final = "25006"
_INSUFFICIENT_PRIVILEGE: Final = "42501"
_NO_ROOM: Final = frozenset({"53100", "53200"})
"""Disk full, out of memory: it passes, like a server that is away."""


_AWAY: Final = (
    "PostgreSQL at {url} cannot be reached ({reason}); check that it runs, the address and the credentials, then try again"
)


def translated(error: psycopg.Error, url: str, secret: str | None = None) -> StageflowError:
    """Return the stageflow error that a psycopg error stands for; its message never holds ``secret``."""
    reason = reason_of(error, secret)
    state = error.sqlstate or ""
    if state in _OWN:
        return _OWN[state](error.diag.message_primary or reason)
    kind, meaning = _meaning(error, state)
    return kind(meaning.format(url=url, reason=reason))


def _meaning(error: psycopg.Error, state: str) -> tuple[type[StageflowError], str]:
    kind: type[StageflowError]
    match error:
        case _ if state in _NO_SCHEMA:
            kind, text = (
                SchemaVersionError,
                "the schema at {url} is not what this code needs ({reason}); run `stageflow migrate`",
            )
        case _ if state in _ROLLED_BACK:
            kind, text = StoreError, "PostgreSQL rolled the transaction back ({reason}); nothing was written, call again"
        case _ if state == _INSUFFICIENT_PRIVILEGE:
            kind, text = (
                StoreUnsuitableError,
                "the user at {url} lacks a privilege ({reason}); grant it, or connect as the owner",
            )
        case _ if state == _READ_ONLY:
            kind = StoreUnsuitableError
            text = (
                "the database at {url} takes no writes from this user ({reason}); "
                "set default_transaction_read_only off for the database and the role, or connect to the primary"
            )
        case psycopg.IntegrityError():
            kind, text = StoreStateError, f"a constraint at {{url}} refused the write ({{reason}}); {MEND_ROW}"
        case psycopg.DataError():
            kind, text = InvalidValueError, "PostgreSQL cannot hold a value that was given ({reason}); correct it"
        case _ if state in _NO_ROOM:
            kind = StoreUnreachableError
            text = "PostgreSQL at {url} has no room left ({reason}); free disk space or memory there, then try again"
        case psycopg.OperationalError() | psycopg.InterfaceError():
            kind, text = StoreUnreachableError, _AWAY
        case _:
            kind, text = StoreError, "PostgreSQL at {url} refused a statement ({reason}); run `stageflow verify`"
    return kind, text


def unreachable(url: str, reason: str) -> StoreUnreachableError:
    """Return the error for a server that does not answer, refuses the credentials, or went away in the middle."""
    return StoreUnreachableError(_AWAY.format(url=url, reason=reason))


def reason_of(error: BaseException, secret: str | None = None) -> str:
    """Return an error's own words on one line, without ``secret``."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace(secret, "***") if secret else text
