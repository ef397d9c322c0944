"""Suggestions: what could be done about each weak spot, in a form that people and crafters read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from pydantic import ValidationError

from uqueue_config.learning.problems import problems_of
from uqueue_config.learning.spots import LOW_RECALL, UNCERTAIN, WeakSpot
from uqueue_config.learning.suggestions import UNRESOLVED, CreateScenario, ModifyScenario
from uqueue_worker.learning.crafting.families import ClassFamilies, Family
from uqueue_worker.learning.crafting.levers import levers_of
from uqueue_worker.learning.sensors import sensor_type_of
from uqueue_worker.learning.targeting.cycle import Cycle
from uqueue_worker.learning.targeting.finding import OF_SAMPLES, attempted
from uqueue_worker.learning.targeting.spots import Spot, class_of, details, features_summary, top_features

Suggestion = ModifyScenario | CreateScenario
_MODIFICATIONS = 2
_log = structlog.get_logger("uqueue.learning.manager")


class Suggester:
    """Makes one suggestion of each weak spot. A `repository` says of which family an existing scenario is; without one
    its class, or else the type of its sensor, does. Ids follow from run, cycle and spot."""

    def __init__(
        self,
        sensor_types: Mapping[str, str],
        families: ClassFamilies | None = None,
        repository: Any = None,
        cycle: Cycle | None = None,
    ) -> None:
        self._sensor_types = sensor_types
        self._families = families or ClassFamilies()
        self._repository = repository
        self._cycle = cycle or Cycle()

    def suggest(self, spots: Sequence[Spot]) -> list[Suggestion]:
        """Return suggestions in the order of the spots; spots of unknown types are logged and left out.

        Raises RepositoryUnavailable and CircuitOpen.
        """
        found = (self._of(spot, place) for place, spot in enumerate(spots))
        return [one for one in found if one is not None]

    def _of(self, spot: Spot, place: int) -> Suggestion | None:
        if spot.get("type") not in (*OF_SAMPLES, LOW_RECALL):
            _log.warning("no suggestion for this type of weak spot", weakness_id=spot.get("weakness_id"))
            return None
        common = self._common(spot, place)
        original = details(spot).get("original_scenario_id")
        try:
            if spot["type"] == LOW_RECALL:
                return CreateScenario.model_validate({**common, "basis_for_new_scenario": self._boost(spot)})
            if original:
                return ModifyScenario.model_validate({**common, **self._modification(spot, original)})
            return CreateScenario.model_validate({**common, "basis_for_new_scenario": self._new(spot)})
        except ValidationError as error:
            _log.error("no suggestion", weakness_id=spot.get("weakness_id"), reason=problems_of(error)[:500])
            return None

    def _common(self, spot: Spot, place: int) -> dict[str, Any]:
        return {
            "suggestion_id": self._id(spot, place),
            "reason": _reason(spot),
            "priority": spot["priority"],
            "suggestion_confidence": _confidence(spot),
            "originating_weak_spot_ids": [spot["weakness_id"]],
            "original_weak_spot_info": spot.model_dump(mode="json") if isinstance(spot, WeakSpot) else dict(spot),
        }

    def _id(self, spot: Spot, place: int) -> str:
        parts = json.dumps([self._cycle.run_id, self._cycle.number, spot["weakness_id"], place])
        return f"sugg_{hashlib.sha256(parts.encode()).hexdigest()[:12]}"

    def _modification(self, spot: Spot, original: str) -> dict[str, Any]:
        features = top_features(features_summary(spot))[:_MODIFICATIONS]
        family = self._family(spot, original) if features else None
        tag = {"operation": "add_if_not_exists", "value": f"alm_focus_{spot['weakness_id']}"}
        return {
            "target_scenario_definition_id": original,
            "suggested_modifications_for_specific_params": _variations(features, family),
            "suggested_metadata_updates": {"tags": tag},
        }

    def _family(self, spot: Spot, original: str) -> Family | None:
        base = None
        if self._repository is not None:
            ask = self._repository.get_scenario_by_id
            base = attempted(lambda: ask(scenario_id=original), spot, "get_scenario_by_id")
        if isinstance(base, Mapping):
            return self._families.of_definition(base)
        return self._families.of_class(class_of(spot)) or self._families.of_sensor_type(self._sensor_type(spot))

    def _new(self, spot: Spot) -> dict[str, Any]:
        weakness, sensor, label = spot["weakness_id"], spot.get("sensor_id") or "any", class_of(spot)
        about = f" of class {label}" if label else ""
        return {
            "scenario_definition_id_suggestion": f"alm_new_{weakness}",
            "name": f"Scenario for weak spot {weakness}",
            "description": f"Samples{about} like the one behind weak spot {weakness}, whose scenario is not known.",
            "category": "ACTIVE_LEARNING_TARGETED",
            "tags": ["alm_generated", f"sensor_{sensor}", f"type_{self._sensor_type(spot) or 'any'}"],
            "specific_params_json_template": {"alm_focus_features": features_summary(spot) or {}},
        }

    def _boost(self, spot: Spot) -> dict[str, Any]:
        label, sensor = details(spot).get("class_name"), spot.get("sensor_id") or "any"
        sensor_type = self._sensor_type(spot)
        return {
            "scenario_definition_id_suggestion": f"alm_boost_{label}_{sensor}",
            "name": f"More samples of class {label}",
            "description": f"Samples of class {label}, which the model misses too often.",
            "category": "ACTIVE_LEARNING_CLASS_BOOST",
            "tags": ["alm_generated", f"sensor_{sensor}", f"class_{label}"],
            "specific_params_json_template": {"target_class_to_boost": label, "target_sensor_type": sensor_type},
        }

    def _sensor_type(self, spot: Spot) -> str | None:
        return sensor_type_of(spot.get("sensor_id"), self._sensor_types)


def _variations(features: Sequence[Mapping[str, Any]], family: Family | None) -> list[dict[str, Any]]:
    """Return a modification of each feature; one whose parameters are all taken by a more important one has none."""
    found: dict[str, dict[str, Any]] = {}
    for feature in features:
        path, value = feature["feature_path"], feature.get("raw_value")
        levers = levers_of(path, family) if family is not None else []
        names = [".".join(lever.parameter) for lever in levers] or [f"{UNRESOLVED}{path})"]
        name = next((name for name in names if name not in found), None)
        if name is not None:
            told = {"param_path": name, "operation": "vary_around_value", "value": value}
            found[name] = {**told, "comment": _comment(feature)}
    return list(found.values())


def _comment(feature: Mapping[str, Any]) -> str:
    importance = feature.get("importance_score")
    weight = "" if importance is None else f", of importance {importance:g},"
    return f"{feature['feature_path']}{weight} was {feature.get('raw_value')} in the weak sample"


def _reason(spot: Spot) -> str:
    told, label = details(spot), class_of(spot)
    if spot["type"] == LOW_RECALL:
        recall = told.get("recall")
        missed = "" if recall is None else f": its recall is {recall:g}"
        return f"The model misses class {told.get('class_name')}{missed}."
    sample = f"sample {spot['raw_sample_id']}" if spot.get("raw_sample_id") else "a sample"
    if spot["type"] == UNCERTAIN:
        return f"The model is uncertain about {sample}" + (f" of class {label}." if label else ".")
    true, predicted = told.get("true_label"), told.get("predicted_label")
    if true == predicted:  # an interval that misses, while its middle lies in the right class
        return f"The model's interval misses {sample} of class {true}."
    return f"The model takes {sample} of class {true} for {predicted}."


def _confidence(spot: Spot) -> float:
    epistemic = details(spot).get("epistemic_uncertainty_score") or 0.0
    confidence = spot["priority"] + (0.2 * epistemic if spot["type"] == UNCERTAIN else 0.0)
    confidence += 0.1 if features_summary(spot) is not None else 0.0
    return float(min(1.0, max(0.0, confidence)))
