"""For sensors that answer at once (lightning, motion, sound): total uncertainty, and errors by their confidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.strategies.checks import cap, share
from uqueue_worker.learning.strategies.evidence import Fields, number
from uqueue_worker.learning.strategies.thresholds import ThresholdStrategy


class RealTimeStrategy(ThresholdStrategy):
    """uncertain: total; misclassified: base + 0.1 * confidence of the wrong prediction; class: 1 - recall."""

    prefix = "rt"

    def __init__(
        self,
        uncertainty_threshold: float = 0.7,
        misclassification_priority_base: float = 0.8,
        low_recall_threshold: float = 0.6,
        max_weaknesses: int | None = 100,
        sensor_id_to_type_map: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(low_recall_threshold, sensor_id_to_type_map)
        self.uncertainty_threshold = share("uncertainty_threshold", uncertainty_threshold)
        self.misclassification_priority_base = share("misclassification_priority_base", misclassification_priority_base)
        self.max_weaknesses = cap("max_weaknesses", max_weaknesses)

    def _qualifies(self, sample: Fields) -> bool:
        return number(sample, "uncertainty_score") >= self.uncertainty_threshold

    def _of_uncertain(self, sample: Mapping[str, Any]) -> float:
        return number(sample, "uncertainty_score")

    def _of_misclassified(self, sample: Mapping[str, Any]) -> float:
        return self.misclassification_priority_base + 0.1 * number(sample, "confidence_of_prediction")

    def _capped(self, spots: list[WeakSpot]) -> list[WeakSpot]:
        return spots[: self.max_weaknesses]
