"""What a place where scenarios are kept must offer; the repository is written against it."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

from uqueue_worker.learning.repository.filters import Filters
from uqueue_worker.learning.repository.paging import Position, Request
from uqueue_worker.learning.repository.stored import Change, StoredScenario


class Backend(Protocol):
    """One transaction: what is put into it is kept altogether or not at all."""

    def find(self, scenario_id: str, *, alone: bool = False) -> StoredScenario | None:
        """Return the latest version under an id or a key. `alone`: nobody else changes or makes it until the end."""
        ...

    def put(self, stored: StoredScenario, change: Change) -> StoredScenario:
        """Insert a scenario of version 1, or replace the version before, and write its history; return it as kept."""
        ...

    def latest(self, filters: Filters, limit: int) -> list[StoredScenario]:
        """Return those that fulfil the filters, the latest update first."""
        ...

    def page(self, request: Request) -> list[tuple[StoredScenario, Position]]:
        """Return up to `limit` + 1 rows of a search, in its order, after its position."""
        ...

    def alike(self, behaviour_hash: str) -> StoredScenario | None:
        """Return the first scenario of that behaviour that is not archived."""
        ...

    def marked(self, category: str, origin: dict[str, Any]) -> StoredScenario | None:
        """Return the first scenario of a category whose origin contains the one given and that is not archived."""
        ...

    def history(self, key: UUID) -> list[dict[str, Any]]:
        """Return all versions of a scenario, the oldest first."""
        ...

    def version(self, key: UUID, version: int) -> dict[str, Any] | None:
        """Return the snapshot of one version."""
        ...

    def alone(self, name: str) -> None:
        """Wait until nobody else holds the lock of that name, and hold it until the end."""
        ...
