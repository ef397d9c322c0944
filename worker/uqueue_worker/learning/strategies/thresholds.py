"""What the three strategies with thresholds share: who is asked in which order, and which class metrics count."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from uqueue_config.learning.spots import LOW_RECALL, MISCLASSIFIED, UNCERTAIN, WeakSpot
from uqueue_worker.learning.interfaces import Feedback, PrioritizationStrategyInterface
from uqueue_worker.learning.sensors import sensor_type_of
from uqueue_worker.learning.strategies.checks import share
from uqueue_worker.learning.strategies.evidence import Evidence, Fields, number, read_evidence
from uqueue_worker.learning.strategies.spot import Source, best_of_each, class_spot, clip, sample_spot

ClassEntry = tuple[str, Fields, str | None]


class ThresholdStrategy(PrioritizationStrategyInterface):
    """Uncertain samples and classes count from a threshold on; misclassified samples always."""

    prefix: ClassVar[str]

    def __init__(self, low_recall_threshold: float, sensor_id_to_type_map: Mapping[str, str] | None) -> None:
        self.low_recall_threshold = share("low_recall_threshold", low_recall_threshold)
        self.sensor_id_to_type_map = sensor_id_to_type_map

    def identify_weaknesses(
        self, model_performance_data: Feedback, target_sensor_id: str | None = None
    ) -> list[WeakSpot]:
        evidence = read_evidence(model_performance_data)
        if evidence is None:
            return []
        return self._capped(best_of_each(self._spots(evidence, target_sensor_id)))

    def calculate_priority(
        self,
        sample_info: Mapping[str, Any] | None = None,
        class_metrics_info: Mapping[str, Any] | None = None,
        weakness_type: str | None = None,
        sensor_type: str | None = None,
    ) -> float:
        if weakness_type == UNCERTAIN and sample_info is not None:
            return clip(self._of_uncertain(sample_info) * self._weight(sample_info, "sensor_id", sensor_type))
        if weakness_type == MISCLASSIFIED and sample_info is not None:
            return clip(self._of_misclassified(sample_info) * self._weight(sample_info, "sensor_id", sensor_type))
        if weakness_type == LOW_RECALL and class_metrics_info is not None:
            scope = self._weight(class_metrics_info, "sensor_id_scope", sensor_type)
            return clip(self._of_class(class_metrics_info) * scope)
        return 0.0

    @abstractmethod
    def _qualifies(self, sample: Fields) -> bool:
        """Tell whether an uncertain sample counts."""

    @abstractmethod
    def _of_uncertain(self, sample: Mapping[str, Any]) -> float:
        """Return the priority of an uncertain sample, not clipped and without the sensor's weight."""

    @abstractmethod
    def _of_misclassified(self, sample: Mapping[str, Any]) -> float:
        """Return the priority of a misclassified sample, likewise."""

    @abstractmethod
    def _capped(self, spots: list[WeakSpot]) -> list[WeakSpot]:
        """Return the spots that are not too many."""

    def _of_class(self, metrics: Mapping[str, Any]) -> float:
        return 1 - number(metrics, "recall", missing=1.0)

    def _weight(self, fields: Mapping[str, Any], sensor: str, sensor_type: str | None) -> float:
        """Return the weight of a sensor's type; `sensor` names the field that holds the sensor's id."""
        return 1.0

    def _source(self, sample: Mapping[str, Any]) -> Source:
        return None

    def _class_entries(self, evidence: Evidence, target_sensor_id: str | None) -> list[ClassEntry]:
        """Return (class, metrics, sensor or None) of the class metrics that count."""
        if target_sensor_id is None or evidence.sensors is None:
            return [(name, metrics, None) for name, metrics in evidence.classes.items()]
        of_sensor = evidence.sensors.get(target_sensor_id, {})
        return [(name, metrics, target_sensor_id) for name, metrics in of_sensor.items()]

    def _spots(self, evidence: Evidence, target_sensor_id: str | None) -> Iterator[WeakSpot]:
        uncertain, misclassified = evidence.of_sensor(target_sensor_id)
        for sample in filter(self._qualifies, uncertain):
            yield sample_spot(
                self.prefix,
                UNCERTAIN,
                sample,
                self.calculate_priority(sample_info=sample, weakness_type=UNCERTAIN),
                self._source(sample),
            )
        for sample in misclassified:
            priority = self.calculate_priority(sample_info=sample, weakness_type=MISCLASSIFIED)
            yield sample_spot(self.prefix, MISCLASSIFIED, sample, priority, self._source(sample))
        for name, metrics, sensor_id in self._class_entries(evidence, target_sensor_id):
            if metrics.get("support") != 0 and number(metrics, "recall", missing=1.0) < self.low_recall_threshold:
                yield self._class_spot(name, metrics, sensor_id)

    def _class_spot(self, name: str, metrics: Fields, sensor_id: str | None) -> WeakSpot:
        priority = self.calculate_priority(
            class_metrics_info={**metrics, "class_name": name},
            weakness_type=LOW_RECALL,
            sensor_type=sensor_type_of(sensor_id, self.sensor_id_to_type_map),
        )
        return class_spot(self.prefix, name, metrics, priority, sensor_id)
