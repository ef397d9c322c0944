"""What a definition holds: checked by its family, in one form, and hashed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

from uqueue_config.learning.scenario import ScenarioDefinition, parameters_text
from uqueue_worker.learning.errors import ScenarioInvalid
from uqueue_worker.learning.repository import tags
from uqueue_worker.learning.scenarios import BaseScenario, FamilyScenario, behaviour_hash

#: Fields that a user sees and may change; the rest is the id, the version and the time of creation.
CONTENT_FIELDS = (
    "scenario_class_module",
    "scenario_class_name",
    "scenario_instance_id",
    "name",
    "description",
    "category",
    "tags",
    "difficulty_level",
    "expected_duration_seconds",
    "specific_params_json",
    "author",
    "related_scenario_ids",
)
_INDEXED_CHARACTERS = 500  # an index entry holds 2,700 bytes
_MAX_LEVELS = 32
_MAX_NUMBER = sys.float_info.max  # what JSON readers that have only floating point take


def definition_of(scenario: Any) -> ScenarioDefinition:
    """Return the definition of a definition, a mapping or a scenario. Raises ScenarioInvalid."""
    if isinstance(scenario, ScenarioDefinition):
        return scenario
    if isinstance(scenario, BaseScenario):
        return scenario.to_definition()
    if isinstance(scenario, Mapping):
        return ScenarioDefinition.read(scenario)
    raise ScenarioInvalid(reason=f"expected a definition, a mapping or a scenario, not {type(scenario).__name__}")


def checked(definition: ScenarioDefinition) -> ScenarioDefinition:
    """Return a definition as it is stored: its family knows it, and its parameters are in one form.

    A definition that names no family at all is a draft, which a person or a crafter completes. Raises
    UnknownScenarioClass, ScenarioParameterError and ScenarioInvalid.
    """
    if len(definition.category) > _INDEXED_CHARACTERS:
        raise ScenarioInvalid(reason=f"category: expected at most {_INDEXED_CHARACTERS} characters")
    text = parameters_text(storable(definition.specific_params))
    stored = definition.replace(specific_params_json=text)
    family = built(stored)
    if isinstance(family, FamilyScenario) and not tags.names_a_class(stored.tags):
        stored = stored.replace(tags=tags.joined(stored.tags, [tags.class_tag(family.event_type)]))
    return stored


def built(definition: ScenarioDefinition) -> BaseScenario | None:
    """Return the scenario that a definition describes, or None for a draft. Raises as `checked`."""
    if not definition.scenario_class_module and not definition.scenario_class_name:
        return None
    runnable = definition.difficulty_level != "CUSTOM"
    told = definition if runnable else definition.replace(difficulty_level="MEDIUM")
    return BaseScenario.from_scenario_definition_dict(told)


def normalised(definition: ScenarioDefinition) -> ScenarioDefinition:
    """Return a definition with all parameters and the duration written out, as its family does."""
    scenario = built(definition)
    if scenario is None:
        return definition
    written = scenario.to_definition()
    return definition.replace(
        specific_params_json=parameters_text(storable(written.specific_params)),
        expected_duration_seconds=written.expected_duration_seconds,
    )


def behaviour_of(definition: ScenarioDefinition) -> str:
    """Return the hash that two definitions share if they do the same, whether or not defaults are written down."""
    return behaviour_hash(normalised(definition))


def content_hash(definition: ScenarioDefinition) -> str:
    """Return SHA-256, 64 hex digits, over the fields that a user sees; id, version and times do not count."""
    content = {name: definition[name] for name in CONTENT_FIELDS if name != "specific_params_json"}
    content["specific_params"] = definition.specific_params
    return hashlib.sha256(parameters_text(storable(content)).encode()).hexdigest()


def storable(value: Any, depth: int = 0) -> Any:
    """Return a copy of a JSON value as a database gives it back. Raises ScenarioInvalid for what none can hold."""
    if depth > _MAX_LEVELS:
        raise ScenarioInvalid(reason=f"specific_params: expected at most {_MAX_LEVELS} levels")
    if isinstance(value, Mapping):
        return {_text(name): storable(part, depth + 1) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [storable(part, depth + 1) for part in value]
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value)
    raise ScenarioInvalid(reason="specific_params: expected what JSON can carry")


def _number(value: float) -> float:
    """Return the number as decimal notation gives it back: 1e+16 comes as an integer, -0.0 as 0.0."""
    if value != value or abs(value) > _MAX_NUMBER:
        raise ScenarioInvalid(reason="specific_params: expected numbers that a double can hold")
    if isinstance(value, float) and value.is_integer():
        return int(value) if "e" in repr(value) else value + 0.0
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ScenarioInvalid(reason="specific_params: expected text without NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ScenarioInvalid(reason="specific_params: expected text that has a UTF-8 form") from None
    return value
