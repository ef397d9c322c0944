"""Types of values that several of the models share."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_MAX_DEPTH = 32


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004 - pydantic reports this one
    return value


def json_value(value: Any, depth: int = 0) -> Any:
    """Return a value that JSON can carry as it is. Raises ValueError for others, NaN and infinity among them."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"expected at most {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("expected names that are text")
        _all_json(value.values(), depth)
    elif isinstance(value, list | tuple):
        _all_json(value, depth)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("expected finite numbers")
    elif not (value is None or isinstance(value, str | bool | int | float)):
        raise ValueError("expected what JSON can carry")
    return value


def _all_json(values: Any, depth: int) -> None:
    for one in values:
        json_value(one, depth + 1)


Score = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=1)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
Number = Annotated[float, BeforeValidator(_no_bool)]
JsonValue = Annotated[Any, AfterValidator(json_value)]
Identifier = Annotated[str, Field(min_length=1, max_length=500)]
