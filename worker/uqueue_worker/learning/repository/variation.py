"""Variations of a scenario: a pure function of the scenario, what is asked for, and the run's seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from uqueue_config.learning.scenario import ScenarioDefinition, now_ms, parameters_text
from uqueue_worker.learning.errors import ScenarioInvalid
from uqueue_worker.learning.repository import tags
from uqueue_worker.learning.repository.changes import FOCUS_FEATURE, Modifications
from uqueue_worker.learning.repository.content import behaviour_of, built, checked, normalised, storable
from uqueue_worker.learning.repository.stored import CraftingRun
from uqueue_worker.learning.scenarios import FamilyScenario, jitter_seed, jittered, numeric_parameters

#: From the path of a feature and a scenario to the dotted path of the parameter that moves it; None if none is known.
FocusParameter = Callable[[str, FamilyScenario], str | None]
_NAME_CHARACTERS = 500


def varied(
    base: ScenarioDefinition,
    suffix: str,
    changes: Modifications,
    sensor_type: str | None,
    run: CraftingRun,
    focus_parameter: FocusParameter | None = None,
) -> ScenarioDefinition | None:
    """Return a variation, still with the base's id, or None if it would behave like its base.

    Parameters that are set explicitly keep their values, all others are jittered; what the feature in focus depends
    on moves twice as far. Raises ScenarioInvalid, ScenarioParameterError and UnknownScenarioClass.
    """
    if not isinstance(suffix, str) or not suffix or "\x00" in suffix:
        raise ScenarioInvalid(reason="new_id_suffix: expected text that is not empty")
    plain = normalised(base)
    name = f"{base.name[: max(_NAME_CHARACTERS - len(suffix), 1)]}{suffix}"[:_NAME_CHARACTERS]
    start = plain.replace(name=name, version=1, creation_timestamp_utc=now_ms(), related_scenario_ids=())
    wanted = changes.applied_to(start)
    related = tags.joined([base.scenario_definition_id], wanted.related_scenario_ids)
    wanted = wanted.replace(tags=_tags(wanted.tags, changes, sensor_type), related_scenario_ids=related)
    moved = checked(_moved(wanted, _seed(base, suffix, changes, run), changes, run.jitter_sigma, focus_parameter))
    return None if behaviour_of(moved) == behaviour_of(plain) else normalised(moved)


def sensor_type_of(context: Mapping[str, Any] | None) -> str | None:
    """Return the type that a sensor context names. Raises ScenarioInvalid for what is no such context."""
    if context is None:
        return None
    found = context.get("sensor_type") if isinstance(context, Mapping) else 0
    if found is not None and not isinstance(found, str):
        raise ScenarioInvalid(reason="sensor_context: expected a mapping with sensor_id and sensor_type")
    return found or None


def _tags(given: tuple[str, ...], changes: Modifications, sensor_type: str | None) -> list[str]:
    sensor = [tags.sensor_tag(sensor_type)] if sensor_type else []
    focus = [tags.focus_tag(spot)[:_NAME_CHARACTERS] for spot in changes.weak_spot_ids]
    return tags.joined(tags.without_focus(given), [tags.GENERATED], sensor, focus)


def _moved(
    wanted: ScenarioDefinition,
    seed: int,
    changes: Modifications,
    sigma: float,
    focus_parameter: FocusParameter | None,
) -> ScenarioDefinition:
    scenario = built(wanted)
    if not isinstance(scenario, FamilyScenario):
        return wanted  # nothing says which parameters may move, and how far
    focus = _focus(changes.provenance.get(FOCUS_FEATURE), scenario, focus_parameter)
    moved = jittered(scenario.parameters, seed=seed, sigma=sigma, fixed=changes.explicit(), focus=focus)
    return wanted.replace(specific_params_json=parameters_text(storable(moved.to_dict())))


def _focus(feature: str | None, scenario: FamilyScenario, focus_parameter: FocusParameter | None) -> str | None:
    if feature is None or feature in numeric_parameters(scenario.parameters):
        return feature
    return focus_parameter(feature, scenario) if focus_parameter else None


def _seed(base: ScenarioDefinition, suffix: str, changes: Modifications, run: CraftingRun) -> int:
    """Return a seed that another base, suffix, spot, cycle or run changes, and a repetition does not."""
    spot = changes.weak_spot_ids[0] if changes.weak_spot_ids else suffix
    told = parameters_text({"base": [base.scenario_definition_id, base.version], "suffix": suffix, "index": run.index})
    index = int.from_bytes(hashlib.sha256(told.encode()).digest()[:6], "big")
    return jitter_seed(run.seed, run.cycle or 0, spot, index)
