"""The parameters of a family as points of a unit cube: their deployment ranges, and distances for locations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.learning.crafting.lever_table import DISTANCES
from uqueue_worker.learning.crafting.placing import Path, location_at, placed
from uqueue_worker.learning.scenarios.parameters import FamilyParameters
from uqueue_worker.learning.scenarios.ranges import Place, places

FloatArray = NDArray[np.float64]
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class ParameterSpace:
    """What varies around `base`. A location takes three axes: distance, direction and height.

    `ranges` replaces the usual ranges of parameters, by dotted path; that of a location is one of distances.
    """

    base: FamilyParameters
    varied: tuple[Place, ...]
    ranges: Ranges

    @classmethod
    def of(cls, base: FamilyParameters, ranges: Ranges | None = None, choices: bool = False) -> ParameterSpace:
        """Return the space of all that can vary; choices only if asked for."""
        varied = tuple(place for place in places(base) if choices or place.kind != "choice")
        return cls(base, varied, dict(ranges or {}))

    @property
    def axes(self) -> int:
        return sum(_axes(place) for place in self.varied)

    def parameters(self, point: Sequence[float] | FloatArray) -> FamilyParameters:
        """Return the parameters at a point of the unit cube. Raises ScenarioParameterError."""
        changes: dict[Path, Any] = {}
        taken = 0
        for place in self.varied:
            count = _axes(place)
            shares = [float(share) for share in point[taken : taken + count]]
            changes[tuple(map(str, place.path))] = self._value(place, shares)
            taken += count
        return placed(self.base, changes)

    def _value(self, place: Place, shares: list[float]) -> Any:
        if place.kind == "choice":
            return place.choices[min(int(shares[0] * len(place.choices)), len(place.choices) - 1)]
        if place.kind == "location":
            low, high = self.ranges.get(place.name, DISTANCES)
            up = place.numbers[2]
            return location_at(
                low + (high - low) * shares[0],
                math.pi * (2 * shares[1] - 1),
                up.usual_low + up.span * shares[2],
            )
        number = place.numbers[0]
        low, high = self.ranges.get(place.name, (number.usual_low, number.usual_high))
        value = min(max(low + (high - low) * shares[0], number.low), number.high)
        return round(value) if place.kind == "integer" else value


def _axes(place: Place) -> int:
    return 3 if place.kind == "location" else 1
