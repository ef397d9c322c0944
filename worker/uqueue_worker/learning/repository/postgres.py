"""Scenarios in PostgreSQL. Needs psycopg."""

# ruff: noqa: S608 - statements are joined from literals of this package; every value is bound

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, LiteralString, TypeVar
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from uqueue_worker.learning.errors import ScenarioConflict, ScenarioInvalid
from uqueue_worker.learning.repository import ranking, selecting
from uqueue_worker.learning.repository.connection import Connection, Database, lock_key
from uqueue_worker.learning.repository.filters import Filters
from uqueue_worker.learning.repository.identity import key_of
from uqueue_worker.learning.repository.paging import Position, Request
from uqueue_worker.learning.repository.repository import ScenarioRepository
from uqueue_worker.learning.repository.rows import WRITTEN, stored_of, values_of
from uqueue_worker.learning.repository.selecting import COLUMNS, TABLE, Statement
from uqueue_worker.learning.repository.stored import Change, StoredScenario

Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)
_NAMES: LiteralString = ", ".join(WRITTEN)
_PLACES: LiteralString = ", ".join(["%s"] * len(WRITTEN))
_INSERT: LiteralString = (
    f"insert into {TABLE} ({_NAMES}, updated_at) values ({_PLACES}, clock_timestamp()) returning {COLUMNS}"
)
_UPDATE: LiteralString = (
    f"update {TABLE} set ({_NAMES}, updated_at) = ({_PLACES}, clock_timestamp()) "
    f"where scenario_id = %s and version = %s returning {COLUMNS}"
)
_FIND: LiteralString = f"select {COLUMNS} from {TABLE} where scenario_id = %s or external_id = %s limit 1"
_NOTE: LiteralString = (
    "insert into simulation.scenario_definition_history (scenario_id, version, snapshot, operation, changed_at, "
    "changed_by, reason, weak_spot_ids) values (%s, %s, %s, %s, %s, %s, %s, %s)"
)
_HISTORY: LiteralString = (
    "select version, operation, changed_at, changed_by, reason, weak_spot_ids, snapshot "
    "from simulation.scenario_definition_history where scenario_id = %s order by version"
)


class PostgresScenarioRepository(ScenarioRepository):
    """A repository in a database that `migrate` has prepared. Threads may share it, and processes after a fork."""

    def __init__(self, database: Database, **options: Any) -> None:
        super().__init__(**options)
        self._database = database

    def _reading(self, work: Callable[[Any], Result]) -> Result:
        return self._database.read(lambda connection: work(_Rows(connection)))

    def _writing(self, work: Callable[[Any], Result]) -> Result:
        try:
            return self._database.write(lambda connection: work(_Rows(connection)))
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            told = error.diag.message_primary or type(error).__name__
            raise ScenarioInvalid(reason=f"the database refuses it: {told[:300]}") from error


