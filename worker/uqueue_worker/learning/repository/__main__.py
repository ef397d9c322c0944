"""`uqueue learn migrate`: bring the database that the settings name up to date.

python -m uqueue_worker.learning.repository migrate [--dry-run]
"""

from __future__ import annotations

import argparse
import logging
import sys

from uqueue_config.errors import SettingsError, UqueueError
from uqueue_config.learning.settings import LearningSettings
from uqueue_worker.learning.credentials import required
from uqueue_worker.learning.errors import RepositoryUnavailable
from uqueue_worker.learning.repository import migrate

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: list[str] | None = None) -> int:
    """Migrate and say what was done; returns the exit code of the command line."""
    parser = argparse.ArgumentParser(prog="uqueue learn", description="The database of the scenario repository.")
    commands = parser.add_subparsers(dest="command", required=True)
    migrating = commands.add_parser("migrate", help="bring it up to date")
    migrating.add_argument("--dry-run", action="store_true", help="only say what would be done")
    given = parser.parse_args(arguments)
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # the error says it once, it would say it often
    try:
        settings = LearningSettings.load()
        dsn = required("UQUEUE_LEARNING_DATABASE", settings.database, file=settings.database_file)
        names = migrate(dsn, given.dry_run)
    except KeyboardInterrupt:
        return INTERRUPTED
    except UqueueError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return _code(error)
    for name in names:
        sys.stdout.write(f"{name}\n")
    verb = "would be applied" if given.dry_run else "applied"
    sys.stderr.write(f"{len(names)} migrations {verb}.\n" if names else "The database is up to date.\n")
    return OK


def _code(error: UqueueError) -> int:
    match error:
        case SettingsError():
            return USAGE
        case RepositoryUnavailable():
            return UNREACHABLE
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
