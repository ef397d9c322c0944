"""When two scenarios do the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from uqueue_config.learning.scenario import ScenarioDefinition, parameters_text


def behaviour_hash(definition: ScenarioDefinition | Mapping[str, Any]) -> str:
    """Return SHA-256, 64 hex digits, over a definition's family, parameters and duration.

    Names, tags and versions do not count, and 1 and 1.0 are the same. Parameters count as they stand in the record:
    a default that is written down differs from one that is left out, so compare what scenarios themselves wrote
    (`to_definition`). Raises ScenarioInvalid for a mapping that is no definition.
    """
    told = definition if isinstance(definition, ScenarioDefinition) else ScenarioDefinition.read(definition)
    counted = {
        "family": [told.scenario_class_module, told.scenario_class_name],
        "parameters": _plain(told.specific_params),
        "duration_seconds": _plain(told.expected_duration_seconds),
    }
    return hashlib.sha256(parameters_text(counted).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return the value with whole numbers as integers, however they were written."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
