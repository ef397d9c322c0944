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
#: So many matches are ranked, because ranking is what takes time.
MOST_RANKED = 1000
_TERMS_AT_MOST_RANKED = 8
#: A row among all by its latest update: the time of it, and its key.
Place = tuple[datetime, UUID]


@dataclass(frozen=True)
class Position:
    """The place of a row in the order of a search.

    rank           0 without a query; None for a row behind those that are ranked
    oldest_ranked  where those end that are ranked; None if all are
    """

    rank: float | None
    updated_at: datetime
    key: UUID
    oldest_ranked: Place | None = None

    @property
    def place(self) -> Place:
        return self.updated_at, self.key

    @property
    def ranked_all(self) -> bool:
        """Whether all matches are ranked, this one and the others."""
        return self.rank is not None and self.oldest_ranked is None

    def to_cursor(self) -> str:
        told = [self.rank, *_written(self.place), *(_written(self.oldest_ranked) if self.oldest_ranked else ())]
        return base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


@dataclass(frozen=True)
class Request:
    """A checked search: the latest update first, and if there is a query, the best first among the latest matches."""

    filters: Filters
    query: str | None = None
    limit: int = 50
    after: Position | None = None


def most_ranked(query: str) -> int:
    """Return how many matches of a query are ranked, the latest ones; more than eight terms make it fewer."""
    terms = sum(map(len, alternatives(query)))
    return MOST_RANKED * _TERMS_AT_MOST_RANKED // max(_TERMS_AT_MOST_RANKED, terms)


def read_request(filters: Filters, query: Any, limit: Any, cursor: Any) -> Request:
    """Return a checked search. Raises ScenarioInvalid."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise ScenarioInvalid(reason=f"limit: expected 1 to {MAX_LIMIT}")
    if query is not None and not _storable(query, _MAX_QUERY_CHARACTERS):
        raise ScenarioInvalid(reason=f"query: expected text of at most {_MAX_QUERY_CHARACTERS} characters without NUL")
    words = query.strip() if query else None
    if words and sum(map(len, alternatives(words))) > _MAX_TERMS:
        raise ScenarioInvalid(reason=f"query: expected at most {_MAX_TERMS} words and phrases")
    after = None if cursor is None else _position(cursor)
    if after is not None and not words:
        after = Position(0.0, *after.place)
    return Request(filters, words or None, limit, after)


def _storable(text: Any, limit: int) -> bool:
    if not isinstance(text, str) or len(text) > limit or "\x00" in text:
        return False
    return text.isascii() or text.encode(errors="replace").decode() == text


def _position(cursor: Any) -> Position:
    try:
        if not isinstance(cursor, str) or len(cursor) > _MAX_CURSOR_CHARACTERS:
            raise ValueError("no cursor")
        told = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        rank, oldest = None if told[0] is None else float(told[0]), _place(told[3:]) if told[3:] else None
        if not math.isfinite(rank or 0.0) or (rank is None and oldest is not None):
            raise ValueError("no cursor")
        return Position(rank, *_place(told[1:3]), oldest)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        raise ScenarioInvalid(reason="cursor: expected the one that the page before gave") from None


def _written(place: Place) -> tuple[str, str]:
    return place[0].astimezone(UTC).isoformat(), str(place[1])


def _place(told: list[Any]) -> Place:
    moment, key = told
    found = datetime.fromisoformat(moment)
    if found.tzinfo is None:
        raise ValueError("no cursor")
    return found, UUID(key)
