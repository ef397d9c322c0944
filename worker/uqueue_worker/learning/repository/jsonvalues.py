"""Comparing JSON values as PostgreSQL's jsonb does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSING = object()


def at(value: Any, segments: list[str]) -> Any:
    """Return the value at a path, or MISSING. A number counts the elements of a list."""
    for segment in segments:
        if isinstance(value, Mapping) and segment in value:
            value = value[segment]
        elif isinstance(value, list) and segment.isdigit() and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return MISSING
    return value


def same(one: Any, other: Any) -> bool:
    """Say whether two values are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return (type(one) is type(other) or _numbers(one, other)) and bool(one == other)


def contains(holder: Any, part: Any) -> bool:
    """Say whether one value contains another: an object all its parts, a list each of its elements in any order."""
    if isinstance(holder, Mapping) and isinstance(part, Mapping):
        return all(key in holder and contains(holder[key], value) for key, value in part.items())
    if isinstance(holder, list) and isinstance(part, list):
        return all(any(contains(one, wanted) for one in holder) for wanted in part)
    return not isinstance(part, Mapping | list) and same(holder, part)


def _numbers(one: Any, other: Any) -> bool:
    return isinstance(one, int | float) and isinstance(other, int | float)
