"""Scenarios in memory: complete, for notebooks and tests, gone when the process ends."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from uqueue_worker.learning.repository.filters import Filters
from uqueue_worker.learning.repository.identity import key_of
from uqueue_worker.learning.repository.jsonvalues import contains
from uqueue_worker.learning.repository.matching import matches, rank
from uqueue_worker.learning.repository.paging import Place, Position, Request, most_ranked
from uqueue_worker.learning.repository.repository import ScenarioRepository
from uqueue_worker.learning.repository.stored import Change, StoredScenario

Result = TypeVar("Result")
_TICK = timedelta(microseconds=1)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryScenarioRepository(ScenarioRepository):
    """A repository of this process; threads may share it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._backend = _Memory()
        self._lock = threading.RLock()

    def _reading(self, work: Callable[[Any], Result]) -> Result:
        with self._lock:
            return work(self._backend)

    def _writing(self, work: Callable[[Any], Result]) -> Result:
        with self._lock:
            before = self._backend.mark()
            try:
                return work(self._backend)
            except BaseException:
                self._backend.undo(before)
                raise


class _Memory:
    """The rows and their history; whoever uses it holds the lock."""

    def __init__(self) -> None:
        self._rows: dict[UUID, StoredScenario] = {}
        self._history: dict[UUID, list[dict[str, Any]]] = {}
        self._log: list[tuple[UUID, StoredScenario | None]] = []
        self._latest = _BEGINNING

    def mark(self) -> int:
        self._log.clear()
        return 0

    def undo(self, mark: int) -> None:
        while len(self._log) > mark:
            key, before = self._log.pop()
            self._history[key].pop()
            if before is None:
                del self._rows[key], self._history[key]
            else:
                self._rows[key] = before

    def find(self, scenario_id: str, *, alone: bool = False) -> StoredScenario | None:
        key = key_of(scenario_id)
        return None if key is None else self._rows.get(key)

    def put(self, stored: StoredScenario, change: Change) -> StoredScenario:
        self._latest = max(datetime.now(UTC), self._latest + _TICK)
        kept = replace(stored, origin=copy.deepcopy(dict(stored.origin)), updated_at=self._latest)
        self._log.append((kept.key, self._rows.get(kept.key)))
        self._rows[kept.key] = kept
        self._history.setdefault(kept.key, []).append(
            {
                "version": kept.definition.version,
                "operation": change.operation,
                "changed_at": self._latest,
                "changed_by": kept.updated_by,
                "reason": change.reason,
                "weak_spot_ids": list(change.weak_spot_ids),
                "snapshot": kept.snapshot(),
            }
        )
        return kept

    def latest(self, filters: Filters, limit: int) -> list[StoredScenario]:
        return [stored for stored, _ in self._ordered(Request(filters))[:limit]]

    def page(self, request: Request) -> list[tuple[StoredScenario, Position]]:
        return self._ordered(request)[: request.limit + 1]

    def alike(self, behaviour_hash: str) -> StoredScenario | None:
        return self._first(lambda row: row.behaviour_hash == behaviour_hash)

    def marked(self, category: str, origin: dict[str, Any]) -> StoredScenario | None:
        return self._first(lambda row: row.definition.category == category and contains(row.origin, origin))

    def history(self, key: UUID) -> list[dict[str, Any]]:
        return copy.deepcopy(self._history[key])

    def version(self, key: UUID, version: int) -> dict[str, Any] | None:
        found = (entry["snapshot"] for entry in self._history[key] if entry["version"] == version)
        return next(found, None)

    def alone(self, name: str) -> None:
        """Everybody is alone here."""

    def _first(self, fits: Callable[[StoredScenario], bool]) -> StoredScenario | None:
        return next((row for row in self._rows.values() if row.archived_at is None and fits(row)), None)

    def _ordered(self, request: Request) -> list[tuple[StoredScenario, Position]]:
        found = []
        for row in self._rows.values():
            worth = 0.0 if request.query is None else rank(row, request.query)
            if worth is not None and matches(row, request.filters):
                found.append((row, Position(worth, row.updated_at or _BEGINNING, row.key)))
        if request.query is not None:
            oldest = _oldest_ranked(request.query, request.after, [position.place for _, position in found])
            found = [(row, _bounded(position, oldest)) for row, position in found]
        shown = [pair for pair in found if request.after is None or _order(pair[1]) < _order(request.after)]
        return sorted(shown, key=lambda pair: _order(pair[1]), reverse=True)


def _oldest_ranked(query: str, after: Position | None, places: list[Place]) -> Place | None:
    """Return where the ranked matches end, None if all are ranked. It stays the same over all pages."""
    if after is not None:
        return after.place if after.rank is None else after.oldest_ranked
    most = most_ranked(query)
    return sorted(places, reverse=True)[most - 1] if len(places) > most else None


def _bounded(position: Position, oldest: Place | None) -> Position:
    if oldest is not None and position.place < oldest:
        return replace(position, rank=None)
    return replace(position, oldest_ranked=oldest)


def _order(position: Position) -> tuple[bool, float, datetime, UUID]:
    return position.rank is not None, position.rank or 0.0, position.updated_at, position.key
