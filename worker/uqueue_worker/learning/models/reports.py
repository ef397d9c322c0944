"""Explanations in the words of feedback."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.explain import Importances
from uqueue_worker.learning.models.features import FeatureSpec
from uqueue_worker.learning.models.sample_table import sensor_of

Fields = dict[str, Any]


def feature_summaries(
    importances: Importances,
    values: FloatArray,
    spec: FeatureSpec,
    targets: Sequence[str],
    top_n: int,
    *,
    all_raw_values: bool = False,
) -> list[Fields]:
    """Return a `sample_features_summary` of each row; raw values are what the samples have, None where missing."""
    found = []
    for row, target in enumerate(targets):
        summary: Fields = {"method": importances.method, "target_class_for_explanation": target, "top_n_features": []}
        if importances.scores is not None:
            scores = importances.scores[row]
            best = sorted(range(len(spec.names)), key=lambda column: -abs(scores[column]))[:top_n]
            summary["top_n_features"] = [
                {
                    "feature_path": spec.names[column],
                    "importance_score": float(scores[column]),
                    "raw_value": _raw(values[row, column]),
                }
                for column in best
            ]
        if all_raw_values:
            summary["all_raw_values"] = {name: _raw(values[row, column]) for column, name in enumerate(spec.names)}
        found.append(summary)
    return found


def main_sensors(importances: Importances, spec: FeatureSpec) -> list[str | None]:
    """Return the sensor of each row whose features matter most in sum; None where none of them matters at all."""
    if importances.scores is None:
        return []
    columns: dict[str, list[int]] = {}
    for column, path in enumerate(spec.paths):
        sensor = sensor_of(path)
        if sensor is not None:
            columns.setdefault(sensor, []).append(column)
    if not columns:
        return [None] * len(importances.scores)
    sensors = list(columns)
    sums = np.stack([np.abs(importances.scores[:, columns[sensor]]).sum(axis=1) for sensor in sensors], axis=1)
    return [sensors[best] if row[best] > 0 else None for row, best in zip(sums, sums.argmax(axis=1), strict=True)]


def _raw(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
