"""Crafting from what is stored: the nearest scenarios of the target class, jittered inside the region."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.crafting.context import CraftingContext, CraftingStrategy
from uqueue_worker.learning.crafting.drafting import draft
from uqueue_worker.learning.crafting.drafts import Draft
from uqueue_worker.learning.crafting.forward import FloatArray, SimulatorSpent
from uqueue_worker.learning.crafting.placing import number_paths, placed
from uqueue_worker.learning.errors import CraftingFailed
from uqueue_worker.learning.scenarios import FamilyScenario, NumericParameter, jittered, numeric_parameters
from uqueue_worker.learning.scenarios.parameters import FamilyParameters

_INDEX = re.compile(r"\[(\d+)\]")
Numbers = Mapping[str, NumericParameter]
Stored = tuple[ScenarioDefinition, FamilyScenario]


class TemplateCrafter(CraftingStrategy):
    """Near means: few usual ranges away from the spot's region, or from the parameters of its sample; where neither
    is known, readings near the weak features; where there are no features either, the latest."""

    name = "template"

    def supports(self, context: CraftingContext) -> float:
        return 1.0 if context.runnable else 0.0

    def craft(self, context: CraftingContext, n: int) -> Sequence[Draft]:
        bases = context.runnable
        if not bases:
            raise CraftingFailed(weakness_id=context.base_id, reason="no stored scenario of this class can run here")
        nearest = _nearest(context, bases)
        return [self._one(context, *nearest[index % len(nearest)], index) for index in range(n)]

    def _one(self, context: CraftingContext, base: ScenarioDefinition, scenario: FamilyScenario, index: int) -> Draft:
        seed = context.stream("template", index)
        varied = jittered(scenario.parameters, seed=seed, sigma=context.limits.sigma)
        inside = _inside(varied, _box(context))
        base_id = base.scenario_definition_id
        return draft(
            context,
            type(scenario),
            inside,
            index,
            f"a variation of {base_id}, the nearest stored scenario of its class",
            {"template": base_id},
            class_label=context.target_class,
            related=(base_id,),
        )


def _nearest(context: CraftingContext, bases: Sequence[Stored]) -> list[Stored]:
    box, place = _box(context), _position(context)
    if box:
        distances = [_outside(numeric_parameters(one.parameters), box) for _, one in bases]
    elif place:
        at = {name: (value, value) for name, value in place.items()}
        distances = [_outside(numeric_parameters(one.parameters), at) for _, one in bases]
    else:
        distances = _apart(context, bases).tolist()
    order = sorted(range(len(bases)), key=lambda index: distances[index])
    return [bases[index] for index in order]


def _outside(numbers: Numbers, box: Mapping[str, tuple[float, float]]) -> float:
    """Return how many usual ranges parameters are away from a box; one for each that they lack."""
    squares = 0.0
    for name, (low, high) in box.items():
        number = numbers.get(name)
        away = 1.0 if number is None else max(low - number.value, number.value - high, 0.0) / number.span
        squares += away**2
    return math.sqrt(squares)


def _apart(context: CraftingContext, bases: Sequence[Stored]) -> FloatArray:
    """Return how far the readings of each base are from the weak features, in deviations among the bases."""
    paths = [one.path for one in context.features]
    meter, found = context.meter(), []
    try:
        for _, scenario in bases if paths else ():
            found.append(meter.response(type(scenario), scenario.parameters, paths))
    except SimulatorSpent:
        pass
    distances = np.full(len(bases), np.inf)
    if found:
        readings = np.array(found)
        wanted = np.array([one.value for one in context.features])
        scale = np.maximum(readings.std(axis=0), 1e-3 * np.maximum(np.abs(wanted), 1e-3))
        distances[: len(found)] = np.nan_to_num(np.sqrt((((readings - wanted) / scale) ** 2).mean(axis=1)), nan=np.inf)
    return distances


def _inside(parameters: FamilyParameters, box: Mapping[str, tuple[float, float]]) -> FamilyParameters:
    numbers, paths = numeric_parameters(parameters), number_paths(parameters)
    changes: dict[tuple[str, ...], Any] = {}
    for name, (low, high) in box.items():
        if name in numbers and not low <= numbers[name].value <= high:
            changes[paths[name]] = min(max(numbers[name].value, low), high)
    return placed(parameters, changes) if changes else parameters


def _box(context: CraftingContext) -> dict[str, tuple[float, float]]:
    """Return the region of the spot by the names that parameters have here: `location.0` for `location[0]`."""
    region = ((context.spot or {}).get("details") or {}).get("region") or {}
    return {
        _INDEX.sub(r".\1", name): (float(bounds["min"]), float(bounds["max"]))
        for name, bounds in region.items()
        if isinstance(bounds, Mapping) and {"min", "max"} <= bounds.keys()
    }


def _position(context: CraftingContext) -> dict[str, float]:
    told = ((context.spot or {}).get("details") or {}).get("medoid_position") or {}
    return {_INDEX.sub(r".\1", name): float(value) for name, value in told.items()}
