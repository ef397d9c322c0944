"""From definitions to versions: numbers, hashes and what the history is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.repository.backend import Backend
from uqueue_worker.learning.repository.content import behaviour_of, content_hash
from uqueue_worker.learning.repository.identity import key_of
from uqueue_worker.learning.repository.naming import usable_id
from uqueue_worker.learning.repository.stored import Change, StoredScenario


@dataclass(frozen=True)
class Writer:
    """Writes versions in one transaction, on behalf of somebody; ids of new scenarios are added to `inserted`."""

    backend: Backend
    changed_by: str | None = None
    inserted: list[str] | None = None

    def insert(self, definition: ScenarioDefinition, reason: str, **told: Any) -> StoredScenario:
        """Store a definition that is not there yet, as version 1; `told` are fields of StoredScenario."""
        first = definition.replace(version=1, scenario_definition_id=usable_id(definition.scenario_definition_id))
        key = key_of(first.scenario_definition_id)
        assert key is not None  # noqa: S101 - usable_id has just refused what is no id
        stored = StoredScenario(key, first, content_hash(first), behaviour_of(first), **told)
        change = Change("insert", reason, stored.weak_spot_ids)
        if self.inserted is not None:
            self.inserted.append(first.scenario_definition_id)
        return self.backend.put(replace(stored, updated_by=self.changed_by), change)

    def replace(
        self,
        current: StoredScenario,
        wanted: ScenarioDefinition,
        change: Change,
        *,
        always: bool = False,
        revive: bool = True,
    ) -> StoredScenario:
        """Store new content as the next version; content that is there already makes none, unless that revives it."""
        archived = None if revive else current.archived_at
        if not always and current.content_hash == content_hash(wanted) and archived == current.archived_at:
            return current
        changed = replace(
            current,
            definition=wanted,
            content_hash=content_hash(wanted),
            behaviour_hash=behaviour_of(wanted),
            archived_at=archived,
        )
        return self.put(changed, current, change)

    def put(self, changed: StoredScenario, current: StoredScenario, change: Change) -> StoredScenario:
        """Store a changed scenario as the version after the current one, whose id and age it keeps."""
        before = current.definition
        definition = changed.definition.replace(
            scenario_definition_id=before.scenario_definition_id,
            version=before.version + 1,
            creation_timestamp_utc=before.creation_timestamp_utc,
        )
        return self.backend.put(replace(changed, definition=definition, updated_by=self.changed_by), change)
