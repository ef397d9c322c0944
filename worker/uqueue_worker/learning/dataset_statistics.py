"""What a data set holds, in figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


class _Column:
    """Count, mean, deviation and range of one number, taken in one by one (Welford)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, value: float) -> None:
        self.count += 1
        distance = value - self.mean
        self.mean += distance / self.count
        self._squares += distance * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def figures(self) -> dict[str, float]:
        deviation = math.sqrt(self._squares / self.count)
        return {"count": self.count, "mean": self.mean, "std": deviation, "min": self.low, "max": self.high}


def compute_dataset_statistics(dataset: Iterable[Mapping[str, Any]], label_key: str = "event_type") -> dict[str, Any]:
    """Return figures of raw or exported samples.

    n_samples, label_distribution and label_shares (by `label_key` in the labels or, failing that, in the sample; a
    sample without one counts as None), anomaly_share, scenarios (samples of each), time_range_seconds, sensors
    ({id: readings, missing_share}), values ({sensor.field: count, mean, std, min, max}; population deviation).
    """
    labels: Counter[str | None] = Counter()
    scenarios: Counter[str] = Counter()
    readings: Counter[str] = Counter()
    columns: dict[str, _Column] = {}
    times = _Column()
    count = anomalies = 0
    for sample in dataset:
        count += 1
        truth = sample.get("labels") or sample.get("ground_truth_labels") or {}
        label = _label(sample, truth, label_key)
        labels[None if label is None else str(label)] += 1
        scenarios[str(sample.get("scenario_id"))] += 1
        anomalies += bool(truth.get("is_anomaly"))
        times.add(float(sample.get("timestamp_scenario_seconds", sample.get("scenario_timestep_seconds", 0.0))))
        for sensor, reading in _readings(sample).items():
            readings[sensor] += reading is not None
            _add_values(columns, sensor, reading or {})
    return {
        "n_samples": count,
        "label_distribution": dict(labels),
        "label_shares": {label: number / count for label, number in labels.items()},
        "anomaly_share": anomalies / count if count else 0.0,
        "scenarios": dict(scenarios),
        "time_range_seconds": [times.low, times.high] if count else None,
        "sensors": {
            sensor: {"readings": number, "missing_share": 1 - number / count} for sensor, number in readings.items()
        },
        "values": {name: column.figures() for name, column in columns.items()},
    }


def _label(sample: Mapping[str, Any], truth: Mapping[str, Any], key: str) -> Any:
    details = truth.get("scenario_specific_details") or {}
    return next((holder[key] for holder in (truth, details, sample) if holder.get(key) is not None), None)


def _readings(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    container = sample.get("sensor_readings_map")
    readings: Mapping[str, Any] = container["readings"] if container else sample.get("sensor_readings") or {}
    return readings


def _add_values(columns: dict[str, _Column], sensor: str, reading: Mapping[str, Any]) -> None:
    for name, value in reading.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            columns.setdefault(f"{sensor}.{name}", _Column()).add(float(value))
