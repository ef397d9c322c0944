"""What crafting gives: a definition, with why it was made and what it should do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from uqueue_config.learning.scenario import ScenarioDefinition


class RepositoryView(Protocol):
    """What crafting reads of a repository. It stores nothing."""

    def get_scenario_by_id(self, scenario_id: str) -> ScenarioDefinition | None: ...

    def get_scenarios_by_class_label(
        self, class_label: str, sensor_type: str | None = None, num_to_get: int = 5
    ) -> Sequence[ScenarioDefinition]: ...


@dataclass(frozen=True)
class Draft:
    """One proposal of a crafting strategy, not checked yet; `expected_effect` is JSON-able."""

    definition: ScenarioDefinition
    rationale: str
    expected_effect: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Crafted:
    """A checked draft, with the strategy that made it. The definition is not stored yet."""

    definition: ScenarioDefinition
    crafter: str
    crafter_version: str
    rationale: str
    expected_effect: dict[str, Any]
    behaviour_hash: str

    @property
    def origin(self) -> dict[str, Any]:
        """What belongs into the `origin` of the stored scenario."""
        return {
            "crafter": self.crafter,
            "crafter_version": self.crafter_version,
            "rationale": self.rationale,
            "expected_effect": self.expected_effect,
        }


class FeatureCrafter(Protocol):
    """What a repository's `craft_scenario_from_features` delegates to before it stores the result."""

    def __call__(
        self,
        *,
        features_summary: Mapping[str, Any],
        base_id: str,
        target_class: str | None = None,
        sensor_type: str | None = None,
        repository: RepositoryView | None = None,
    ) -> Crafted | None:
        """Return a new definition with the id `base_id`, or None where no strategy has one."""
        ...
