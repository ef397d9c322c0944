"""For mixed sensors: as for rich ones, weighted by the type of sensor, with so many spots per sensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.sensors import sensor_type_of
from uqueue_worker.learning.strategies.checks import cap, weight, weights
from uqueue_worker.learning.strategies.evidence import Evidence
from uqueue_worker.learning.strategies.high_fidelity import HighFidelityStrategy
from uqueue_worker.learning.strategies.thresholds import ClassEntry


class HeterogeneousStrategy(HighFidelityStrategy):
    """Spots without a sensor count as one group of their own; every sensor's classes are looked at, too."""

    prefix = "ht"

    def __init__(
        self,
        epistemic_threshold: float = 0.4,
        disagreement_threshold: float = 0.3,
        low_recall_threshold: float = 0.75,
        epistemic_weight: float = 0.5,
        disagreement_weight: float = 0.3,
        misclassification_base_priority: float = 0.7,
        class_criticality_map: Mapping[str, float] | None = None,
        sensor_type_weights: Mapping[str, float] | None = None,
        default_sensor_weight: float = 1.0,
        max_weaknesses_per_sensor: int | None = 5,
        fallback_to_total: bool = False,
        sensor_id_to_type_map: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            epistemic_threshold,
            disagreement_threshold,
            low_recall_threshold,
            epistemic_weight,
            disagreement_weight,
            misclassification_base_priority,
            class_criticality_map,
            fallback_to_total=fallback_to_total,
            sensor_id_to_type_map=sensor_id_to_type_map,
        )
        self.sensor_type_weights = weights("sensor_type_weights", sensor_type_weights)
        self.default_sensor_weight = weight("default_sensor_weight", default_sensor_weight)
        self.max_weaknesses_per_sensor = cap("max_weaknesses_per_sensor", max_weaknesses_per_sensor)

    def _weight(self, fields: Mapping[str, Any], sensor: str, sensor_type: str | None) -> float:
        kind = sensor_type or sensor_type_of(fields.get(sensor), self.sensor_id_to_type_map)
        return self.default_sensor_weight if kind is None else self._weight_of(kind)

    def _weight_of(self, sensor_type: str) -> float:
        return self.sensor_type_weights.get(sensor_type, self.default_sensor_weight)

    def _class_entries(self, evidence: Evidence, target_sensor_id: str | None) -> list[ClassEntry]:
        everywhere: list[ClassEntry] = [(name, metrics, None) for name, metrics in evidence.classes.items()]
        of_sensors: list[ClassEntry] = [
            (name, metrics, sensor)
            for sensor, classes in (evidence.sensors or {}).items()
            if target_sensor_id in (None, sensor)
            for name, metrics in classes.items()
        ]
        return of_sensors if target_sensor_id is not None else everywhere + of_sensors

    def _capped(self, spots: list[WeakSpot]) -> list[WeakSpot]:
        limit = self.max_weaknesses_per_sensor
        taken: Counter[str | None] = Counter()
        kept = []
        for spot in spots:
            taken[spot.sensor_id] += 1
            if limit is None or taken[spot.sensor_id] <= limit:
                kept.append(spot)
        return kept
