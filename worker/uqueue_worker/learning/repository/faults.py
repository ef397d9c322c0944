"""What errors of the database driver mean, and what to say about them. No sentence holds a password."""

from __future__ import annotations

import psycopg
from psycopg_pool import PoolTimeout

_NOT_MIGRATED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)
#: What says something about the database rather than about the data or the statement.
TRANSLATED = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    psycopg.errors.InsufficientPrivilege,
    *_NOT_MIGRATED,
)
_ENDED = ("08", "57P")  # connection exceptions; the server shuts down, crashed or starts


def collided(error: BaseException | None) -> bool:
    """Say whether a transaction was rolled back because of another one, and may simply be run again."""
    return isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected)


def dropped(error: BaseException | None) -> bool:
    """Say whether a connection that had been there was lost."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or isinstance(error, PoolTimeout):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_ENDED)


def reason_of(error: psycopg.Error) -> str:
    """Return the end of a sentence that says why the database could not be used."""
    if isinstance(error, _NOT_MIGRATED):
        return f"its tables are missing or of another version ({_told(error)}); run `uqueue learn migrate`"
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "somebody else held a lock for too long"
    if isinstance(error, psycopg.errors.QueryCanceled):
        return "a statement took longer than it may"
    return _told(error)


def _told(error: psycopg.Error) -> str:
    """Return the server's sentence, or the first line of the driver's. Neither holds the password."""
    lines = (error.diag.message_primary or str(error)).splitlines()
    return lines[0].strip()[:300] if lines else type(error).__name__
