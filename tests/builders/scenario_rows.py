"""Definitions and suggestions for tests of the repositories."""

from __future__ import annotations

from typing import Any

from builders.learning_scenarios import a_scenario
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario


def a_definition(scenario_id: str = "corona-1", family: str = "CoronaDischarge", **changes: Any) -> dict[str, Any]:
    """Return the record of a scenario that can run, with the fields named changed."""
    return {**a_scenario(family, scenario_id).to_scenario_definition_dict(), **changes}


def a_modification(target: str, path: str, value: Any, number: int = 1) -> ModifyScenario:
    """Return an approved suggestion to move one parameter."""
    return ModifyScenario.model_validate(
        {
            **_common(number),
            "target_scenario_definition_id": target,
            "suggested_modifications_for_specific_params": [{"param_path": path, "value": value}],
            "suggested_metadata_updates": {"tags": {"value": f"alm_focus_ws{number}"}},
        }
    )


def a_creation(scenario_id: str = "alm_new_ws1", **template: Any) -> CreateScenario:
    """Return an approved suggestion to make a scenario."""
    basis = {
        "scenario_definition_id_suggestion": scenario_id,
        "name": "New for ws1",
        "description": "Aimed at a weak spot",
        "category": "ACTIVE_LEARNING_TARGETED",
        "tags": ["alm_generated", "sensor_U19_TFSGS", "type_VOCSensorArray"],
        "specific_params_json_template": template,
    }
    return CreateScenario.model_validate({**_common(1), "basis_for_new_scenario": basis})


def _common(number: int) -> dict[str, Any]:
    return {
        "suggestion_id": f"sugg_{number:012x}",
        "reason": "it is weak there",
        "priority": 0.7,
        "suggestion_confidence": 0.8,
        "originating_weak_spot_ids": [f"ws{number}"],
        "original_weak_spot_info": {"details": {"true_label": "CORONA"}},
        "state": "approved",
    }
