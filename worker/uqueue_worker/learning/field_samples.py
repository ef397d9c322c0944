"""Labelled samples from the field: what the model makes of them, and the weak spots that are among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.spots import MISCLASSIFIED, WeakSpot
from uqueue_worker.learning.errors import DatasetFormat, EmptyDataset
from uqueue_worker.learning.interfaces import PrioritizationStrategyInterface
from uqueue_worker.learning.sensors import sensor_type_of

ORIGIN = "field"
#: So many are held, those of the highest priority.
MOST_FIELD_SPOTS = 1000
_NAMES = frozenset({"samples", "dataset", "model_version_tag"})


def read_field_data(feedback_data: Mapping[str, Any]) -> tuple[list[Any] | str, str | None]:
    """Return the labelled samples (a list, or the path of a file of them) and the version that saw them.

    `feedback_data` has `samples` or `dataset`, and perhaps `model_version_tag`. Raises EmptyDataset for no samples and
    DatasetFormat for anything else.
    """
    if not isinstance(feedback_data, Mapping) or len(feedback_data.keys() & {"samples", "dataset"}) != 1:
        raise _refused("expected a mapping with either samples or dataset")
    if unknown := sorted(str(name) for name in feedback_data.keys() - _NAMES):
        raise _refused(f"it has no {', '.join(unknown[:5])}")
    tag = feedback_data.get("model_version_tag")
    if tag is not None and not isinstance(tag, str):
        raise _refused("model_version_tag must be text")
    if "dataset" in feedback_data:
        path = feedback_data["dataset"]
        if not isinstance(path, str) or not path:
            raise _refused("dataset must be the path of a file")
        return path, tag
    samples = feedback_data["samples"]
    if not isinstance(samples, list | tuple):
        raise _refused("samples must be a list")
    if not samples:
        raise EmptyDataset(dataset="field feedback")
    return list(samples), tag


def _refused(reason: str) -> DatasetFormat:
    return DatasetFormat(dataset="field feedback", reason=reason)


def field_spots(
    feedback: ModelPerformanceData, strategy: PrioritizationStrategyInterface | None, sensor_types: Mapping[str, str]
) -> list[WeakSpot]:
    """Return the misclassified samples as weak spots of origin `field`, the highest priority first.

    The strategy's formula gives the priority; without a strategy the confidence of the wrong prediction does.
    """
    found = []
    for sample in feedback.misclassified_samples:
        told = sample.to_message()
        priority = sample.confidence_of_prediction or 0.0
        if strategy is not None:
            priority = strategy.calculate_priority(
                sample_info=told,
                weakness_type=MISCLASSIFIED,
                sensor_type=sensor_type_of(sample.sensor_id, sensor_types),
            )
        details = {name: value for name, value in told.items() if name not in ("raw_sample_id", "sensor_id")}
        found.append(
            WeakSpot(
                weakness_id=f"{ORIGIN}_misc_{sample.raw_sample_id}"[:500],
                type=MISCLASSIFIED,
                priority=min(1.0, max(0.0, priority)),
                sensor_id=sample.sensor_id,
                raw_sample_id=sample.raw_sample_id,
                details={**details, "origin": ORIGIN},
            )
        )
    return sorted(found, key=lambda spot: -spot.priority)
