"""What a validation error found, as one sentence that names every path."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

_SHOWN = 20


def problems_of(error: ValidationError) -> str:
    """Return `path: what was expected; path: …`, of at most twenty problems, without the values that were given."""
    found = [_problem(item["loc"], item["msg"]) for item in error.errors(include_url=False, include_input=False)]
    more = [f"and {len(found) - _SHOWN} more problems"] if len(found) > _SHOWN else []
    return "; ".join(found[:_SHOWN] + more)


def _problem(location: Sequence[int | str], message: str) -> str:
    said = message.removeprefix("Value error, ")
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
    return f"{path}: {said[:1].lower()}{said[1:]}" if path else said
