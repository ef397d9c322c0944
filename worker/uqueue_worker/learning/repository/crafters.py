"""What a repository asks of whoever crafts scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from uqueue_config.learning.scenario import ScenarioDefinition


class CraftedScenario(Protocol):
    """A new definition, not stored yet, and what its origin says: crafter, crafter_version, …"""

    @property
    def definition(self) -> ScenarioDefinition: ...

    @property
    def origin(self) -> dict[str, Any]: ...


class FeatureCrafter(Protocol):
    """Makes definitions aimed at features."""

    def __call__(
        self,
        *,
        features_summary: Mapping[str, Any],
        base_id: str,
        target_class: str | None = None,
        sensor_type: str | None = None,
        repository: Any = None,
    ) -> CraftedScenario | None:
        """Return a definition with the id `base_id`, or None; `repository` is there to be read."""
        ...
