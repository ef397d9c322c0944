"""Migrations: numbered SQL files, each applied once, in order and in a transaction of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from pydantic import SecretStr

from uqueue_worker.learning.credentials import Credential
from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.repository.connection import Connection, Database, lock_key

FOLDER = Path(__file__).parent / "migrations"
_FILE = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")
_LOCK_SECONDS = 60.0
_STATEMENT_SECONDS = 600.0


@dataclass(frozen=True)
class Migration:
    """A file of SQL statements and its number."""

    version: int
    name: str
    sql: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql).hexdigest()


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """Return the migrations of a folder by number. Raises ValueError for a name or a number that does not fit."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        named = _FILE.fullmatch(path.name)
        if named is None or int(named[1]) in found:
            raise ValueError(f"{path.name}: expected a number of its own and a name, such as 0007_more_columns.sql")
        found[int(named[1])] = Migration(int(named[1]), path.stem, path.read_bytes())
    return list(found.values())


def migrate(
    dsn: str | SecretStr | Credential | None = None, dry_run: bool = False, *, folder: Path = FOLDER
) -> list[str]:
    """Apply what was not applied yet, and return its names in order; with `dry_run`, only return them.

    The role that signs in owns what is made. Somebody who migrates at the same time is waited for. Raises
    ActiveLearningError if a file was changed after it was applied, if the database knows a migration that is not here,
    or if a file fails, which then has changed nothing; RepositoryUnavailable if the database does not answer.
    """
    known = migrations(folder)
    database = Database(
        dsn,
        application_name="uqueue-learning-migrations",
        max_connections=1,
        statement_timeout_seconds=_STATEMENT_SECONDS,
        lock_timeout_seconds=_LOCK_SECONDS,
    )
    with database, database.session() as connection:
        if dry_run:
            return [one.name for one in _missing(connection, known)]
        with _alone(connection):
            return [_applied(connection, one) for one in _missing(connection, known)]


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    key = {"key": lock_key("uqueue.learning.migrations")}
    connection.execute("select pg_advisory_lock(%(key)s)", key)
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("select pg_advisory_unlock(%(key)s)", key)


def _missing(connection: Connection, known: list[Migration]) -> list[Migration]:
    done = _done(connection)
    for one in known:
        if done.get(one.version, one.sha256) != one.sha256:
            raise ActiveLearningError(
                f"Migration {one.name} was changed after it was applied to this database. "
                "Put the file back, and write the change as a migration of its own."
            )
    if beyond := sorted(done.keys() - {one.version for one in known}):
        raise ActiveLearningError(
            f"The database was migrated by a newer version of uqueue: migration {beyond[0]:04d} is not known here."
        )
    return [one for one in known if one.version not in done]


def _done(connection: Connection) -> Mapping[int, str]:
    row = connection.execute("select to_regclass('simulation.schema_migrations') is not null as present").fetchone()
    if not row or not row["present"]:
        return {}
    rows = connection.execute("select version, sha256 from simulation.schema_migrations").fetchall()
    return {found["version"]: found["sha256"] for found in rows}


def _applied(connection: Connection, migration: Migration) -> str:
    note = "insert into simulation.schema_migrations (version, name, sha256) values (%s, %s, %s)"
    try:
        with connection.transaction():
            connection.execute(migration.sql)
            connection.execute(note, [migration.version, migration.name, migration.sha256])
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        told = (error.diag.message_primary or type(error).__name__)[:300]
        raise ActiveLearningError(
            f"Migration {migration.name} failed and changed nothing: {told}. Look at the role's rights and at what the "
            "database held before."
        ) from error
    return migration.name
