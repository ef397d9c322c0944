"""Variation of parameters: a pure function of the parameters and a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from uqueue_worker.learning.scenarios.parameters import Parameters
from uqueue_worker.learning.scenarios.ranges import NumericParameter, Place, places

Model = TypeVar("Model", bound=Parameters)
_SWITCHING_PROBABILITY = 0.05
_FOCUS_FACTOR = 2.0


def jitter_seed(run_seed: int, cycle: int, spot_id: str, index: int) -> int:
    """Return the seed of one variation, 0 <= seed < 2**64; another run, cycle, spot or index gives another."""
    parts = json.dumps([run_seed, cycle, spot_id, index]).encode()
    return int.from_bytes(hashlib.sha256(parts).digest()[:8], "big")


def jittered(
    parameters: Model, *, seed: int, sigma: float = 0.05, fixed: Collection[str] = (), focus: str | None = None
) -> Model:
    """Return parameters near the given ones, checked by their model.

    A number moves by a normal deviate of `sigma` usual ranges and is clipped to its limits; integers are rounded; the
    three numbers of a location move by one deviate, each by its own range; a choice is switched with probability
    0.05. The parameter `focus` moves twice as far. What the label depends on stays, and so do the dotted paths in
    `fixed` with all below them. Raises ValueError for a negative sigma, and ScenarioParameterError if fixed values
    contradict each other.
    """
    if not sigma >= 0:
        raise ValueError("sigma must be at least 0")
    random = np.random.Generator(np.random.PCG64(seed))
    values = parameters.model_dump(mode="python", exclude_none=True)
    for place in places(parameters):
        drawn = random.standard_normal(), random.random(), random.random()  # as many draws whatever becomes of them
        if not _covered(place.name, fixed) and sigma > 0:
            factor = _FOCUS_FACTOR if _focused(place.name, focus) else 1.0
            _set(values, place.path, _moved(place, values, sigma * factor, drawn))
    _settle(parameters, values, fixed, "")
    return type(parameters).read(type(parameters).__name__, values)


def _moved(place: Place, values: dict[str, Any], sigma: float, drawn: tuple[float, float, float]) -> Any:
    deviate, switching, picking = drawn
    if place.kind == "choice":
        current = _get(values, place.path)
        others = [choice for choice in place.choices if choice != current]
        switched = others and switching < _SWITCHING_PROBABILITY
        return others[int(picking * len(others))] if switched else current
    moved = tuple(_near(number, sigma * deviate) for number in place.numbers)
    if place.kind == "location":
        return moved
    return round(moved[0]) if place.kind == "integer" else moved[0]


def _near(number: NumericParameter, deviates: float) -> float:
    return min(max(number.value + deviates * number.span, number.low), number.high)


def _settle(parameters: Parameters, values: dict[str, Any], fixed: Collection[str], above: str) -> None:
    for name, value in parameters:
        if isinstance(value, Parameters):
            _settle(value, values[name], fixed, f"{above}{name}.")
    kept = {name for name in type(parameters).model_fields if _covered(f"{above}{name}", fixed)}
    type(parameters).settle(values, kept)


def _covered(name: str, paths: Collection[str]) -> bool:
    return any(name == path or name.startswith(f"{path}.") for path in paths)


def _focused(name: str, focus: str | None) -> bool:
    return focus is not None and (_covered(name, [focus]) or focus.startswith(f"{name}."))


def _get(values: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        values = values[part]
    return values


def _set(values: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    """Put a value in its place; the tuples on the way become lists."""
    holder: Any = values
    for part, following in pairwise(path):
        if isinstance(following, int) and isinstance(holder[part], tuple):
            holder[part] = list(holder[part])
        holder = holder[part]
    holder[path[-1]] = value
