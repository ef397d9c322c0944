"""The crafter: strategies tried in order until one has a valid draft."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import structlog

from uqueue_worker.learning.crafting.context import CraftingContext, CraftingLimits, CraftingStrategy
from uqueue_worker.learning.crafting.drafts import Crafted, Draft, RepositoryView
from uqueue_worker.learning.crafting.families import ClassFamilies
from uqueue_worker.learning.crafting.forward import ForwardModel
from uqueue_worker.learning.crafting.strategies import CRAFTERS, DEFAULT_ORDER, make_crafters
from uqueue_worker.learning.errors import CircuitOpen, RepositoryUnavailable, ScenarioInvalid
from uqueue_worker.learning.observability.metrics import metrics
from uqueue_worker.learning.scenarios import behaviour_hash
from uqueue_worker.learning.scenarios.base import BaseScenario

_log = structlog.get_logger("uqueue.learning.crafting")


class ScenarioCrafter:
    """order     names of crafting strategies, or strategies
    families  which family makes samples of a class
    seed      begins every random stream; the same seed, spot and stored scenarios give the same scenarios

    `outcomes` counts what became of drafts, by (strategy, outcome): created, failed, invalid or duplicate. All but the
    first count as failed tries in the figure alm_scenarios_created_total; who stores a scenario counts that.
    """

    def __init__(
        self,
        order: Sequence[str | CraftingStrategy] = DEFAULT_ORDER,
        families: ClassFamilies | None = None,
        forward: ForwardModel | None = None,
        limits: CraftingLimits | None = None,
        seed: int = 0,
    ) -> None:
        self.strategies = make_crafters(order)
        self.families = families or ClassFamilies()
        self.seed = seed
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._forward = forward or ForwardModel()
        self._limits = limits or CraftingLimits()

    @property
    def known(self) -> tuple[str, ...]:
        """The names that `in_order` takes: those of strategies that are registered, and of its own."""
        return tuple(dict.fromkeys([*CRAFTERS, *(one.name for one in self.strategies)]))

    def in_order(self, order: Sequence[str], seed: int) -> Self:
        """Return this crafter with other strategies, or another order of them, and another seed; both count their
        outcomes together. Raises ValueError for a name that is not known.
        """
        own = {one.name: one for one in self.strategies}
        view = copy.copy(self)
        view.strategies = make_crafters([own.get(name, name) for name in order])
        view.seed = seed
        return view

    def __call__(
        self,
        *,
        features_summary: Mapping[str, Any],
        base_id: str,
        target_class: str | None = None,
        sensor_type: str | None = None,
        repository: RepositoryView | None = None,
    ) -> Crafted | None:
        """Return the first valid draft, None where no strategy has one. Raises RepositoryUnavailable, CircuitOpen."""
        context = self.context(features_summary, base_id, target_class, sensor_type, repository)
        return next(iter(self.craft(context)), None)

    def context(
        self,
        features_summary: Mapping[str, Any],
        base_id: str,
        target_class: str | None = None,
        sensor_type: str | None = None,
        repository: RepositoryView | None = None,
        spot: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> CraftingContext:
        """Return what the strategies are told; `seed` is this crafter's unless given."""
        return CraftingContext(
            features_summary=features_summary,
            base_id=base_id,
            target_class=target_class,
            sensor_type=sensor_type,
            repository=repository,
            spot=spot,
            seed=self.seed if seed is None else seed,
            families=self.families,
            forward=self._forward,
            limits=self._limits,
        )

    def craft(self, context: CraftingContext, n: int = 1) -> list[Crafted]:
        """Return up to `n` scenarios of the first strategy that has a valid one, all of different behaviour.

        Raises RepositoryUnavailable and CircuitOpen; whatever else a strategy raises is logged, counted, and the next
        one is tried.
        """
        for strategy in self.strategies:
            found = self._tried(strategy, context, n)
            if found:
                return found
        return []

    def _tried(self, strategy: CraftingStrategy, context: CraftingContext, n: int) -> list[Crafted]:
        try:
            drafts = strategy.craft(context, n) if strategy.supports(context) > 0 else ()
            return self._checked(strategy, drafts, context)[:n]
        except (RepositoryUnavailable, CircuitOpen):
            raise
        except Exception as error:  # strategies are code that others may register
            self._count(strategy, "failed", context, str(error))
            return []

    def _checked(self, strategy: CraftingStrategy, drafts: Sequence[Draft], context: CraftingContext) -> list[Crafted]:
        known = {behaviour_hash(scenario.to_definition()) for _, scenario in context.runnable}
        found: list[Crafted] = []
        for draft in drafts:
            try:
                crafted = _crafted(strategy, draft)
            except Exception as error:
                self._count(strategy, "invalid", context, str(error))
                continue
            if crafted.behaviour_hash in known:
                self._count(strategy, "duplicate", context, "such a scenario is stored already")
                continue
            known.add(crafted.behaviour_hash)
            self._count(strategy, "created", context)
            found.append(crafted)
        return found

    def _count(self, strategy: CraftingStrategy, outcome: str, context: CraftingContext, reason: str = "") -> None:
        self.outcomes[strategy.name, outcome] += 1
        if outcome != "created":
            metrics().scenarios_created.labels(strategy.name, "failed").inc()
            told = {"strategy": strategy.name, "outcome": outcome, "scenario_id": context.base_id}
            _log.warning("crafting gave no scenario", **told, reason=reason[:500])


def _crafted(strategy: CraftingStrategy, draft: Draft) -> Crafted:
    """Return a draft as the scenario that runs writes itself. Raises as building it does."""
    scenario = BaseScenario.from_scenario_definition_dict(draft.definition)
    if problems := scenario.validate():
        raise ScenarioInvalid(reason="; ".join(problems))
    told = scenario.to_scenario_definition_dict()
    changes = {name: told[name] for name in ("specific_params_json", "expected_duration_seconds")}
    definition = draft.definition.replace(**changes)
    return Crafted(
        definition, strategy.name, strategy.version, draft.rationale, draft.expected_effect, behaviour_hash(definition)
    )
