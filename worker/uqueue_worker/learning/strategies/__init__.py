"""Prioritization strategies: feedback in, ranked weak spots out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_worker.learning.interfaces import PrioritizationStrategyInterface
from uqueue_worker.learning.strategies.heterogeneous import HeterogeneousStrategy
from uqueue_worker.learning.strategies.high_fidelity import HighFidelityStrategy
from uqueue_worker.learning.strategies.real_time import RealTimeStrategy
from uqueue_worker.learning.strategies.region import RegionDiversifiedStrategy
from uqueue_worker.learning.strategies.region_box import same_region

#: By the names of the setting `UQUEUE_LEARNING_STRATEGY`.
STRATEGIES: Mapping[str, type[PrioritizationStrategyInterface]] = {
    "region": RegionDiversifiedStrategy,
    "real_time": RealTimeStrategy,
    "high_fidelity": HighFidelityStrategy,
    "heterogeneous": HeterogeneousStrategy,
}


def make_strategy(name: str, **parameters: Any) -> PrioritizationStrategyInterface:
    """Return a strategy by name. Raises ValueError for an unknown one and for parameters out of range."""
    if name not in STRATEGIES:
        raise ValueError(f"no strategy is called {name!r}; there are {', '.join(STRATEGIES)}")
    return STRATEGIES[name](**parameters)


__all__ = [
    "STRATEGIES",
    "HeterogeneousStrategy",
    "HighFidelityStrategy",
    "RealTimeStrategy",
    "RegionDiversifiedStrategy",
    "make_strategy",
    "same_region",
]
