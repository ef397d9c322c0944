"""What a suggestion does to scenarios."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from uqueue_config.learning.scenario import ScenarioDefinition, parameters_text
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario, read_suggestion
from uqueue_worker.learning.errors import ScenarioInvalid
from uqueue_worker.learning.repository import tags
from uqueue_worker.learning.repository.content import built, normalised, storable
from uqueue_worker.learning.repository.stored import CraftingRun
from uqueue_worker.learning.scenarios import FamilyScenario, jittered, numeric_parameters
from uqueue_worker.learning.scenarios.ranges import places

PREFIX = "specific_params."


def suggestion_of(given: Any) -> ModifyScenario | CreateScenario:
    """Return a suggestion, given as one or as its message. Raises ScenarioInvalid."""
    if isinstance(given, ModifyScenario | CreateScenario):
        return given
    try:
        return read_suggestion(dict(given))
    except (TypeError, ValueError):
        raise ScenarioInvalid(reason="expected a suggestion to modify or to create a scenario") from None


def modified(current: ScenarioDefinition, suggestion: ModifyScenario, run: CraftingRun) -> ScenarioDefinition:
    """Return a scenario with its tag added and the parameters in question moved, by a seed that follows from both ids.

    A parameter moves around the suggested value where that lies within its limits; a feature's raw value in other
    units does not, and the parameter then moves around its present value, twice as far. Raises ScenarioInvalid for a
    path that is no number of this scenario's, or that a person must map first.
    """
    added = [suggestion.suggested_metadata_updates.tags.value]
    tagged = current.replace(tags=tags.joined(current.tags, added))
    asked = suggestion.suggested_modifications_for_specific_params
    if not asked:
        return tagged
    if suggestion.needs_mapping:
        raise ScenarioInvalid(reason="a modification names no parameter yet; replace heuristic_map(…) by its path")
    scenario = varying(current)
    for number, one in enumerate(asked):
        path = one.param_path.removeprefix(PREFIX)
        seed = _seed(suggestion.suggestion_id, run.seed, number)
        scenario = _around(scenario, path, one.value, seed, run.jitter_sigma)
    return tagged.replace(specific_params_json=parameters_text(storable(scenario.parameters.to_dict())))


def varying(definition: ScenarioDefinition) -> FamilyScenario:
    """Return the scenario whose parameters suggestions move. Raises ScenarioInvalid for a draft without a family."""
    scenario = built(normalised(definition))
    if not isinstance(scenario, FamilyScenario):
        raise ScenarioInvalid(reason="the scenario is a draft without a family, so it has no parameters to vary")
    return scenario


def created(suggestion: CreateScenario) -> ScenarioDefinition:
    """Return the draft that a suggestion describes: it names no family, and its parameters say what it is for."""
    basis = suggestion.basis_for_new_scenario
    return ScenarioDefinition.read(
        {
            "scenario_definition_id": basis.scenario_definition_id_suggestion,
            "name": basis.name,
            "description": basis.description,
            "category": basis.category,
            "tags": list(basis.tags),
            "specific_params_json": basis.specific_params_json_template,
            "author": basis.author,
        }
    )


def aim_of(suggestion: CreateScenario) -> dict[str, Any]:
    """Return what crafting is told: features_summary, target_class and sensor_type."""
    held = suggestion.basis_for_new_scenario.specific_params_json_template
    info = suggestion.original_weak_spot_info
    details = info.get("details") if isinstance(info.get("details"), Mapping) else {}
    features = held.get("alm_focus_features")
    label = held.get("target_class_to_boost") or _first(details, "true_label", "predicted_label")
    kind = held.get("target_sensor_type") or _tagged(suggestion.basis_for_new_scenario.tags, "type_")
    return {
        "features_summary": dict(features) if isinstance(features, Mapping) else {},
        "target_class": label if isinstance(label, str) else None,
        "sensor_type": kind if isinstance(kind, str) and kind != "any" else None,
    }


def with_basis(crafted: ScenarioDefinition, suggestion: CreateScenario) -> ScenarioDefinition:
    """Return what was crafted, under the id, name, category and tags that were suggested."""
    draft = created(suggestion)
    kept = ("scenario_definition_id", "name", "description", "category", "author")
    return crafted.replace(**{name: draft[name] for name in kept}, tags=tags.joined(draft.tags, crafted.tags))


def _around(scenario: FamilyScenario, path: str, value: Any, seed: int, sigma: float) -> FamilyScenario:
    found = numeric_parameters(scenario.parameters)
    if path not in found:
        raise ScenarioInvalid(
            reason=f"specific_params.{path[:200]}: no number of {type(scenario).__name__} that varies"
        )
    number = found[path]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    centred = is_number and number.low <= value <= number.high
    parameters = _with(scenario, path, value) if centred else scenario.parameters
    others = [place.name for place in places(parameters) if not f"{path}.".startswith(f"{place.name}.")]
    moved = jittered(parameters, seed=seed, sigma=sigma, fixed=others, focus=None if centred else path)
    return _rebuilt(scenario, moved.to_dict())


def _with(scenario: FamilyScenario, path: str, value: float) -> Any:
    values = scenario.parameters.to_dict()
    _assign(values, path.split("."), value)
    return type(scenario).read_parameters(values)


def _assign(holder: Any, parts: list[str], value: float) -> bool:
    """Put a value in its place; a key may hold dots itself (PM2.5)."""
    for count in range(len(parts), 0, -1):
        key: Any = int(parts[0]) if isinstance(holder, list) else ".".join(parts[:count])
        if isinstance(holder, dict) and key not in holder:
            continue
        if count == len(parts):
            holder[key] = value
            return True
        if isinstance(holder[key], dict | list) and _assign(holder[key], parts[count:], value):
            return True
    return False


def _rebuilt(scenario: FamilyScenario, values: dict[str, Any]) -> FamilyScenario:
    definition = scenario.to_definition().replace(specific_params_json=parameters_text(values))
    rebuilt = built(definition)
    if not isinstance(rebuilt, FamilyScenario):
        raise ScenarioInvalid(reason="the scenario is a draft without a family")
    return rebuilt


def _seed(suggestion_id: str, run_seed: int, number: int) -> int:
    told = f"{suggestion_id}/{run_seed}/{number}"
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big")


def _first(details: Any, *names: str) -> Any:
    return next((details[name] for name in names if details.get(name)), None)


def _tagged(given: tuple[str, ...], prefix: str) -> str | None:
    return next((tag.removeprefix(prefix) for tag in given if tag.startswith(prefix)), None)
