"""Ids and tags of definitions that are about to be stored."""

from __future__ import annotations

from typing import Any

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.errors import ScenarioInvalid
from uqueue_worker.learning.repository import tags
from uqueue_worker.learning.repository.identity import is_key, key_of


def usable_id(scenario_id: Any) -> str:
    """Return an id in the form in which it is stored. Raises ScenarioInvalid for what is no id."""
    key = key_of(scenario_id)
    if key is None:
        raise ScenarioInvalid(reason="scenario_definition_id: expected 1 to 500 characters of text without NUL")
    return str(key) if is_key(scenario_id) else str(scenario_id)


def renamed(definition: ScenarioDefinition, scenario_id: str, own_instance: bool = False) -> ScenarioDefinition:
    """Return a definition under another id, which is its instance's, too, unless that has an id of its own."""
    changes = {"scenario_definition_id": scenario_id}
    return definition.replace(**changes if own_instance else {**changes, "scenario_instance_id": scenario_id})


def tagged(definition: ScenarioDefinition, label: str | None, sensor_type: str | None) -> ScenarioDefinition:
    """Return what was generated with the tags that it is found by; a class that it names already stays."""
    sensor = [tags.sensor_tag(sensor_type)] if sensor_type else []
    shown = [tags.class_tag(label)] if label and not tags.names_a_class(definition.tags) else []
    return definition.replace(tags=tags.joined(definition.tags, [tags.GENERATED], shown, sensor))


def focused(definition: ScenarioDefinition) -> tuple[str, ...]:
    """Return the weak spots that a definition's tags name."""
    return tuple(tags.focused(definition.tags))


def counts(value: Any) -> bool:
    """Say whether a value can be the number of a version."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31