class _Rows:
    """One transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, scenario_id: str, *, alone: bool = False) -> StoredScenario | None:
        key = key_of(scenario_id)
        if key is None:
            return None
        found = self._find(key, scenario_id, alone)
        if found is None and alone:  # there is no row to lock yet
            self.alone(f"scenario/{key}")
            found = self._find(key, scenario_id, alone)
        return found

    def put(self, stored: StoredScenario, change: Change) -> StoredScenario:
        version = stored.definition.version
        values = values_of(stored)
        if version == 1:
            row = self._connection.execute(_INSERT, values).fetchone()
        else:
            row = self._connection.execute(_UPDATE, [*values, stored.key, version - 1]).fetchone()
        if row is None:
            raise ScenarioConflict(
                scenario_id=stored.definition.scenario_definition_id, found="another", expected=version - 1
            )
        kept = stored_of(row)
        snapshot = Jsonb(kept.snapshot())
        note = [kept.key, version, snapshot, change.operation, kept.updated_at, kept.updated_by, change.reason]
        self._connection.execute(_NOTE, [*note, list(change.weak_spot_ids)])
        return kept

    def latest(self, filters: Filters, limit: int) -> list[StoredScenario]:
        statement = selecting.latest(filters, limit)
        rows = self._connection.execute(statement.sql, statement.values).fetchall()
        return [stored for _, stored in _readable(rows)]

    def page(self, request: Request) -> list[tuple[StoredScenario, Position]]:
        statement = self._statements(request)
        found: list[tuple[StoredScenario, Position]] = []
        asked: Request | None = request
        while asked is not None:
            rows = self._planned(statement(asked))
            found += [(stored, _position(row)) for row, stored in _readable(rows)]
            asked = _following(asked, rows, request.limit - len(found))
        return found

    def alike(self, behaviour_hash: str) -> StoredScenario | None:
        where: LiteralString = "behaviour_hash = %s and archived_at is null order by created_at, scenario_id"
        return self._one(where, [behaviour_hash])

    def marked(self, category: str, origin: dict[str, Any]) -> StoredScenario | None:
        where: LiteralString = "category = %s and origin @> %s and archived_at is null order by created_at, scenario_id"
        return self._one(where, [category, Jsonb(origin)])

    def history(self, key: UUID) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(_HISTORY, [key]).fetchall()]

    def version(self, key: UUID, version: int) -> dict[str, Any] | None:
        query: LiteralString = (
            "select snapshot from simulation.scenario_definition_history where scenario_id = %s and version = %s"
        )
        row = self._connection.execute(query, [key, version]).fetchone()
        return None if row is None else row["snapshot"]

    def alone(self, name: str) -> None:
        self._connection.execute("select pg_advisory_xact_lock(%s)", [lock_key(name)])

    def _statements(self, request: Request) -> Callable[[Request], Statement]:
        """Return what makes the statements of a search: words need some preparation."""
        if request.query is None:
            return selecting.page
        (prepared,) = self._planned(ranking.preparing(request))
        return partial(ranking.page, prepared=prepared)

    def _planned(self, statement: Statement) -> list[dict[str, Any]]:
        """Return the rows of a statement that is planned for its values, because plans depend on how many match."""
        return self._connection.execute(statement.sql, statement.values, prepare=False).fetchall()

    def _find(self, key: UUID, scenario_id: str, alone: bool) -> StoredScenario | None:
        query: LiteralString = f"{_FIND} for no key update" if alone else _FIND
        row = self._connection.execute(query, [key, scenario_id]).fetchone()
        return None if row is None else stored_of(row)

    def _one(self, where: LiteralString, values: list[Any]) -> StoredScenario | None:
        row = self._connection.execute(f"select {COLUMNS} from {TABLE} where {where} limit 1", values).fetchone()
        return None if row is None else stored_of(row)


def _position(row: dict[str, Any]) -> Position:
    oldest = None if row["oldest_key"] is None else (row["oldest_at"], row["oldest_key"])
    return Position(row["rank"], row["updated_at"], row["scenario_id"], oldest)


def _following(asked: Request, rows: list[dict[str, Any]], missing: int) -> Request | None:
    """Return what to ask for next; None if the page is full, or if there is nothing more.

    Rows behind the ranked ones may be missing, or others for those that cannot be read.
    """
    if missing < 0:
        return None
    if len(rows) > asked.limit:
        return replace(asked, limit=missing, after=_position(rows[-1]))
    oldest = _position(rows[0]).oldest_ranked if rows else asked.after and asked.after.oldest_ranked
    return replace(asked, limit=missing, after=Position(None, *oldest)) if oldest else None


def _readable(rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], StoredScenario]]:
    """Yield the rows that are definitions: one that somebody else spoilt must not hide all others."""
    for row in rows:
        try:
            yield row, stored_of(row)
        except ScenarioInvalid as error:
            _LOG.warning("scenario %s cannot be read and is left out: %s", row["scenario_id"], error)
