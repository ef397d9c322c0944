"""Parameters of strategies, checked when one is made."""

from __future__ import annotations

import math
from collections.abc import Mapping


def share(name: str, value: float) -> float:
    """Return a number within [0, 1]. Raises ValueError."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number within [0, 1], got {value!r}")
    return float(value)


def weight(name: str, value: float) -> float:
    """Return a finite number of 0 or more. Raises ValueError."""
    if not _is_number(value) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number, 0 or more, got {value!r}")
    return float(value)


def weights(name: str, values: Mapping[str, float] | None) -> dict[str, float]:
    return {key: weight(f"{name}[{key}]", value) for key, value in (values or {}).items()}


def cap(name: str, value: int | None) -> int | None:
    """Return a whole number of 1 or more; None is no cap. Raises ValueError."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name}: expected a whole number from 1, or None for no cap, got {value!r}")
    return value


def at_least_one(name: str, value: int) -> int:
    return cap(name, value) or 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
