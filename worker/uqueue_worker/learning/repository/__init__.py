"""Where scenarios are kept: in memory, or in PostgreSQL.

`MemoryScenarioRepository()` needs nothing. `postgres_repository(dsn)` needs the extra `learning`, whose driver is
loaded here and not before; `migrate(dsn)` prepares a database for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from uqueue_config.learning.settings import LearningSettings
from uqueue_worker.learning.credentials import Credential, required
from uqueue_worker.learning.errors import RepositoryUnavailable
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository
from uqueue_worker.learning.repository.repository import ScenarioRepository
from uqueue_worker.learning.repository.stored import CraftingRun, ScenarioPage, StoredScenario

if TYPE_CHECKING:
    from uqueue_worker.learning.repository.connection import Database

__all__ = [
    "CraftingRun",
    "MemoryScenarioRepository",
    "ScenarioPage",
    "ScenarioRepository",
    "StoredScenario",
    "database_of",
    "migrate",
    "open_database",
    "postgres_repository",
]
Dsn = str | SecretStr | Credential | None


def open_database(dsn: Dsn = None, **options: Any) -> Database:
    """Return the database that a connection string names, or the environment (`UQUEUE_LEARNING_DATABASE`).

    Nothing is connected yet. `options` are those of `connection.Database`. Raises SettingsError if nothing names a
    database, RepositoryUnavailable if the driver is not installed.
    """
    try:
        from uqueue_worker.learning.repository.connection import Database
    except ImportError as error:
        raise _missing(error) from error
    return Database(dsn, **options)


def database_of(settings: LearningSettings, **options: Any) -> Database:
    """Return the database that the settings name, with a breaker around its calls; `options` and errors as for
    `open_database`.
    """
    named = required("UQUEUE_LEARNING_DATABASE", settings.database, file=settings.database_file)
    try:
        from uqueue_worker.learning.repository.breaking import BreakingDatabase
    except ImportError as error:
        raise _missing(error) from error
    return BreakingDatabase(named, tls=settings.database_tls, **options)


def postgres_repository(database: Dsn | Database = None, **options: Any) -> ScenarioRepository:
    """Return a repository in a database, given or named as for `open_database`; `options` are the repository's."""
    if database is None or isinstance(database, str | SecretStr | Credential):
        database = open_database(database)
    from uqueue_worker.learning.repository.postgres import PostgresScenarioRepository

    return PostgresScenarioRepository(database, **options)


def migrate(dsn: Dsn = None, dry_run: bool = False) -> list[str]:
    """Apply the migrations that a database lacks and return their names; with `dry_run`, only return them.

    Raises as `migrating.migrate`, and as `open_database`.
    """
    try:
        from uqueue_worker.learning.repository.migrating import migrate as applied
    except ImportError as error:
        raise _missing(error) from error
    return applied(dsn, dry_run)


def _missing(error: ImportError) -> RepositoryUnavailable:
    return RepositoryUnavailable(reason=f'{error.name} is not installed here: pip install "uqueue[worker,learning]"')
