"""A real PostgreSQL for tests: one server, and a database of its own for each test that asks for one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psutil
import psycopg
from psycopg import conninfo, sql

from uqueue_worker.learning.repository.embedded import EmbeddedPostgres, start_postgres

_NUMBERS = count(1)
_TEMPLATE = "migrated"


@contextmanager
def postgres_server(folder: Path | None = None) -> Iterator[EmbeddedPostgres]:
    """Run a server that does not wait for disks, in a temporary folder unless given.

    pytest's folders are closed to others, so a server that root starts cannot have its data there.
    """
    with start_postgres(folder, durable=False) as server:
        yield server


@contextmanager
def new_database(server: EmbeddedPostgres, template: str = "template0") -> Iterator[str]:
    """Make a database, an empty one or a copy of `template`; give its connection string and drop it afterwards."""
    name = f"test_{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        _copy(connection, name, template)
    yield conninfo.make_conninfo(server.dsn, dbname=name)
    with psycopg.connect(server.dsn, autocommit=True) as connection:  # the server may be another one by now
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def migrated_database(server: EmbeddedPostgres) -> Iterator[str]:
    """Make a database with all migrations applied; give its connection string and drop it afterwards.

    The migrations run once per server, in a database that the others are copies of.
    """
    from uqueue_worker.learning.repository.migrating import migrate

    with psycopg.connect(server.dsn, autocommit=True) as connection:
        found = connection.execute("select 1 from pg_database where datname = %s", [_TEMPLATE]).fetchone()
        if found is None:
            _copy(connection, _TEMPLATE, "template0")
            migrate(conninfo.make_conninfo(server.dsn, dbname=_TEMPLATE))
    with new_database(server, _TEMPLATE) as dsn:
        yield dsn


def kill_postgres(server: EmbeddedPostgres, signal_number: int = signal.SIGKILL) -> None:
    """End a server at once, as a crash does or by another signal, and wait until its backends are gone, too."""
    assert server.process is not None
    backends = psutil.Process(server.process.pid).children(recursive=True)
    os.kill(server.process.pid, signal_number)
    server.process.wait(10)
    psutil.wait_procs(backends, timeout=10)


def _copy(connection: psycopg.Connection, name: str, template: str) -> None:
    names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    connection.execute(sql.SQL("create database {name} template {template}").format(**names))
