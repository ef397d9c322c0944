"""Where a page of a search ends: the sorting values of its last row, as text that a client hands back."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from uqueue_worker.learning.errors import ScenarioInvalid
from uqueue_worker.learning.repository.filters import MAX_LIMIT, Filters
from uqueue_worker.learning.repository.terms import alternatives

_MAX_QUERY_CHARACTERS = 1000
_MAX_CURSOR_CHARACTERS = 500
_MAX_TERMS = 50


@dataclass(frozen=True)
class Position:
    """The place of a row in the order of a search: rank (0 without a query), time of the last update, key."""

    rank: float
    updated_at: datetime
    key: UUID

    def to_cursor(self) -> str:
        told = [self.rank, self.updated_at.astimezone(UTC).isoformat(), str(self.key)]
        return base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


@dataclass(frozen=True)
class Request:
    """A checked search: the best first if there is a query, the latest update first otherwise."""

    filters: Filters
    query: str | None = None
    limit: int = 50
    after: Position | None = None


def read_request(filters: Filters, query: Any, limit: Any, cursor: Any) -> Request:
    """Return a checked search. Raises ScenarioInvalid."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise ScenarioInvalid(reason=f"limit: expected 1 to {MAX_LIMIT}")
    if query is not None and not _storable(query, _MAX_QUERY_CHARACTERS):
        raise ScenarioInvalid(reason=f"query: expected text of at most {_MAX_QUERY_CHARACTERS} characters without NUL")
    words = query.strip() if query else None
    if words and sum(map(len, alternatives(words))) > _MAX_TERMS:
        raise ScenarioInvalid(reason=f"query: expected at most {_MAX_TERMS} words and phrases")
    return Request(filters, words or None, limit, None if cursor is None else _position(cursor))


def _storable(text: Any, limit: int) -> bool:
    if not isinstance(text, str) or len(text) > limit or "\x00" in text:
        return False
    return text.isascii() or text.encode(errors="replace").decode() == text


def _position(cursor: Any) -> Position:
    try:
        if not isinstance(cursor, str) or len(cursor) > _MAX_CURSOR_CHARACTERS:
            raise ValueError("no cursor")
        told = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        rank, moment, key = float(told[0]), datetime.fromisoformat(told[1]), UUID(told[2])
        if not math.isfinite(rank) or moment.tzinfo is None or len(told) != 3:
            raise ValueError("no cursor")
        return Position(rank, moment, key)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        raise ScenarioInvalid(reason="cursor: expected the one that the page before gave") from None
