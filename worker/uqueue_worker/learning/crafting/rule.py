"""Crafting by rule: a lever for each weak feature, moved until the forward response is the value that was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uqueue_worker.learning.crafting.context import CraftingContext, CraftingStrategy
from uqueue_worker.learning.crafting.drafting import draft
from uqueue_worker.learning.crafting.drafts import Draft
from uqueue_worker.learning.crafting.families import Family
from uqueue_worker.learning.crafting.forward import Meter, SimulatorSpent
from uqueue_worker.learning.crafting.lever_search import LeverSearch
from uqueue_worker.learning.crafting.lever_table import Lever
from uqueue_worker.learning.crafting.levers import levers_of
from uqueue_worker.learning.errors import CraftingFailed
from uqueue_worker.learning.scenarios import jittered
from uqueue_worker.learning.scenarios.parameters import FamilyParameters

_FEATURES = 2


class RuleCrafter(CraftingStrategy):
    """The family is that of the target class, or else of the type of sensor. Its ordinary parameters are jittered,
    then up to two features are met by the first lever of the table that reaches them."""

    name = "rule"

    def supports(self, context: CraftingContext) -> float:
        family = context.family
        if family is None or not any(levers_of(one.path, family) for one in context.features):
            return 0.0
        return 1.0 if context.class_family is not None else 0.6

    def craft(self, context: CraftingContext, n: int) -> Sequence[Draft]:
        family = context.family
        if family is None:
            raise CraftingFailed(weakness_id=context.base_id, reason="no family for this class or type of sensor")
        meter, found = context.meter(), []
        try:
            for index in range(n):
                found.append(self._one(context, family, meter, index))
        except CraftingFailed:
            if not found:
                raise
        except SimulatorSpent:
            if not found:
                raise CraftingFailed(weakness_id=context.base_id, reason="the simulator's calls are used up") from None
        return found

    def _one(self, context: CraftingContext, family: Family, meter: Meter, index: int) -> Draft:
        parameters = jittered(context.ordinary(family), seed=context.stream("rule", index), sigma=context.limits.sigma)
        angle = float(context.random("rule-angle", index).uniform(-math.pi, math.pi))
        features = [one for one in context.features if levers_of(one.path, family)][:_FEATURES]
        searches = [LeverSearch(family, feature, meter, angle) for feature in features]
        chosen: dict[str, Lever] = {}
        for search in searches:
            taken = {lever.parameter for lever in chosen.values()}
            free = [lever for lever in levers_of(search.feature.path, family) if lever.parameter not in taken]
            solved = search.first(parameters, free)
            if solved is not None:
                parameters, chosen[search.feature.path] = solved
        met = [search for search in searches if search.feature.path in chosen]
        if not met:
            raise CraftingFailed(weakness_id=context.base_id, reason="no parameter reaches the values that were seen")
        for search in met[1:] and met[:1]:  # the later levers may have moved the most important feature
            solved = search.first(parameters, [chosen[search.feature.path]])
            parameters = parameters if solved is None else solved[0]
        return self._draft(context, family, parameters, index, [(one, chosen[one.feature.path]) for one in met])

    def _draft(
        self,
        context: CraftingContext,
        family: Family,
        parameters: FamilyParameters,
        index: int,
        met: Sequence[tuple[LeverSearch, Lever]],
    ) -> Draft:
        told = [search.told(parameters, lever) for search, lever in met]
        first = told[0]
        if abs(first["reached"] - first["wanted"]) > met[0][0].tolerance(met[0][1]):
            raise CraftingFailed(weakness_id=context.base_id, reason="its features cannot be met together")
        words = [f"{one['parameter']} moved until {one['feature_path']} is {one['wanted']:g}" for one in told]
        return draft(context, family, parameters, index, "; ".join(words), {"features": told})
