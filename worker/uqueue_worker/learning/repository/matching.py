"""Searching in memory: the same answers as PostgreSQL's, up to the fine points of its dictionaries."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

from uqueue_worker.learning.repository import tags
from uqueue_worker.learning.repository.filters import Comparison, Filters
from uqueue_worker.learning.repository.identity import key_of
from uqueue_worker.learning.repository.jsonvalues import MISSING, at, contains, same
from uqueue_worker.learning.repository.stored import StoredScenario
from uqueue_worker.learning.repository.terms import Term, alternatives, words_of

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_ENDINGS = ("ings", "ing", "ed", "es", "s")
#: Words that nobody searches for; the English dictionary of PostgreSQL leaves out these and some more.
_COMMON = frozenset(
    words_of("a an and are as at be by for from has in is it its not of on or that the this to was with")
)
_WEIGHTS = (1.0, 0.4, 0.2)  # name; tags and category; description


def matches(stored: StoredScenario, filters: Filters) -> bool:
    """Say whether a scenario fulfils all filters."""
    return all(_checks(stored, filters))


def _checks(stored: StoredScenario, filters: Filters) -> Iterator[bool]:
    found, duration = stored.definition, stored.definition.expected_duration_seconds
    yield filters.archived in (None, stored.archived_at is not None)
    yield filters.draft in (None, stored.draft)
    yield filters.category in (None, found.category)
    yield filters.author in (None, found.author)
    yield not filters.difficulty or found.difficulty_level in filters.difficulty
    yield filters.parent is None or stored.parent == key_of(filters.parent)
    yield filters.weak_spot_id is None or filters.weak_spot_id in stored.weak_spot_ids
    yield _within(duration, filters.duration_min_seconds, filters.duration_max_seconds)
    yield _within(found.created_at, filters.created_after, filters.created_before)
    yield _within(stored.updated_at, filters.updated_after, filters.updated_before)
    yield all(tag in found.tags for tag in filters.tags.all)
    for wanted in _any_of(filters):
        yield any(tag in found.tags for tag in wanted)
    yield not any(tag in found.tags for tag in filters.tags.none)
    if filters.contains is not None or filters.parameters:
        parameters = found.specific_params
        yield filters.contains is None or contains(parameters, filters.contains)
        yield all(_holds(parameters, one) for one in filters.parameters)


def _any_of(filters: Filters) -> Iterator[list[str]]:
    if filters.tags.any:
        yield list(filters.tags.any)
    if filters.class_label is not None:
        yield tags.class_forms(filters.class_label)
    if filters.sensor_type is not None:
        yield tags.sensor_forms(filters.sensor_type)


def _within(value: Any, low: Any, high: Any) -> bool:
    if value is None:
        return low is None and high is None
    return (low is None or value >= low) and (high is None or value <= high)


def _holds(parameters: dict[str, Any], asked: Comparison) -> bool:
    value = at(parameters, asked.segments)
    if asked.op == "exists":
        return (value is not MISSING) is asked.value
    if value is MISSING:
        return False
    if asked.op in _ORDER:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and _ORDER[asked.op](value, asked.value)
    if asked.op == "in":
        return any(same(value, one) for one in asked.value)
    if asked.op == "contains":
        return contains(value, asked.value) or contains(value, [asked.value])
    return same(value, asked.value) is (asked.op == "eq")


def rank(stored: StoredScenario, query: str) -> float | None:
    """Return how well a scenario answers a query, None if it does not."""
    found = stored.definition
    texts = [words_of(found.name), words_of(" ".join((found.category, *found.tags))), words_of(found.description)]
    texts[2] = [_stem(word) for word in texts[2]]
    ranks = [_rank(group, texts) for group in alternatives(query)]
    return max((one for one in ranks if one is not None), default=None)


def _rank(group: list[Term], texts: list[list[str]]) -> float | None:
    total = 0.0
    meant = [term for term in group if not _COMMON.issuperset(term.words)]
    for term in meant:
        score = _score(list(term.words), texts)
        if (score > 0) is term.negated:
            return None
        total += score
    return total if meant else None


def _score(wanted: list[str], texts: list[list[str]]) -> float:
    stems = [_stem(word) for word in wanted]
    counts = [_count(wanted, texts[0]), _count(wanted, texts[1]), _count(stems, texts[2])]
    return sum(weight * count for weight, count in zip(_WEIGHTS, counts, strict=True))


def _count(wanted: list[str], text: list[str]) -> int:
    length = len(wanted)
    return sum(text[start : start + length] == wanted for start in range(len(text) - length + 1))


def _stem(word: str) -> str:
    ending = next((end for end in _ENDINGS if word.endswith(end) and len(word) > len(end) + 2), "")
    return word[: len(word) - len(ending)]
