"""The crafting strategies by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from uqueue_worker.learning.crafting.context import CraftingStrategy
from uqueue_worker.learning.crafting.explore import ExploreCrafter
from uqueue_worker.learning.crafting.optimise import OptimiseCrafter
from uqueue_worker.learning.crafting.rule import RuleCrafter
from uqueue_worker.learning.crafting.template import TemplateCrafter

_CRAFTERS: dict[str, type[CraftingStrategy]] = {}
CRAFTERS: Mapping[str, type[CraftingStrategy]] = MappingProxyType(_CRAFTERS)
DEFAULT_ORDER = ("template", "rule", "optimise", "explore")


def register_crafter(strategy: type[CraftingStrategy]) -> type[CraftingStrategy]:
    """Make a strategy known by its name; a decorator. Raises ValueError for a name that is taken."""
    if _CRAFTERS.setdefault(strategy.name, strategy) is not strategy:
        raise ValueError(f"another crafting strategy is registered as {strategy.name!r}")
    return strategy


def make_crafters(order: Sequence[str | CraftingStrategy]) -> tuple[CraftingStrategy, ...]:
    """Return strategies in order; names become strategies with their defaults. Raises ValueError for an unknown one."""
    return tuple(one if isinstance(one, CraftingStrategy) else _named(one) for one in order)


def _named(name: str) -> CraftingStrategy:
    if name not in _CRAFTERS:
        raise ValueError(f"no crafting strategy is called {name!r}; there are {', '.join(_CRAFTERS)}")
    return _CRAFTERS[name]()


for _strategy in (TemplateCrafter, RuleCrafter, OptimiseCrafter, ExploreCrafter):
    register_crafter(_strategy)
