"""Transactions on PostgreSQL: a pool of connections made on first use, what is tried again, what errors become.

Needs psycopg, and is imported by what uses a database only. Errors name no password and no connection string.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout
from pydantic import SecretStr

from uqueue_worker.learning.credentials import Credential, required
from uqueue_worker.learning.errors import RepositoryUnavailable
from uqueue_worker.learning.repository.faults import TRANSLATED, collided, dropped, reason_of

Connection = psycopg.Connection[DictRow]
Tls = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
Result = TypeVar("Result")
#: The variable that names the database, and with `_FILE` a file that holds the connection string.
DATABASE = "UQUEUE_LEARNING_DATABASE"
WRITE_RETRIES = 3
_FIRST_PAUSE_SECONDS = 0.02


class _Slot:
    """What one process has of a database. Processes that were forked from it have slots of their own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pool: ConnectionPool[Connection] | None = None
        self.failure: tuple[float, str] | None = None  # when the last connection failed, and why


class Database:
    """A PostgreSQL database. Nothing is connected before it is used, and nothing is shared over a fork.

    dsn                        connection string, or a Credential that is read at each connect; from the environment
                               variable UQUEUE_LEARNING_DATABASE, or the file that UQUEUE_LEARNING_DATABASE_FILE
                               names, unless given. What it says wins over the parameters below.
    max_connections            of this process, at most
    statement_timeout_seconds  after which the server ends a statement; lock_timeout_seconds the same for waiting
    wait_seconds               for a free connection, or for the server to come back
    tls                        sslmode of libpq; use verify-full over networks
    Everything raises RepositoryUnavailable if the database does not answer, refuses, or was not migrated. Errors about
    data (psycopg.IntegrityError, psycopg.DataError) and about wrong SQL come as they are.
    """

    def __init__(
        self,
        dsn: str | SecretStr | Credential | None = None,
        *,
        application_name: str = "uqueue-learning",
        max_connections: int = 8,
        statement_timeout_seconds: float = 5.0,
        lock_timeout_seconds: float = 2.0,
        wait_seconds: float = 5.0,
        tls: Tls = "prefer",
    ) -> None:
        self._dsn = dsn if isinstance(dsn, Credential) else required(DATABASE, dsn)
        self._max_connections = max_connections
        self._wait_seconds = wait_seconds
        self._parameters: dict[str, Any] = {
            "application_name": application_name,
            "connect_timeout": max(2, round(wait_seconds)),
            "sslmode": tls,
            "tcp_user_timeout": 10_000,
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
        }
        self._options = (
            f"-c statement_timeout={round(statement_timeout_seconds * 1000)} "
            f"-c lock_timeout={round(lock_timeout_seconds * 1000)}"
        )
        self._slots: dict[int, _Slot] = {}

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Return what `work` returns, run in a transaction of its own; once more if the connection is lost meanwhile.

        `work` must not change anything that a second run would change again.
        """
        try:
            return self._run(work)
        except RepositoryUnavailable as error:
            if not dropped(error.__cause__):
                raise
            return self._run(work)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Return what `work` returns, run in a transaction of its own, which is committed if it returns.

        After a serialization failure or a deadlock, nothing of it happened, and it is run again up to three times.
        """
        return self._run(work)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection in a transaction, committed at the end of the block or rolled back if the block raises.

        Rows are dicts. Nothing is tried again; `read` and `write` do.
        """
        with self.session() as connection, connection.transaction():
            yield connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Give a connection outside of transactions: each statement is one of its own. Rows are dicts."""
        with self._translated(), self._connection() as connection:
            yield connection

    @contextmanager
    def holding(self, name: str) -> Iterator[bool]:
        """Hold the lock of that name for the block, on a connection of its own; False at once if another has it.

        The lock belongs to the connection: if that ends, somebody else may take it, so commit by compare-and-set.
        """
        key = {"key": lock_key(name)}
        with self.session() as connection:
            taken = connection.execute("select pg_try_advisory_lock(%(key)s) as taken", key).fetchone()
            held = bool(taken and taken["taken"])
            try:
                yield held
            finally:
                if held and not connection.broken:
                    connection.execute("select pg_advisory_unlock(%(key)s)", key)

    def close(self) -> None:
        """Close this process's connections; a later use opens new ones."""
        slot = self._slots.pop(os.getpid(), None)
        atexit.unregister(self.close)
        if slot is not None and slot.pool is not None:
            slot.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Callable[[Connection], Result]) -> Result:
        for attempt in range(WRITE_RETRIES):
            try:
                with self.transaction() as connection:
                    return work(connection)
            except RepositoryUnavailable as error:
                if not collided(error.__cause__):
                    raise
            time.sleep(random.uniform(0, _FIRST_PAUSE_SECONDS * 2**attempt))  # noqa: S311 - spreads, protects nothing
        with self.transaction() as connection:
            return work(connection)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        slot = self._slots.setdefault(os.getpid(), _Slot())
        pool = self._pool(slot)
        connection = self._living(pool, slot)
        try:
            yield connection
        finally:
            pool.putconn(connection)

    def _living(self, pool: ConnectionPool[Connection], slot: _Slot) -> Connection:
        """Return a connection that answers. Those that a restart of the server ended are replaced all at once."""
        connection = self._taken(pool, slot)
        try:
            connection.execute("")
        except psycopg.Error:
            pool.putconn(connection)
            pool.check()
            return self._taken(pool, slot)
        return connection

    def _taken(self, pool: ConnectionPool[Connection], slot: _Slot) -> Connection:
        asked = time.monotonic()
        try:
            return pool.getconn()
        except PoolTimeout as error:
            if slot.failure is not None and slot.failure[0] >= asked:
                raise RepositoryUnavailable(reason=slot.failure[1]) from error
            reason = f"none of its {self._max_connections} connections became free in {self._wait_seconds:g} s"
            raise RepositoryUnavailable(reason=reason) from error

    def _pool(self, slot: _Slot) -> ConnectionPool[Connection]:
        with slot.lock:
            if slot.pool is None:
                self._conninfo()  # what is wrong with it is said here, not in the pool's thread
                slot.pool = ConnectionPool(
                    self._conninfo,
                    connection_class=_reporting(slot),
                    kwargs={"autocommit": True, "row_factory": dict_row},
                    min_size=0,
                    max_size=self._max_connections,
                    timeout=self._wait_seconds,
                    reconnect_timeout=self._wait_seconds,  # its pauses double, so that a long one finds the server late
                    num_workers=2,
                    name="learning",
                    open=True,
                )
                atexit.register(self.close)
            return slot.pool

    def _conninfo(self) -> str:
        try:
            given = conninfo.conninfo_to_dict(self._dsn.reveal())
            options = " ".join(filter(None, [self._options, str(given.pop("options", "") or "")]))
            return conninfo.make_conninfo(**{**self._parameters, **given, "options": options})
        except psycopg.Error:  # its text may quote the password
            reason = f"{self._dsn.name} is no connection string; expected postgresql://user:password@host:5432/name"
            raise RepositoryUnavailable(reason=reason) from None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TRANSLATED as error:
            raise RepositoryUnavailable(reason=reason_of(error)) from error


def lock_key(name: str) -> int:
    """Return the key of PostgreSQL's advisory lock for a name, a signed 64-bit integer."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _reporting(slot: _Slot) -> type[Connection]:
    """Return a class of connections that notes why connecting failed: the pool keeps that to its log."""

    class Reporting(psycopg.Connection[DictRow]):
        @classmethod
        def connect(cls, conninfo: str = "", **options: Any) -> Any:
            try:
                return super().connect(conninfo, **options)
            except psycopg.Error as error:
                slot.failure = (time.monotonic(), reason_of(error))
                raise

    return Reporting
