"""Moving one lever until a feature reads what was seen: monotone bisection on the forward response."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uqueue_worker.learning.crafting.families import Family
from uqueue_worker.learning.crafting.forward import Meter
from uqueue_worker.learning.crafting.lever_table import DISTANCES, Lever
from uqueue_worker.learning.crafting.levers import WeakFeature
from uqueue_worker.learning.crafting.placing import location_at, placed
from uqueue_worker.learning.errors import ScenarioParameterError
from uqueue_worker.learning.scenarios import numeric_parameters
from uqueue_worker.learning.scenarios.parameters import FamilyParameters

_TOLERANCE = 0.02  # of the value, or of a tenth of the lever's gain if that is more
_HALVINGS = 30


@dataclass(frozen=True)
class LeverSearch:
    """Looks for the place of a lever where a feature has the value wanted."""

    family: Family
    feature: WeakFeature
    meter: Meter
    angle: float

    def first(self, parameters: FamilyParameters, levers: Sequence[Lever]) -> tuple[FamilyParameters, Lever] | None:
        """Return what the first lever that reaches the value gives, None if none does."""
        for lever in levers:
            try:
                found = self._bisected(parameters, lever)
            except ScenarioParameterError:  # this kind of the family has no such parameter
                continue
            if found is not None:
                return found, lever
        return None

    def told(self, parameters: FamilyParameters, lever: Lever) -> dict[str, Any]:
        """Return what was wanted of the feature, what the parameters give, and what was moved for it."""
        return {
            "feature_path": self.feature.path,
            "wanted": self.feature.value,
            "reached": self._reading(parameters),
            "parameter": ".".join(lever.parameter),
        }

    def tolerance(self, lever: Lever) -> float:
        return _TOLERANCE * max(abs(self.feature.value), lever.gain / 10)

    def _bisected(self, parameters: FamilyParameters, lever: Lever) -> FamilyParameters | None:
        low, high = self._range(parameters, lever)
        wanted, tolerance = self.feature.value, self.tolerance(lever)
        at_low, at_high = (self._reading(self._at(parameters, lever, end)) for end in (low, high))
        if not (math.isfinite(at_low) and math.isfinite(at_high)) or at_low == at_high:
            return None
        if not min(at_low, at_high) - tolerance <= wanted <= max(at_low, at_high) + tolerance:
            return None
        place = self._guess(low, high, at_low, lever)
        for _ in range(_HALVINGS):
            found = self._at(parameters, lever, place)
            reached = self._reading(found)
            if abs(reached - wanted) <= tolerance:
                return found
            low, high = (place, high) if (reached < wanted) == (at_high > at_low) else (low, place)
            place = (low + high) / 2
        return None

    def _guess(self, low: float, high: float, at_low: float, lever: Lever) -> float:
        """Return where the value would be if the reading went straight over the range, by the lever's gain."""
        share = (self.feature.value - at_low) / (lever.direction * lever.gain)
        return low + (high - low) * share if 0.02 < share < 0.98 else (low + high) / 2

    def _range(self, parameters: FamilyParameters, lever: Lever) -> tuple[float, float]:
        if lever.is_distance:
            return DISTANCES
        name = ".".join(lever.parameter)
        numbers = numeric_parameters(parameters)
        if name not in numbers:
            numbers = numeric_parameters(placed(parameters, {lever.parameter: 0.0}))
        return numbers[name].usual_low, numbers[name].usual_high

    def _at(self, parameters: FamilyParameters, lever: Lever, place: float) -> FamilyParameters:
        if not lever.is_distance:
            return placed(parameters, {lever.parameter: place})
        height = numeric_parameters(parameters).get(f"{'.'.join(lever.parameter)}.2")
        return placed(parameters, {lever.parameter: location_at(place, self.angle, height.value if height else 0.5)})

    def _reading(self, parameters: FamilyParameters) -> float:
        return float(self.meter.response(self.family, parameters, [self.feature.path])[0])
