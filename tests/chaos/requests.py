"""The jobs of a chaos run: a function of the run's seed and the job's number, so that nothing about them is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from builders.poison_app import POISON

Kind = Literal["small", "slow", "large", "poison"]
LARGE_ROWS = 5_000
#: The first feature of a row that takes a while.
SLOW = 777.0


@dataclass(frozen=True)
class Mix:
    """How many of the jobs that are not small: shares of `slow` and `large`, and which numbers are `poison`."""

    slow: float = 0.0
    large: float = 0.0
    poison: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Request:
    """One job. `table` is float32 (rows, 8)."""

    number: int
    kind: Kind
    table: NDArray[Any]


def request(seed: int, number: int, mix: Mix) -> Request:
    """Return the job of this number."""
    rng = np.random.default_rng((seed, number))
    kind = _kind(number, float(rng.random()), mix)
    table = rng.normal(size=(LARGE_ROWS if kind == "large" else 1, 8)).astype(np.float32)
    if kind in ("slow", "poison"):
        table[:, 0] = SLOW if kind == "slow" else POISON
    return Request(number, kind, table)


def _kind(number: int, drawn: float, mix: Mix) -> Kind:
    if number in mix.poison:
        return "poison"
    if drawn < mix.slow:
        return "slow"
    return "large" if drawn < mix.slow + mix.large else "small"
