"""Crafting by inverse design: parameters under which the simulator gives the features that were weak.

The distance is the root mean square over the features, each in standard deviations (half the distance between the 16th
and the 84th percentile) of the 64 random scenarios that the search starts from. The best of them are refined by least
squares within the ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.learning.crafting.context import CraftingContext, CraftingStrategy
from uqueue_worker.learning.crafting.drafting import draft
from uqueue_worker.learning.crafting.drafts import Draft
from uqueue_worker.learning.crafting.families import Family
from uqueue_worker.learning.crafting.forward import FloatArray, Meter, SimulatorSpent
from uqueue_worker.learning.crafting.levers import WeakFeature
from uqueue_worker.learning.crafting.space import ParameterSpace
from uqueue_worker.learning.errors import CraftingFailed
from uqueue_worker.learning.scenarios.parameters import FamilyParameters

_STARTS = 64
_FEATURES = 5
_STEP = 0.01  # of a range, for slopes: readings are float32
_GAIN = 1e-3  # what a further step must be worth


class OptimiseCrafter(CraftingStrategy):
    """At most five features, at most 200 calls of the simulator, and none after the deadline."""

    name = "optimise"

    def supports(self, context: CraftingContext) -> float:
        return 0.5 if context.family is not None and context.features else 0.0

    def craft(self, context: CraftingContext, n: int) -> Sequence[Draft]:
        family = context.family
        if family is None or not context.features:
            raise CraftingFailed(weakness_id=context.base_id, reason="no family, or no feature with a number")
        space = ParameterSpace.of(context.ordinary(family))
        search = _Search(family, space, context.features[:_FEATURES], context.meter())
        search.start(context.random("optimise"))
        search.refine(n, context.limits.max_residual)
        found = search.diverse(n, context.limits.max_residual)
        if not found:
            raise CraftingFailed(weakness_id=context.base_id, reason=search.shortfall())
        return [self._draft(context, family, search, place, index) for index, place in enumerate(found)]

    def _draft(self, context: CraftingContext, family: Family, search: _Search, place: int, index: int) -> Draft:
        residual = float(search.residuals[place])
        effect: dict[str, Any] = {"residual": residual, "features": search.told(place)}
        said = f"the simulator gives the weak features to {residual:.2g} standard deviations"
        return draft(context, family, search.parameters(place), index, said, effect)


@dataclass
class _Search:
    """Every point that was simulated, and what it gave."""

    family: Family
    space: ParameterSpace
    features: Sequence[WeakFeature]
    meter: Meter
    points: list[FloatArray] = field(default_factory=list)
    readings: list[FloatArray] = field(default_factory=list)
    scale: FloatArray = field(default_factory=lambda: np.zeros(0))
    known: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @property
    def wanted(self) -> FloatArray:
        return np.array([one.value for one in self.features])

    @property
    def residuals(self) -> FloatArray:
        """Return the distance of each point, over the features that the simulator gives; infinity without any."""
        if not self.points:
            return np.zeros(0)
        apart = ((np.array(self.readings) - self.wanted) / self.scale)[:, self.known]
        return np.sqrt(np.mean(apart**2, axis=1)) if self.known.any() else np.full(len(apart), np.inf)

    def start(self, random: np.random.Generator) -> None:
        """Simulate the random starts and take the scale from them."""
        try:
            for point in random.random((_STARTS, self.space.axes)):
                self._simulate(point)
        except SimulatorSpent:
            pass
        if self.points:
            readings = np.array(self.readings)
            self.known = np.isfinite(readings).all(axis=0)
            low, high = np.quantile(readings, (0.16, 0.84), axis=0)
            self.scale = np.maximum((high - low) / 2, 1e-3 * np.maximum(np.abs(self.wanted), 1e-3))

    def refine(self, n: int, enough: float) -> None:
        """Go on from the best start, then from others until there are `n` solutions or no calls are left."""
        from scipy.optimize import least_squares

        best = np.argsort(self.residuals, kind="stable")[: max(2 * n, 4)] if self.known.any() else ()
        for tries, place in enumerate(best):
            if tries > 0 and len(self.diverse(n, enough)) >= n:
                return
            try:
                least_squares(self._standardised, self.points[place], self._slopes, (0, 1), ftol=_GAIN, xtol=_GAIN)
            except SimulatorSpent:
                return

    def diverse(self, n: int, limit: float) -> list[int]:
        """Return up to `n` points within the limit: the best, then each time the one farthest from those taken."""
        residuals = self.residuals
        good = [int(place) for place in np.argsort(residuals, kind="stable") if residuals[place] <= limit]
        taken = good[:1]
        while len(taken) < min(n, len(good)):
            rest = [place for place in good if place not in taken]
            nearest = [min(self._apart(place, other) for other in taken) for place in rest]
            taken.append(rest[int(np.argmax(nearest))])
        return taken

    def shortfall(self) -> str:
        """Return why no point is good enough."""
        if not self.points:
            return "there was no time for a single simulation"
        if not self.known.any():
            return "the simulator gives none of the features"
        return f"the nearest scenario is {self.residuals.min():.3g} standard deviations away, more than the limit"

    def parameters(self, place: int) -> FamilyParameters:
        return self.space.parameters(self.points[place])

    def told(self, place: int) -> list[dict[str, Any]]:
        reached = self.readings[place].tolist()
        return [
            {"feature_path": one.path, "wanted": one.value, "reached": value}
            for one, value, known in zip(self.features, reached, self.known, strict=True)
            if known
        ]

    def _apart(self, one: int, other: int) -> float:
        return float(np.linalg.norm(self.points[one] - self.points[other]))

    def _standardised(self, point: FloatArray) -> FloatArray:
        return ((self._simulate(point) - self.wanted) / self.scale)[self.known]

    def _slopes(self, point: FloatArray) -> FloatArray:
        """Return the derivative of each feature by each axis, (features, axes), by differences that stay inside."""
        here = self._standardised(point)
        steps = np.where(point < 0.5, _STEP, -_STEP)
        moved = [self._standardised(point + step) for step in np.diag(steps)]
        return np.array([(there - here) / step for there, step in zip(moved, steps, strict=True)]).T

    def _simulate(self, point: FloatArray) -> FloatArray:
        paths = [one.path for one in self.features]
        found = self.meter.response(self.family, self.space.parameters(point), paths)
        self.points.append(np.array(point, dtype=np.float64))
        self.readings.append(found)
        return found
