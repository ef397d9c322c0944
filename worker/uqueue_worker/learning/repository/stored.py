"""A scenario as a repository keeps it, and the changes that its history tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from uqueue_config.learning.scenario import ScenarioDefinition

Operation = Literal["insert", "update", "archive", "restore"]


@dataclass(frozen=True)
class StoredScenario:
    """The latest version of a scenario, with what is known of it beyond its definition.

    key            what rows refer to; the definition's id is this UUID or an external id
    parent         key of the scenario that this one is a variation of
    origin         JSON-able: run, cycle, seed, crafter, crafter_version, focus_feature, focus_value, draft, …
    weak_spot_ids  weak spots that it was made for
    updated_at     set by the store; None before it is stored
    """

    key: UUID
    definition: ScenarioDefinition
    content_hash: str
    behaviour_hash: str
    parent: UUID | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    weak_spot_ids: tuple[str, ...] = ()
    updated_at: datetime | None = None
    updated_by: str | None = None
    archived_at: datetime | None = None

    @property
    def draft(self) -> bool:
        """Whether a person must approve it before it is offered to others."""
        return self.origin.get("draft") is True

    def snapshot(self) -> dict[str, Any]:
        """Return what the history keeps of this version; `definition` holds its fields, parameters as JSON text."""
        return {
            "definition": self.definition.to_record(),
            "parent_scenario_id": None if self.parent is None else str(self.parent),
            "origin": dict(self.origin),
            "originating_weak_spot_ids": list(self.weak_spot_ids),
            "archived": self.archived_at is not None,
        }


@dataclass(frozen=True)
class Change:
    """What happened to a scenario, and why."""

    operation: Operation
    reason: str | None = None
    weak_spot_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class CraftingRun:
    """On whose behalf scenarios are made. It seeds what is random and goes to their origin.

    seed, cycle, index  of the run, its cycle and the variation: other numbers give another variation of a scenario
    jitter_sigma        spread of a variation, as a share of each parameter's range
    draft               what is made waits for approval: `promote` offers it to others, `archive` takes it back
    """

    run_id: str | None = None
    cycle: int | None = None
    seed: int = 0
    index: int = 0
    jitter_sigma: float = 0.05
    draft: bool = False

    @property
    def origin(self) -> dict[str, Any]:
        """What of this goes to the origin of a scenario."""
        seed = None if self.run_id is None else self.seed
        told = {"run": self.run_id, "cycle": self.cycle, "seed": seed, "draft": self.draft or None}
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True)
class ScenarioPage:
    """A part of what a search found; `cursor` asks for the next one, and is None on the last.

    ranked_all  False if a query matched more than are ranked: the latest 1,000 matches (fewer if it has more than eight
                terms) come first, the best of them first, and then all others, the latest update first
    """

    scenarios: tuple[ScenarioDefinition, ...] = ()
    cursor: str | None = None
    ranked_all: bool = True
