"""Between rows of the database and scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from uqueue_config.learning.scenario import ScenarioDefinition, parameters_text
from uqueue_worker.learning.repository.content import content_hash
from uqueue_worker.learning.repository.identity import is_key
from uqueue_worker.learning.repository.stored import StoredScenario

#: What is written of a scenario; `updated_at` and the search vector are the database's.
WRITTEN: tuple[LiteralString, ...] = (
    "scenario_id",
    "scenario_class_module",
    "scenario_class_name",
    "description",
    "category",
    "name",
    "difficulty_level",
    "expected_duration_seconds",
    "specific_params",
    "tags",
    "version",
    "created_at",
    "external_id",
    "scenario_instance_id",
    "author",
    "updated_by",
    "content_hash",
    "behaviour_hash",
    "parent_scenario_id",
    "related_scenario_ids",
    "originating_weak_spot_ids",
    "origin",
    "archived_at",
)


def values_of(stored: StoredScenario) -> list[Any]:
    """Return the values of the columns `WRITTEN`."""
    found = stored.definition
    known = found.scenario_definition_id
    values: dict[str, Any] = {
        **{name: found[name] for name in _SAME},
        "scenario_id": stored.key,
        "external_id": None if is_key(known) else known,
        "specific_params": Jsonb(found.specific_params),
        "tags": list(found.tags),
        "related_scenario_ids": list(found.related_scenario_ids),
        "created_at": found.created_at,
        "updated_by": stored.updated_by,
        "content_hash": stored.content_hash,
        "behaviour_hash": stored.behaviour_hash,
        "parent_scenario_id": stored.parent,
        "originating_weak_spot_ids": list(stored.weak_spot_ids),
        "origin": Jsonb(dict(stored.origin)),
        "archived_at": stored.archived_at,
    }
    return [values[column] for column in WRITTEN]


def stored_of(row: Mapping[str, Any]) -> StoredScenario:
    """Return the scenario of a row. Raises ScenarioInvalid for one that others wrote and that is no definition."""
    definition = ScenarioDefinition.read(
        {
            **{name: row[name] if row[name] is not None else _UNSET.get(name) for name in _SAME},
            "scenario_definition_id": row["external_id"] or str(row["scenario_id"]),
            "specific_params_json": parameters_text(row["specific_params"] or {}),
            "tags": row["tags"],
            "related_scenario_ids": row["related_scenario_ids"],
            "creation_timestamp_utc": _utc(row["created_at"]),
        }
    )
    return StoredScenario(
        row["scenario_id"],
        definition,
        row["content_hash"] or content_hash(definition),
        row["behaviour_hash"] or "",
        row["parent_scenario_id"],
        row["origin"],
        tuple(row["originating_weak_spot_ids"]),
        _utc(row["updated_at"]),
        row["updated_by"],
        row["archived_at"] and _utc(row["archived_at"]),
    )


_SAME = (
    "scenario_class_module",
    "scenario_class_name",
    "scenario_instance_id",
    "name",
    "description",
    "category",
    "difficulty_level",
    "expected_duration_seconds",
    "version",
    "author",
)
_UNSET = {
    "scenario_class_module": "",
    "scenario_class_name": "",
    "description": "",
    "category": "",
    "difficulty_level": "MEDIUM",
}


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
