"""Crafting without a guess: a Sobol draw from the deployment ranges of the family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from uqueue_worker.learning.crafting.context import CraftingContext, CraftingStrategy
from uqueue_worker.learning.crafting.drafting import draft
from uqueue_worker.learning.crafting.drafts import Draft
from uqueue_worker.learning.crafting.space import ParameterSpace, Ranges
from uqueue_worker.learning.errors import CraftingFailed


class ExploreCrafter(CraftingStrategy):
    """`ranges` gives the deployment ranges of families by their names; the usual ranges of their parameters serve
    otherwise. One call's drafts are spread evenly; another seed or spot gives others."""

    name = "explore"

    def __init__(self, ranges: Mapping[str, Ranges] | None = None) -> None:
        self._ranges = dict(ranges or {})

    def supports(self, context: CraftingContext) -> float:
        return 0.1 if context.family is not None else 0.0

    def craft(self, context: CraftingContext, n: int) -> Sequence[Draft]:
        from scipy.stats import qmc

        family = context.family
        if family is None:
            raise CraftingFailed(weakness_id=context.base_id, reason="no family for this class or type of sensor")
        space = ParameterSpace.of(context.ordinary(family), self._ranges.get(family.__name__), choices=True)
        sobol = qmc.Sobol(space.axes, scramble=True, rng=context.random("explore"))
        points = sobol.random_base2(math.ceil(math.log2(max(n, 1))))[:n]
        said = f"a draw from the deployment ranges of {family.__name__}"
        return [draft(context, family, space.parameters(point), i, said, {}) for i, point in enumerate(points)]
