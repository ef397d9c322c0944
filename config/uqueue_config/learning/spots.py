"""Weak spots: where a model is weak, ranked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from uqueue_config.learning.record import Record
from uqueue_config.learning.values import Identifier, JsonValue, Score

WeaknessType = Literal["high_uncertainty_sample", "misclassified_region", "low_recall_class"]
UNCERTAIN: WeaknessType = "high_uncertainty_sample"
MISCLASSIFIED: WeaknessType = "misclassified_region"
LOW_RECALL: WeaknessType = "low_recall_class"


class WeakSpot(Record):
    """One weak spot, also a read-only mapping.

    weakness_id    the same over cycles, as long as the sample or class is
    sensor_id      None where the spot belongs to no single sensor
    raw_sample_id  None for classes
    details        samples: all that feedback said of the sample; classes: class_name and the metrics
    score_source   "total" where a total uncertainty stood in for the epistemic one that the model does not give
    """

    weakness_id: Identifier
    type: WeaknessType
    priority: Score
    sensor_id: str | None = None
    raw_sample_id: str | None = None
    details: dict[str, JsonValue] = Field(default_factory=dict)
    score_source: Literal["total"] | None = None
