"""Feedback as strategies read it: plain dicts under the contract's names, whether it came as a model or a mapping."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uqueue_config.learning.feedback import REQUIRED, ModelPerformanceData
from uqueue_config.learning.normalise import normalise_class_metrics, normalise_feedback, normalise_sample

Fields = dict[str, Any]
_SAMPLE_SCORES = (
    "uncertainty_score",
    "epistemic_uncertainty_score",
    "aleatoric_uncertainty_score",
    "disagreement_score",
    "confidence_of_prediction",
)
_CLASS_SCORES = ("recall", "precision", "f1_score", "support")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """`sensors` is None where feedback has no metrics per sensor at all; `counted` is how many samples it is about."""

    uncertain: list[Fields]
    misclassified: list[Fields]
    classes: dict[str, Fields]
    sensors: dict[str, dict[str, Fields]] | None
    counted: int | None

    def of_sensor(self, sensor_id: str | None) -> tuple[list[Fields], list[Fields]]:
        """Return the uncertain and the misclassified samples; of one sensor, if one is named."""
        if sensor_id is None:
            return self.uncertain, self.misclassified
        return (
            [one for one in self.uncertain if one.get("sensor_id") == sensor_id],
            [one for one in self.misclassified if one.get("sensor_id") == sensor_id],
        )


def read_evidence(feedback: Any) -> Evidence | None:
    """Return what a strategy needs of feedback; None, with a warning in the log, for what is no feedback.

    Raises ValueError where the feedback says that the evaluation failed.
    """
    given = feedback.to_message() if isinstance(feedback, ModelPerformanceData) else feedback
    missing = [name for name in REQUIRED if not isinstance(given, Mapping) or given.get(name) is None]
    if missing:
        _LOG.warning("no weak spots: the feedback lacks %s", ", ".join(missing))
        return None
    found = normalise_feedback(given)
    try:
        return _evidence(found)
    except _Misshapen as problem:
        _LOG.warning("no weak spots: %s", problem)
        return None


def number(fields: Mapping[str, Any], name: str, missing: float = 0.0) -> float:
    """Return a score; `missing` where it is absent or None. Raises ValueError for NaN and what is no number."""
    value = fields.get(name)
    if value is None:
        return missing
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return float(value)


class _Misshapen(Exception):
    pass


def _evidence(found: Fields) -> Evidence:
    sensors = found.get("sensor_specific_metrics")
    n_samples = found.get("n_samples")
    return Evidence(
        uncertain=_samples(found, "uncertain_samples"),
        misclassified=_samples(found, "misclassified_samples"),
        classes=_classes(found["per_class_metrics"], "per_class_metrics"),
        sensors=None if sensors is None else _sensors(sensors),
        counted=n_samples if isinstance(n_samples, int) else None,
    )


def _samples(found: Fields, name: str) -> list[Fields]:
    samples = found[name]
    if not isinstance(samples, list | tuple) or not all(isinstance(one, Mapping) for one in samples):
        raise _Misshapen(f"{name}: expected a list of samples")
    return [_finite(normalise_sample(one), _SAMPLE_SCORES) for one in samples]


def _classes(metrics: Any, path: str) -> dict[str, Fields]:
    if not isinstance(metrics, Mapping) or not all(isinstance(one, Mapping) for one in metrics.values()):
        raise _Misshapen(f"{path}: expected metrics per class")
    return {str(name): _finite(normalise_class_metrics(one), _CLASS_SCORES) for name, one in metrics.items()}


def _finite(fields: Fields, names: tuple[str, ...]) -> Fields:
    """Return the fields if every score among them is a finite number or None, used by a formula or not."""
    for name in names:
        number(fields, name)
    return fields


def _sensors(metrics: Any) -> dict[str, dict[str, Fields]]:
    if not isinstance(metrics, Mapping) or not all(isinstance(one, Mapping) for one in metrics.values()):
        raise _Misshapen("sensor_specific_metrics: expected metrics per sensor")
    return {
        str(sensor): _classes(one.get("per_class_metrics") or {}, f"sensor_specific_metrics.{sensor}")
        for sensor, one in metrics.items()
    }
