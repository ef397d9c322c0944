"""Which scenario families can run: an allow-list of (module, class name) pairs, filled by code and never by data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import TypeVar

from uqueue_worker.learning.errors import UnknownScenarioClass
from uqueue_worker.learning.scenarios.base import BaseScenario

#: Installed distributions may offer families of their own under this group of entry points.
ENTRY_POINTS = "uqueue.scenario_families"
Family = TypeVar("Family", bound=type[BaseScenario])


class ScenarioRegistry:
    """Families by the pair that scenario definitions name them with."""

    def __init__(self) -> None:
        self._families: dict[tuple[str, str], type[BaseScenario]] = {}

    def register(self, family: Family) -> Family:
        """Put a family on the list under its module and class name; a decorator. Raises ValueError for a taken pair."""
        pair = (family.__module__, family.__name__)
        if self._families.setdefault(pair, family) is not family:
            raise ValueError(f"another scenario family is registered as {pair[0]}.{pair[1]}")
        return family

    def load_entry_points(self) -> None:
        """Register the families that installed distributions offer. Call it at start; it imports their code."""
        for point in entry_points(group=ENTRY_POINTS):
            self.register(point.load())

    def find(self, module: str, name: str) -> type[BaseScenario]:
        """Return the family of that pair. Raises UnknownScenarioClass; nothing is imported."""
        family = self._families.get((module, name))
        if family is None:
            raise UnknownScenarioClass(module=module[:200], name=name[:200])
        return family

    def named(self, name: str) -> type[BaseScenario]:
        """Return the one family of that class name. Raises UnknownScenarioClass if there is none, or more than one."""
        found = [family for family in self if family.__name__ == name]
        if len(found) != 1:
            raise UnknownScenarioClass(module="*", name=name[:200])
        return found[0]

    def __iter__(self) -> Iterator[type[BaseScenario]]:
        return iter(self._families.values())


#: The families that come with uqueue, and those that a program registers at its start.
REGISTRY = ScenarioRegistry()
register: Callable[[Family], Family] = REGISTRY.register
