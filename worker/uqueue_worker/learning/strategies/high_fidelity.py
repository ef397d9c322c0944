"""For rich sensors (thermal, gas, particles, fields): what the model's members do not agree on, less what is noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.strategies.checks import cap, share, weight, weights
from uqueue_worker.learning.strategies.evidence import Fields, number
from uqueue_worker.learning.strategies.spot import Source
from uqueue_worker.learning.strategies.thresholds import ThresholdStrategy

_SPLIT = ("epistemic_uncertainty_score", "disagreement_score")


class HighFidelityStrategy(ThresholdStrategy):
    """uncertain: (epistemic * weight + disagreement * weight) * (1 - aleatoric / 2); misclassified: (base + 0.2 *
    epistemic) * criticality of the true class; class: (1 - recall) * its criticality.

    With `fallback_to_total`, total uncertainty stands in for the epistemic one of models that give no split.
    """

    prefix = "hf"

    def __init__(
        self,
        epistemic_threshold: float = 0.4,
        disagreement_threshold: float = 0.3,
        low_recall_threshold: float = 0.75,
        epistemic_weight: float = 0.5,
        disagreement_weight: float = 0.3,
        misclassification_base_priority: float = 0.7,
        class_criticality_map: Mapping[str, float] | None = None,
        max_weaknesses: int | None = 100,
        fallback_to_total: bool = False,
        sensor_id_to_type_map: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(low_recall_threshold, sensor_id_to_type_map)
        self.epistemic_threshold = share("epistemic_threshold", epistemic_threshold)
        self.disagreement_threshold = share("disagreement_threshold", disagreement_threshold)
        self.epistemic_weight = weight("epistemic_weight", epistemic_weight)
        self.disagreement_weight = weight("disagreement_weight", disagreement_weight)
        self.misclassification_base_priority = share("misclassification_base_priority", misclassification_base_priority)
        self.class_criticality_map = weights("class_criticality_map", class_criticality_map)
        self.max_weaknesses = cap("max_weaknesses", max_weaknesses)
        self.fallback_to_total = fallback_to_total

    def _qualifies(self, sample: Fields) -> bool:
        disagreement = number(sample, "disagreement_score")
        return self._epistemic(sample) >= self.epistemic_threshold or disagreement >= self.disagreement_threshold

    def _of_uncertain(self, sample: Mapping[str, Any]) -> float:
        epistemic = self._epistemic(sample) * self.epistemic_weight
        disagreement = number(sample, "disagreement_score") * self.disagreement_weight
        return (epistemic + disagreement) * (1 - 0.5 * number(sample, "aleatoric_uncertainty_score"))

    def _of_misclassified(self, sample: Mapping[str, Any]) -> float:
        base = self.misclassification_base_priority + 0.2 * self._epistemic(sample)
        return base * self._criticality(sample.get("true_label"))

    def _of_class(self, metrics: Mapping[str, Any]) -> float:
        return super()._of_class(metrics) * self._criticality(metrics.get("class_name"))

    def _criticality(self, class_name: str | None) -> float:
        return 1.0 if class_name is None else self.class_criticality_map.get(class_name, 1.0)

    def _epistemic(self, sample: Mapping[str, Any]) -> float:
        return number(sample, "uncertainty_score" if self._source(sample) else "epistemic_uncertainty_score")

    def _source(self, sample: Mapping[str, Any]) -> Source:
        split = any(sample.get(name) is not None for name in _SPLIT)
        has_total = sample.get("uncertainty_score") is not None
        return "total" if self.fallback_to_total and has_total and not split else None

    def _capped(self, spots: list[WeakSpot]) -> list[WeakSpot]:
        return spots[: self.max_weaknesses]
