"""The default strategy: the samples that weigh most, in regions, so that the budget is spread over all of them.

Errors and disagreement make a sample weigh much, noise makes it weigh less. The heaviest quarter is split by k-means
into regions of the scenarios' parameters, per true class; a region's priority is its share of the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from uqueue_config.learning.spots import LOW_RECALL, MISCLASSIFIED, UNCERTAIN, WeakSpot
from uqueue_worker.learning.interfaces import Feedback, PrioritizationStrategyInterface
from uqueue_worker.learning.sensors import sensor_type_of
from uqueue_worker.learning.strategies.checks import at_least_one, cap, share, weights
from uqueue_worker.learning.strategies.evidence import Evidence, number, read_evidence
from uqueue_worker.learning.strategies.region_clusters import Cluster, clusters
from uqueue_worker.learning.strategies.region_scores import Scored, heaviest, is_wrong, merged, scored, unscaled
from uqueue_worker.learning.strategies.region_space import positions
from uqueue_worker.learning.strategies.spot import class_spot, clip, sample_spot

_MOST_WEIGHT = 1.5
Limits = Mapping[str, tuple[float, float]]
ParametersOf = Callable[[str], Mapping[str, Any] | None]


class RegionDiversifiedStrategy(PrioritizationStrategyInterface):
    """parameters_of     from a scenario's id to its parameters; samples may carry `scenario_parameters` instead
    parameter_limits  (low, high) per parameter, which become 0 and 1; otherwise those found in the feedback do

    Numbers in parameters are taken by path (`location[0]`), anything else in them is left out. Where some sample that
    is kept has no parameters, the numbers of its explanation are used for all, standardised.
    """

    prefix = "rg"

    def __init__(
        self,
        keep_quantile: float = 0.75,
        n_regions: int = 12,
        min_support: int = 5,
        low_recall_threshold: float = 0.75,
        class_criticality_map: Mapping[str, float] | None = None,
        sensor_type_weights: Mapping[str, float] | None = None,
        max_weaknesses: int | None = None,
        seed: int = 0,
        parameters_of: ParametersOf | None = None,
        parameter_limits: Limits | None = None,
        sensor_id_to_type_map: Mapping[str, str] | None = None,
    ) -> None:
        self.keep_quantile = share("keep_quantile", keep_quantile)
        if self.keep_quantile == 1:
            raise ValueError("keep_quantile: expected a number below 1; at 1 nothing would be kept")
        self.n_regions = at_least_one("n_regions", n_regions)
        self.min_support = at_least_one("min_support", min_support)
        self.low_recall_threshold = share("low_recall_threshold", low_recall_threshold)
        self.class_criticality_map = weights("class_criticality_map", class_criticality_map)
        self.sensor_type_weights = weights("sensor_type_weights", sensor_type_weights)
        self.max_weaknesses = cap("max_weaknesses", max_weaknesses)
        self.seed = seed
        self.parameters_of = parameters_of
        self.parameter_limits = parameter_limits
        self.sensor_id_to_type_map = sensor_id_to_type_map

    def identify_weaknesses(
        self, model_performance_data: Feedback, target_sensor_id: str | None = None
    ) -> list[WeakSpot]:
        evidence = read_evidence(model_performance_data)
        if evidence is None:
            return []
        spots = [*self._region_spots(evidence, target_sensor_id), *self._class_spots(evidence, target_sensor_id)]
        return sorted(spots, key=lambda spot: -spot.priority)[: self.max_weaknesses]

    def calculate_priority(
        self,
        sample_info: Mapping[str, Any] | None = None,
        class_metrics_info: Mapping[str, Any] | None = None,
        weakness_type: str | None = None,
        sensor_type: str | None = None,
    ) -> float:
        """Return s / 1.5 of one sample, in which the largest epistemic uncertainty counts as 1, clipped."""
        if weakness_type in (UNCERTAIN, MISCLASSIFIED) and sample_info is not None:
            wrong = weakness_type == MISCLASSIFIED or is_wrong(sample_info)
            return clip(unscaled(sample_info, wrong, 1.0) * self._weight(sample_info, sensor_type) / _MOST_WEIGHT)
        if weakness_type == LOW_RECALL and class_metrics_info is not None:
            missed = 1 - number(class_metrics_info, "recall", missing=1.0)
            return clip(missed * self.class_criticality_map.get(class_metrics_info.get("class_name") or "", 1.0))
        return 0.0

    def _weight(self, sample: Mapping[str, Any], sensor_type: str | None = None) -> float:
        kind = sensor_type or sensor_type_of(sample.get("sensor_id"), self.sensor_id_to_type_map)
        of_sensor = 1.0 if kind is None else self.sensor_type_weights.get(kind, 1.0)
        return of_sensor * self.class_criticality_map.get(sample.get("true_label") or "", 1.0)

    def _region_spots(self, evidence: Evidence, target_sensor_id: str | None) -> list[WeakSpot]:
        samples = scored(merged(*evidence.of_sensor(target_sensor_id)), self._weight)
        counted = evidence.counted if target_sensor_id is None else None
        kept = heaviest(samples, self.keep_quantile, counted)
        mass = sum(one.score for one in kept)
        if mass == 0:
            return []
        space = positions(kept, samples, self.parameters_of, self.parameter_limits)
        found = clusters(kept, space, self.n_regions, self.seed)
        largest = max(cluster.mass for cluster in found)
        return [self._spot(cluster, cluster.mass / largest) for cluster in found]

    def _spot(self, cluster: Cluster, priority: float) -> WeakSpot:
        medoid: Scored = cluster.medoid
        members = [{"raw_sample_id": one.sample.get("raw_sample_id"), "score": one.score} for one in cluster.members]
        more = {"members": members, "region": cluster.region, "medoid_position": cluster.medoid_position}
        kind = MISCLASSIFIED if any(one.wrong for one in cluster.members) else UNCERTAIN
        return sample_spot(self.prefix, kind, medoid.sample, priority, medoid.source, more)

    def _class_spots(self, evidence: Evidence, target_sensor_id: str | None) -> list[WeakSpot]:
        classes, sensor_id = evidence.classes, None
        if target_sensor_id is not None and evidence.sensors is not None:
            classes, sensor_id = evidence.sensors.get(target_sensor_id, {}), target_sensor_id
        spots = []
        for name, metrics in classes.items():
            enough = number(metrics, "support", missing=self.min_support) >= self.min_support
            if enough and number(metrics, "recall", missing=1.0) < self.low_recall_threshold:
                named = {**metrics, "class_name": name}
                priority = self.calculate_priority(class_metrics_info=named, weakness_type=LOW_RECALL)
                spots.append(class_spot(self.prefix, name, metrics, priority, sensor_id))
        return spots
